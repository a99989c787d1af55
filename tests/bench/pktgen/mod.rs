//! Packets of the kernel's own generator, by `scripts/pktgen`: what each costs a balancer, beside
//! the kernel's forwarding and what else the kernel has for the purpose.

mod subject;

use std::{env, fs, num::NonZero, thread};

use anyhow::{Context as _, Result, ensure};
use lb_tests::{
    has_pktgen, mount_bpffs,
    report::{Measured, Report},
};
use lb_userspace::datapath::check_environment;

use self::subject::{Subject, WAYS};
use crate::cpu;

const ROUNDS: usize = 7;
/// Of the frames: the least that Ethernet sends, which is 64 bytes with its checksum, and the most.
const LENGTHS: [(usize, &str); 2] = [(60, "64 bytes"), (1514, "1,500 bytes")];
/// Of what the balancer received, the sink is to get at least this share: whoever drops packets is
/// not measured.
const FORWARDED: f64 = 0.99;
/// Set where the machine's clock counts instructions: see `xtask/src/bench/machine`.
const INSTRUCTIONS: &str = "LB_BENCH_INSTRUCTIONS";

/// What a machine lets be measured.
#[derive(Clone, Copy)]
pub struct Machine {
    /// The balancer's core.
    core: usize,
    /// Clients, each of which is a flow.
    flows: u32,
    /// Packets a measurement.
    packets: u64,
    lengths: &'static [(usize, &'static str)],
    /// Of what a packet costs.
    unit: &'static str,
}

/// One thing that is measured, in two ways.
struct Case {
    /// Index of the subject.
    subject: usize,
    length: usize,
    cost: Measured,
    rate: Measured,
}

/// Measures it.
pub fn measure() -> Result<()> {
    ensure!(has_pktgen(), "this kernel has no pktgen");
    mount_bpffs()?;
    check_environment()?;
    let machine = Machine::look()?;
    let mut subjects = Vec::new();
    for way in &WAYS {
        match Subject::new(way, machine) {
            Ok(subject) => subjects.push(subject),
            Err(error) => println!("left out: {}: {error:#}", way.name),
        }
    }
    let control = subjects.first().filter(|subject| subject.way.name == WAYS[0].name);
    control.context("what the others are compared with is missing")?;
    let mut cases: Vec<Case> =
        machine.lengths.iter().flat_map(|length| cases(&subjects, *length, machine)).collect();
    for _ in 0..ROUNDS {
        for case in &mut cases {
            let subject = &mut subjects[case.subject];
            case.measure(subject, machine).with_context(|| subject.way.name)?;
        }
    }
    report(&cases, machine)
}

impl Machine {
    /// Where the clock counts instructions there is one core: several would share the clock. What
    /// the processor repeats for one instruction counts as many, so long packets, which are
    /// copied, would say nothing.
    fn look() -> Result<Self> {
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
        if env::var_os(INSTRUCTIONS).is_some() {
            println!("Linux {}, one emulated core whose clock counts instructions", kernel.trim());
            let lengths = &LENGTHS[..1];
            return Ok(Self {
                core: 0,
                flows: 1 << 10,
                packets: 1 << 13,
                lengths,
                unit: "instructions",
            });
        }
        cpu::require_two()?;
        let cores = thread::available_parallelism().map_or(1, NonZero::get);
        println!("Linux {}, {cores} cores", kernel.trim());
        let (flows, packets) = (1 << 12, 1 << 20);
        Ok(Self { core: cpu::BALANCER, flows, packets, lengths: &LENGTHS, unit: "ns" })
    }

    fn counts_instructions(self) -> bool {
        self.core == cpu::TRAFFIC
    }
}

fn cases(subjects: &[Subject], (length, bytes): (usize, &str), machine: Machine) -> Vec<Case> {
    let case = |(number, subject): (usize, &Subject)| {
        let name = |what| format!("{what}: {}, {bytes}", subject.way.name);
        let cost = Measured::new(name("cost"), machine.unit);
        Case { subject: number, length, cost, rate: Measured::new(name("rate"), "packets/s") }
    };
    subjects.iter().enumerate().map(case).collect()
}

impl Case {
    fn measure(&mut self, subject: &mut Subject, machine: Machine) -> Result<()> {
        subject.sink.reset()?;
        let before = (subject.napi.nanos()?, subject.link.received()?);
        let sent = subject.send(self.length, machine.packets, 0)?;
        let nanos = subject.napi.nanos()? - before.0;
        let arrived = subject.link.received()? - before.1;
        let forwarded = subject.sink.received()?;
        ensure!(arrived > 0, "nothing arrived");
        ensure!(
            is_forwarded(forwarded, arrived),
            "of {arrived} packets {forwarded} were forwarded: nothing is measured of who drops"
        );
        self.cost.values.push(nanos as f64 / arrived as f64);
        self.rate.values.push(forwarded as f64 / sent.time.as_secs_f64());
        Ok(())
    }
}

/// Whether so many of these packets are enough.
fn is_forwarded(forwarded: u64, packets: u64) -> bool {
    forwarded as f64 >= FORWARDED * packets as f64
}

/// Of each length the control is the first. How many packets a second there are is for machines on
/// which the generator has another core than the balancer.
fn report(cases: &[Case], machine: Machine) -> Result<()> {
    let mut report = Report::new("pktgen");
    let mut table = |title: &str, measured: fn(&Case) -> &Measured| {
        Report::heading(title);
        for cases in cases.chunk_by(|a, b| a.length == b.length) {
            cases.iter().for_each(|case| report.add(measured(case), measured(&cases[0])));
        }
    };
    table(&format!("{} of the balancer's core a packet", machine.unit), |case| &case.cost);
    if !machine.counts_instructions() {
        table("packets a second that came through", |case| &case.rate);
    }
    report.write()
}
