//! Real sockets through real balancers, everything on one core: short connections, requests over
//! standing connections, and much data over one, beside the kernel's plain forwarding.

mod client;
mod server;
mod site;

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context as _, Result};
use lb_tests::{
    mount_bpffs,
    report::{Measured, Report, quantile},
};
use lb_userspace::datapath::check_environment;

use self::site::{Site, WAYS};

const ROUNDS: usize = 15;
/// How long a load lasts, which is measured twice a round: less than a virtual core's speed stays
/// the same.
const TIME: Duration = Duration::from_millis(60);
/// What is sent over one connection.
const BULK: usize = 16 << 20;
/// Connections at once, where there are many.
const MANY: usize = 32;

/// What is measured of each way.
const METRICS: [(&str, &str, &str); 6] = [
    ("short", "short connections a second, 32 at once", "connections/s"),
    ("one, p50", "us a request over one connection, half of all", "us"),
    ("one, p99", "us a request over one connection, all but 1 %", "us"),
    ("32, p50", "us a request over 32 connections, half of all", "us"),
    ("32, p99", "us a request over 32 connections, all but 1 %", "us"),
    ("bulk", "Mbit/s over one connection", "Mbit/s"),
];

/// What one load says: a value for some of [`METRICS`], from a place on.
struct Load {
    first: usize,
    run: fn(&Site) -> Result<Vec<f64>>,
}

const LOADS: [Load; 4] = [
    Load { first: 0, run: short },
    Load { first: 1, run: |site| requests(site, 1) },
    Load { first: 3, run: |site| requests(site, MANY) },
    Load { first: 5, run: bulk },
];

/// A way to the servers, and what was measured of it, one a [`METRICS`].
struct Subject {
    site: Site,
    measured: Vec<Measured>,
    /// Of each round, what it is compared with: the control's value beside it.
    beside: Vec<Vec<f64>>,
}

/// Measures it.
pub fn measure() -> Result<()> {
    mount_bpffs()?;
    check_environment()?;
    let mut subjects = Vec::new();
    for way in &WAYS {
        match Subject::new(way) {
            Ok(subject) => subjects.push(subject),
            Err(error) => println!("left out: {}: {error:#}", way.name),
        }
    }
    let control = subjects.first().filter(|subject| subject.site.way.name == WAYS[0].name);
    control.context("what the others are compared with is missing")?;
    for _ in 0..ROUNDS {
        round(&mut subjects)?;
    }
    let mut report = Report::new("tcp");
    for (index, (_, title, _)) in METRICS.iter().enumerate() {
        Report::heading(title);
        for subject in &subjects {
            let (measured, control) = (&subject.measured[index], &subjects[0].measured[index]);
            let values = measured.values.iter().zip(&subject.beside[index]);
            let ratios: Vec<_> = values.map(|(value, control)| value / control).collect();
            report.add_ratios(measured, &control.case, &ratios);
        }
    }
    report.write()
}

/// Each load on each subject, between two measurements of the control.
fn round(subjects: &mut [Subject]) -> Result<()> {
    let Some((control, others)) = subjects.split_first_mut() else { return Ok(()) };
    for load in &LOADS {
        for subject in &mut *others {
            let before = control.run(load)?;
            let values = mean(&subject.run(load)?, &subject.run(load)?);
            let beside = mean(&before, &control.run(load)?);
            control.keep(load, &beside, &beside);
            subject.keep(load, &values, &beside);
        }
    }
    Ok(())
}

fn mean(one: &[f64], other: &[f64]) -> Vec<f64> {
    one.iter().zip(other).map(|(one, other)| f64::midpoint(*one, *other)).collect()
}

impl Subject {
    fn new(way: &'static site::Way) -> Result<Self> {
        let site = Site::new(way)?;
        let measured = METRICS
            .iter()
            .map(|(metric, _, unit)| Measured::new(format!("{metric}: {}", way.name), unit))
            .collect();
        Ok(Self { site, measured, beside: vec![Vec::new(); METRICS.len()] })
    }

    fn run(&self, load: &Load) -> Result<Vec<f64>> {
        (load.run)(&self.site).with_context(|| self.site.way.name.to_owned())
    }

    fn keep(&mut self, load: &Load, values: &[f64], beside: &[f64]) {
        for (index, (value, beside_it)) in values.iter().zip(beside).enumerate() {
            self.measured[load.first + index].values.push(*value);
            self.beside[load.first + index].push(*beside_it);
        }
    }
}

fn short(site: &Site) -> Result<Vec<f64>> {
    let web = SocketAddr::new(site.target, 80);
    Ok(vec![site.run(|| client::short(web, MANY, TIME))?])
}

/// The half and all but one in a hundred.
fn requests(site: &Site, connections: usize) -> Result<Vec<f64>> {
    let web = SocketAddr::new(site.target, 80);
    let nanos = site.run(|| client::requests(web, connections, TIME))?;
    Ok([0.5, 0.99].map(|share| quantile(&nanos, share) / 1e3).into())
}

fn bulk(site: &Site) -> Result<Vec<f64>> {
    let sink = SocketAddr::new(site.target, 81);
    let seconds = site.run(|| client::bulk(sink, BULK))?.as_secs_f64();
    Ok(vec![BULK as f64 * 8.0 / 1e6 / seconds])
}
