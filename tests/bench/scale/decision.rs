//! What an engine takes for a new flow, without sockets and without the kernel.

use std::time::Duration;

use anyhow::Result;
use lb_tests::report::Report;
use lb_userspace::config::{Algorithm, PoolIndex};

use super::{
    curve::{Curve, sizes, take_turns},
    site::{Plan, Site},
};
use crate::program::processor_time;

/// New flows a measurement, at most; fewer where so many would take long.
const FLOWS: u32 = 2000;
const LONG_NANOS: f64 = 15e6;
const AT_ONCE: u32 = 100;
const UNIT: &str = "us";
const SERVERS: [u32; 4] = [10, 100, 1000, 10_000];
const SERVICES: [u32; 4] = [1, 100, 1000, 10_000];
const SETS: [u32; 3] = [1, 4, 16];
const LOOKUP: &str = r#"avi.vs.table_lookup("pins", avi.vs.client_ip(), 0)"#;

pub fn measure(report: &mut Report) -> Result<()> {
    by_servers(report)?;
    by_services_and_sets(report)
}

/// Clients keep their addresses (`dnat`), lest the ports toward thousands of servers, which are
/// made when each gets its first flow, hide what finding a server costs. One line is with them.
fn by_servers(report: &mut Report) -> Result<()> {
    let mut curves = Vec::new();
    for (name, algorithm) in Algorithm::ALL {
        let line = format!("decision: {name}");
        curves.push(line_by_servers(&line, algorithm, "dnat", false)?);
    }
    let turns = Algorithm::RoundRobin;
    curves.push(line_by_servers("decision: round-robin, ratios", turns, "dnat", true)?);
    curves.push(line_by_servers("decision: round-robin, snat", turns, "snat", false)?);
    finish(report, "us a new flow, by servers in the pool", curves)
}

fn line_by_servers(
    line: &str,
    algorithm: Algorithm,
    forwarding: &str,
    ratios: bool,
) -> Result<Curve<Site>> {
    Curve::new(line, UNIT, &sizes(&SERVERS, "server"), |servers| {
        let mut pool =
            format!("algorithm = \"{}\"\nforwarding = \"{forwarding}\"", algorithm.name());
        if algorithm == Algorithm::FewestServers {
            // All flows fill half of the servers.
            let most = 2 * Plan::SMALL.flow_capacity / servers;
            pool += &format!("\nmax_concurrent_connections_per_server = {most}");
        }
        let mut site = Site::new(&Plan { servers, ratios, pool: &pool, ..Plan::SMALL })?;
        know_response_times(&site);
        site.begin(FLOWS / 4)?;
        Ok(site)
    })
}

/// As if monitors had asked every server.
fn know_response_times(site: &Site) {
    let generation = site.engine.generation();
    for (index, number) in generation.server_numbers()[PoolIndex(0).0].iter().enumerate() {
        let micros = 1000 + (index as u64 * 7919) % 1000;
        site.shared.servers.passed(*number, Duration::from_micros(micros));
    }
}

fn by_services_and_sets(report: &mut Report) -> Result<()> {
    let prepared = |plan: &Plan<'_>| {
        let mut site = Site::new(plan)?;
        site.begin(FLOWS / 4)?;
        Ok(site)
    };
    let services = Curve::new("decision: no script", UNIT, &sizes(&SERVICES, "service"), |size| {
        prepared(&Plan { services: size, ..Plan::SMALL })
    })?;
    let of_sets = |line: &str, script: &'static str| {
        Curve::new(line, UNIT, &sizes(&SETS, "script set"), |sets| {
            prepared(&Plan { sets, script, ..Plan::SMALL })
        })
    };
    let sets = [of_sets("decision: empty", "")?, of_sets("decision: table lookup", LOOKUP)?];
    finish(
        report,
        "us a new flow, by services and by script sets",
        [services].into_iter().chain(sets).collect(),
    )
}

fn finish(report: &mut Report, heading: &str, mut curves: Vec<Curve<Site>>) -> Result<()> {
    take_turns(&mut curves, micros)?;
    Report::heading(heading);
    curves.iter().for_each(|curve| curve.report(report));
    Ok(())
}

/// Of one new flow.
fn micros(site: &mut Site) -> Result<f64> {
    let start = processor_time();
    let mut flows = 0;
    while flows < FLOWS && processor_time() - start < LONG_NANOS {
        site.begin(AT_ONCE)?;
        flows += AT_ONCE;
    }
    Ok((processor_time() - start) / 1e3 / f64::from(flows))
}
