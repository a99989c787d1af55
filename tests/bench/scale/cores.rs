//! What several cores do at once: packets through one table, new flows into one table.

use std::{
    num::NonZero,
    sync::{Arc, Barrier},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, ensure};
use aya::programs::{TestRun as _, TestRunOptions, Xdp};
use lb_common::address::Protocol;
use lb_tests::report::Report;
use lb_userspace::engine::Position;

use super::{
    curve::{Curve, sizes, take_turns},
    site::{Plan, Site},
};
use crate::{
    cpu,
    program::{
        TX, frame, object,
        world::{CONTROLS, FORWARD, Mode, VIP, Way, World},
    },
    script::shared,
};

/// Runs a measurement and core.
const RUNS: u32 = 1 << 18;
/// New flows a measurement and core.
const FLOWS: u32 = 8000;

pub fn measure(report: &mut Report) -> Result<()> {
    let cores = numbers_of_cores()?;
    let flows = new_flows(report, &cores);
    packets(report, &cores).and(flows)
}

/// 1, 2, 4 and so on, as many as there are.
fn numbers_of_cores() -> Result<Vec<u32>> {
    let most = thread::available_parallelism().map_or(1, NonZero::get);
    ensure!(most > 1, "this machine has one core");
    let powers = (0..16).map(|power| 1 << power);
    Ok(powers.filter(|cores: &u32| *cores as usize <= most).collect())
}

/// A program that so many cores run at once.
struct Packets<'a> {
    program: &'a Xdp,
    cores: u32,
}

fn packets(report: &mut Report, cores: &[u32]) -> Result<()> {
    let object = object()?;
    let world = |flows| World::new(&object, Mode::Snat, Protocol::Tcp, flows);
    let (mut nothing, mut one, mut many) = (world(1)?, world(1)?, world(1 << 16)?);
    let (_, control) = CONTROLS[0];
    let programs = [
        ("packets: control", nothing.program(Way::Forward, control)?),
        ("packets: one flow", one.program(Way::Forward, FORWARD)?),
        ("packets: 64 Ki flows", many.program(Way::Forward, FORWARD)?),
    ];
    let mut curves = Vec::new();
    for (line, program) in programs {
        let program: &Xdp = program;
        curves.push(Curve::new(line, "packets/s", &sizes(cores, "core"), |cores| {
            Ok(Packets { program, cores })
        })?);
    }
    take_turns(&mut curves, |packets| packets.rate())?;
    Report::heading("packets a second, by cores");
    curves.iter().for_each(|curve| curve.report(report));
    Ok(())
}

impl Packets<'_> {
    fn rate(&self) -> Result<f64> {
        let frame = frame(Protocol::Tcp, VIP);
        let run = |()| {
            let data_in = Some(frame.as_slice());
            let options = TestRunOptions { data_in, repeat: RUNS, ..TestRunOptions::default() };
            let returned = self.program.test_run(options)?.return_value;
            ensure!(returned == TX, "a packet was not forwarded: {returned}");
            Ok(())
        };
        let taken = at_once(self.cores, |_| Ok(()), run)?;
        Ok(f64::from(RUNS * self.cores) / taken.as_secs_f64())
    }
}

/// So many workers, with one flow table or with one each.
struct Workers {
    cores: u32,
    shares: bool,
}

fn new_flows(report: &mut Report, cores: &[u32]) -> Result<()> {
    let curve = |line, shares| {
        let workers = |cores| Ok(Workers { cores, shares });
        Curve::new(line, "flows/s", &sizes(cores, "core"), workers)
    };
    let own = curve("new flows: a table each", false)?;
    let shared = curve("new flows: one table", true)?;
    let mut curves = [own, shared];
    take_turns(&mut curves, |workers| workers.rate())?;
    Report::heading("new flows a second, by cores");
    curves.iter().for_each(|curve| curve.report(report));
    Ok(())
}

impl Workers {
    fn rate(&self) -> Result<f64> {
        let plan = Plan { flow_capacity: FLOWS * self.cores * 2, ..Plan::SMALL };
        let config = Arc::new(plan.config()?);
        let one_table = Arc::new(shared(&config));
        let prepare = |core: u32| {
            let own = (!self.shares).then(|| Arc::new(shared(&config)));
            let position =
                Position { worker: u16::try_from(core)?, workers: u16::try_from(self.cores)? };
            Site::beside(&plan, &config, own.as_ref().unwrap_or(&one_table), position)
        };
        let taken = at_once(self.cores, prepare, |mut site| site.begin(FLOWS))?;
        Ok(f64::from(FLOWS * self.cores) / taken.as_secs_f64())
    }
}

/// Does something on so many cores at once; returns how long the slowest took. What each prepares
/// stays on its core.
fn at_once<T>(
    cores: u32,
    prepare: impl Fn(u32) -> Result<T> + Sync,
    work: impl Fn(T) -> Result<()> + Sync,
) -> Result<Duration> {
    let barrier = Barrier::new(cores as usize);
    let one = |core: u32| {
        let prepared = cpu::pin(core as usize).and_then(|()| prepare(core));
        // Also of those that failed: the others would wait for ever.
        barrier.wait();
        let start = Instant::now();
        work(prepared?)?;
        Ok(start.elapsed())
    };
    let one = &one;
    thread::scope(|scope| {
        let threads: Vec<_> = (0..cores).map(|core| scope.spawn(move || one(core))).collect();
        let joined = threads.into_iter().map(|thread| {
            thread.join().map_err(|_| anyhow!("a thread of the benchmark panicked"))?
        });
        let times = joined.collect::<Result<Vec<_>>>()?;
        times.into_iter().max().context("no core was asked for")
    })
}
