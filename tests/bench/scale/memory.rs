//! What flows take of memory: the kernel's, for the maps, and a worker's own.

use std::{
    env, fs,
    os::fd::{AsFd as _, AsRawFd as _},
    process,
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use aya::maps::MapData;
use lb_tests::{
    check_stopped,
    report::{Measured, Report},
};
use lb_userspace::datapath::{Datapath, Options, Pins};
use rustix::mm::{MlockAllFlags, mlockall};

use super::{
    curve::named,
    idle::{SERVERS, settle},
    site::{Plan, Site},
};
use crate::program::object;

/// The name by which this program fills an engine in a process of its own: see [`fill`].
pub const FILL: &str = "scale-fill";

const CAPACITIES: [u32; 4] = [1 << 16, 1 << 18, 1 << 20, 1 << 22];
const FLOWS: [u32; 3] = [1 << 16, 1 << 18, 1 << 20];
const MIB: f64 = 1024.0 * 1024.0;
/// The maps whose size follows the capacity.
const OF_FLOWS: [&str; 2] = ["flows_v4", "flow_records"];

/// Bytes, by how many flows there are or may be. They are counted, not timed: once is enough.
struct Line {
    name: &'static str,
    points: Vec<(u32, f64)>,
}

pub fn measure(report: &mut Report) -> Result<()> {
    Report::heading("MiB, by flows");
    let worker = worker();
    let maps = object().and_then(|_| maps());
    let mut lines: Vec<&Line> = maps.iter().flatten().collect();
    lines.extend(&worker);
    lines.iter().for_each(|line| line.report(report));
    Report::heading("MB that a million flows take");
    lines.iter().for_each(|line| line.report_slope(report));
    maps.context("the maps").and(worker.context("a worker").map(drop))
}

impl Line {
    fn report(&self, report: &mut Report) {
        let measured = |(flows, bytes): &(u32, f64)| {
            let case = format!("memory: {}, {}", self.name, named(*flows, "flow"));
            Measured { values: vec![bytes / MIB], ..Measured::new(case, "MiB") }
        };
        let points: Vec<_> = self.points.iter().map(measured).collect();
        points.iter().for_each(|point| report.add(point, &points[0]));
    }

    /// What each flow more takes, from the smallest to the largest.
    fn report_slope(&self, report: &mut Report) {
        let (Some(first), Some(last)) = (self.points.first(), self.points.last()) else { return };
        let slope = (last.1 - first.1) / f64::from(last.0 - first.0);
        let case = format!("memory of a million flows: {}", self.name);
        let measured = Measured { values: vec![slope], ..Measured::new(case, "MB") };
        report.add(&measured, &measured);
    }
}

/// What the kernel says that the maps take, by the capacity that is configured.
fn maps() -> Result<[Line; 2]> {
    let [mut all, mut of_flows] = ["all maps", "flow maps"].map(Line::new);
    for capacity in CAPACITIES {
        check_stopped()?;
        let sizes = map_sizes(capacity)?;
        let sum = |of: &dyn Fn(&str) -> bool| {
            sizes.iter().filter(|(name, _)| of(name)).map(|(_, bytes)| bytes).sum()
        };
        all.points.push((capacity, sum(&|_| true)));
        of_flows.points.push((capacity, sum(&|name| OF_FLOWS.contains(&name))));
    }
    Ok([all, of_flows])
}

fn map_sizes(flow_capacity: u32) -> Result<Vec<(String, f64)>> {
    let instance = format!("bench-memory-{}", process::id());
    let pins = Pins::new(&instance);
    let loaded = Datapath::load(&Options::new(instance, flow_capacity));
    let sizes = sizes_of_pinned(&pins);
    let removed = pins.remove();
    loaded?;
    let sizes = sizes?;
    removed?;
    ensure!(OF_FLOWS.iter().all(|map| sizes.iter().any(|(name, _)| name == map)), "no flow maps");
    Ok(sizes)
}

fn sizes_of_pinned(pins: &Pins) -> Result<Vec<(String, f64)>> {
    let mut sizes = Vec::new();
    for name in pins.names()? {
        let map = MapData::from_pin(pins.path(&name))?;
        let path = format!("/proc/self/fdinfo/{}", map.fd().as_fd().as_raw_fd());
        let bytes = number_after("memlock:", &fs::read_to_string(&path)?).context(path)?;
        sizes.push((name, bytes));
    }
    Ok(sizes)
}

/// What a worker keeps of its established flows beside the table, in a process of its own: here,
/// memory that other benchmarks gave back would be used again.
fn worker() -> Result<Line> {
    let mut line = Line::new("a worker's own");
    let output = Command::new(env::current_exe()?).arg(FILL).output()?;
    check_stopped()?;
    let (text, error) = (output.stdout, String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "{error}");
    for (flows, bytes) in FLOWS.into_iter().zip(String::from_utf8(text)?.lines()) {
        line.points.push((flows, bytes.parse()?));
    }
    ensure!(line.points.len() == FLOWS.len(), "not every number of flows was measured");
    Ok(line)
}

/// Prints, a line a number of flows, by how many bytes this process has grown.
pub fn fill() -> Result<()> {
    let most = FLOWS[FLOWS.len() - 1];
    let plan = Plan { flow_capacity: most * 2, servers: SERVERS, ..Plan::SMALL };
    let mut site = Site::new(&plan)?;
    // The table is all there before anything is counted, whichever of its pages flows touch.
    mlockall(MlockAllFlags::CURRENT).context("cannot lock the table into memory")?;
    let before = resident()?;
    for flows in FLOWS {
        site.establish(flows - site.shared.gauge.flows())?;
        settle(&mut site);
        println!("{}", resident()? - before);
    }
    Ok(())
}

/// Bytes of memory that are this process's own.
fn resident() -> Result<f64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let kibibytes = number_after("RssAnon:", &status).context("RssAnon in /proc/self/status")?;
    Ok(kibibytes * 1024.0)
}

fn number_after(label: &str, text: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(label))?;
    line.split_whitespace().next()?.parse().ok()
}

impl Line {
    fn new(name: &'static str) -> Self {
        Self { name, points: Vec::new() }
    }
}
