//! What a packet costs in the loaded program: hits over tables of many sizes, misses with many
//! virtual services.

use anyhow::{Context as _, Result};
use lb_common::address::Protocol;
use lb_tests::{
    check_stopped,
    report::{Measured, Report},
};

use super::{ROUNDS, curve::named};
use crate::program::{
    Case, DROP, PASS, controls, frame, hit, object,
    world::{FORWARD, Mode, VIP, Way, World},
};

/// Powers of four, up to 4 Mi flows.
const FLOWS: [u32; 12] = {
    let mut sizes = [1; 12];
    let mut index = 1;
    while index < sizes.len() {
        sizes[index] = sizes[index - 1] * 4;
        index += 1;
    }
    sizes
};
/// As many as the maps hold at most.
const SERVICES: [u32; 4] = [1, 1 << 6, 1 << 10, 1 << 14];
/// Fewer than all flows of the largest tables: the next measurement goes on with others. As many
/// slots as this do not stay in a cache.
const LEAST_RUNS: u32 = 1 << 18;

/// The way to the server and the way back of one table are a line each.
const TABLES: [(Mode, Protocol); 2] = [(Mode::Snat, Protocol::Tcp), (Mode::Dnat, Protocol::Udp)];

pub fn measure(report: &mut Report) -> Result<()> {
    let object = object()?;
    hits(report, &object)?;
    misses(report, &object)
}

fn hits(report: &mut Report, object: &[u8]) -> Result<()> {
    let mut worlds = Vec::new();
    for (mode, protocol) in TABLES {
        for flows in FLOWS {
            check_stopped()?;
            worlds.push(World::new(object, mode, protocol, flows)?);
        }
    }
    let mut cases = Vec::new();
    for table in 0..TABLES.len() {
        for way in Way::ALL {
            let of_table = (0..FLOWS.len()).map(|size| table * FLOWS.len() + size);
            cases.extend(of_table.map(|index| named_hit(index, &worlds[index], way)));
        }
    }
    let costs = costs(&mut worlds, cases)?;
    Report::heading("ns a packet that has a flow");
    for line in costs.chunks(FLOWS.len()) {
        line.iter().for_each(|cost| report.add(cost, &line[0]));
    }
    Ok(())
}

fn named_hit(index: usize, world: &World, way: Way) -> Case {
    let mut case = hit(index, world, way);
    let way = if way == Way::Reply { ", reply" } else { "" };
    let line = format!("hit: {}, {}{way}", world.protocol, world.mode);
    case.nanos.case = format!("{line}, {}", named(world.flows, "flow"));
    case
}

fn misses(report: &mut Report, object: &[u8]) -> Result<()> {
    let mut worlds = Vec::new();
    for services in SERVICES {
        check_stopped()?;
        worlds.push(World::of_services(object, services)?);
    }
    let lines = [("not ours", Way::Reply, PASS), ("to a virtual service", Way::Forward, DROP)];
    let mut cases = Vec::new();
    for (line, way, returns) in lines {
        for (world, services) in SERVICES.into_iter().enumerate() {
            let name = format!("miss: {line}, {}", named(services, "service"));
            // The benchmark's program stops where the product's would hand over to a worker.
            let case = Case::new(name, FORWARD, frame(Protocol::Tcp, VIP), returns);
            cases.push(Case { world, way, ..case });
        }
    }
    let costs = costs(&mut worlds, cases)?;
    Report::heading("ns a packet that has none");
    for line in costs.chunks(SERVICES.len()) {
        line.iter().for_each(|cost| report.add(cost, &line[0]));
    }
    Ok(())
}

/// Nanoseconds of each case in turn, round after round, less what making each packet another
/// flow's costs.
fn costs(worlds: &mut [World], cases: Vec<Case>) -> Result<Vec<Measured>> {
    let controls = controls();
    let count = controls.len();
    let mut all: Vec<_> = controls.into_iter().chain(cases).collect();
    for case in &mut all {
        check_stopped()?;
        case.calibrate(&mut worlds[case.world], LEAST_RUNS)?;
    }
    for _ in 0..ROUNDS {
        for case in &mut all {
            check_stopped()?;
            case.measure(&mut worlds[case.world])?;
        }
    }
    let (controls, cases) = all.split_at(count);
    let [transmit, _, vary] = controls else { None.context("there are three controls")? };
    let varying: Vec<_> = vary.nanos.values.iter().zip(&transmit.nanos.values).collect();
    let net = |case: &Case| {
        let values = case.nanos.values.iter().zip(&varying);
        let values = values.map(|(all, (vary, transmit))| all - (*vary - *transmit)).collect();
        Measured { values, ..case.nanos.clone() }
    };
    Ok(cases.iter().map(net).collect())
}
