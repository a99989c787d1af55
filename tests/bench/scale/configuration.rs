//! How long a reload takes: reading and checking, making what workers need, and the two steps that
//! packets may wait for, a worker's own and the maps.

use std::{collections::HashMap, process, sync::Arc};

use anyhow::{Context as _, Result};
use lb_common::{
    address::Address,
    service::{Roles, Service, ServiceKey},
};
use lb_tests::report::Report;
use lb_userspace::{
    config::Config,
    datapath::{AddressRoles, Datapath, Options, Pins, ServiceMap},
    engine::Generation,
};

use super::{
    curve::{Curve, sizes, take_turns},
    site::{Plan, Site, parse},
};
use crate::program::{self, processor_time};

const SIZES: [u32; 3] = [10, 1000, 10_000];
const UNIT: &str = "ms";

/// A step of a reload, ready to be done again and again.
enum Step {
    Read(String),
    Generation(Arc<Config>, Box<Site>),
    Worker(Arc<Generation>, Box<Site>),
    Maps(Box<Maps>),
}

/// The maps, and what they are to hold.
struct Maps {
    services: ServiceMap,
    addresses: AddressRoles,
    entries: Vec<(ServiceKey, Service)>,
    roles: HashMap<Address, Roles>,
}

pub fn measure(report: &mut Report) -> Result<()> {
    let services = |size| Plan { services: size, ..Plan::SMALL };
    let servers = |size| Plan { servers: size, ..Plan::SMALL };
    let hashed = |size| Plan { pool: "algorithm = \"consistent-hash\"", ..servers(size) };
    let mut curves = vec![
        curve("reload: reading", "service", |size| read(&services(size)))?,
        curve("reload: new generation", "service", |size| generation(&services(size)))?,
        curve("reload: a worker's part", "service", |size| worker(&services(size)))?,
        curve("reload: reading", "server", |size| read(&servers(size)))?,
        curve("reload: new generation", "server", |size| generation(&servers(size)))?,
        curve("reload: new generation, hashing", "server", |size| generation(&hashed(size)))?,
        curve("reload: a worker's part", "server", |size| worker(&servers(size)))?,
    ];
    // Needs root: the others are worth measuring without it.
    let maps = program::object().and_then(|_| {
        curve("reload: maps", "service", |size| {
            Ok(Step::Maps(Box::new(Maps::new(&services(size))?)))
        })
    });
    let missing = match maps {
        Ok(maps) => {
            curves.insert(3, maps);
            Ok(())
        }
        Err(error) => Err(error).context("the maps"),
    };
    take_turns(&mut curves, Step::take)?;
    Report::heading("ms a reload, by services and by servers");
    curves.iter().for_each(|curve| curve.report(report));
    missing
}

fn curve(line: &str, thing: &str, make: impl Fn(u32) -> Result<Step>) -> Result<Curve<Step>> {
    Curve::new(line, UNIT, &sizes(&SIZES, thing), make)
}

#[expect(clippy::unnecessary_wraps, reason = "as the others do")]
fn read(plan: &Plan<'_>) -> Result<Step> {
    Ok(Step::Read(plan.text()))
}

fn generation(plan: &Plan<'_>) -> Result<Step> {
    Ok(Step::Generation(Arc::new(plan.config()?), Box::new(Site::new(plan)?)))
}

fn worker(plan: &Plan<'_>) -> Result<Step> {
    let site = Site::new(plan)?;
    Ok(Step::Worker(Arc::clone(site.engine.generation()), Box::new(site)))
}

impl Step {
    /// Milliseconds of one reload.
    fn take(&mut self) -> Result<f64> {
        let start = processor_time();
        match self {
            Self::Read(text) => drop(parse(text, "")?),
            Self::Generation(config, site) => {
                drop(Generation::new(2, Arc::clone(config), &site.shared)?);
            }
            Self::Worker(generation, site) => site.engine.replace(Arc::clone(generation))?,
            Self::Maps(maps) => {
                maps.services.replace(&maps.entries)?;
                maps.addresses.replace(&maps.roles)?;
            }
        }
        Ok((processor_time() - start) / 1e6)
    }
}

impl Maps {
    fn new(plan: &Plan<'_>) -> Result<Self> {
        let options = Options::new(format!("bench-maps-{}", process::id()), 64);
        let datapath = Datapath::load(&options);
        // The maps live by their file descriptors.
        let removed = Pins::new(&options.instance).remove();
        let mut datapath = datapath?;
        removed?;
        let site = Site::new(plan)?;
        let generation = site.engine.generation();
        Ok(Self {
            services: datapath.take_services()?,
            addresses: datapath.take_addresses()?,
            entries: generation.service_entries(),
            roles: generation.address_roles().clone(),
        })
    }
}
