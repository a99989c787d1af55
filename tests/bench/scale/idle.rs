//! What flows cost that nobody uses: each worker's clock hand goes over its own again and again.

use std::time::Duration;

use anyhow::{Result, ensure};
use lb_tests::report::Report;

use super::{
    curve::{Curve, sizes, take_turns},
    site::{Plan, Site},
};
use crate::{program::processor_time, script::Net};

const FLOWS: [u32; 5] = [1 << 10, 1 << 14, 1 << 16, 1 << 18, 1 << 20];
/// As often as a worker with little to do looks at the time.
const TICK: Duration = Duration::from_millis(1);
/// A measurement: in this time the hand goes once over flows that are not established.
const TICKS: u32 = 250;
/// Toward so many servers that there are SNAT ports for all.
pub const SERVERS: u32 = 16;

pub fn measure(report: &mut Report) -> Result<()> {
    let plan = |flows: u32| Plan { flow_capacity: flows * 2, servers: SERVERS, ..Plan::SMALL };
    let sizes = sizes(&FLOWS, "flow");
    let established = Curve::new("idle: established", "% of a core", &sizes, |flows| {
        let mut site = Site::new(&plan(flows))?;
        site.establish(flows)?;
        settle(&mut site);
        Ok(site)
    })?;
    let one_way = Curve::new("idle: not answered", "% of a core", &sizes, |flows| {
        let mut site = Site::new(&plan(flows))?;
        site.begin(flows)?;
        Ok(site)
    })?;
    let mut curves = [established, one_way];
    take_turns(&mut curves, share)?;
    Report::heading("% of a core for flows that are idle");
    curves.iter().for_each(|curve| curve.report(report));
    Ok(())
}

/// Lets the hand find out which flows are established: each is then looked at less often.
pub fn settle(site: &mut Site) {
    for _ in 0..8 * TICKS {
        tick(site);
    }
}

/// The share of a core that its ticks take.
fn share(site: &mut Site) -> Result<f64> {
    let flows = site.shared.gauge.flows();
    let start = processor_time();
    (0..TICKS).for_each(|_| tick(site));
    let nanos = processor_time() - start;
    ensure!(site.shared.gauge.flows() == flows, "flows have ended meanwhile");
    Ok(100.0 * nanos / (TICK * TICKS).as_nanos() as f64)
}

fn tick(site: &mut Site) {
    site.now.monotonic += TICK;
    site.effects.clear();
    site.engine.tick(site.now, &Net, &mut site.effects);
}
