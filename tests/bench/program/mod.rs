//! What the XDP program costs per packet, by `BPF_PROG_TEST_RUN`, beside controls.
//!
//! All cases run in turn, round after round, so that what disturbs the machine disturbs all of
//! them. Flows vary from packet to packet, or caches would hide what many flows cost;
//! `control: vary` is what the varying itself costs, and is in every `hit`.

pub mod world;

use std::{env, fs, net::Ipv4Addr};

use anyhow::{Context as _, Result, ensure};
use aya::programs::{TestRun as _, TestRunOptions, Xdp};
use lb_common::address::Protocol;
use lb_tests::{
    check_stopped, mount_bpffs,
    report::{Measured, Report},
};
use lb_userspace::datapath::check_environment;
use rustix::time::{ClockId, clock_gettime};

use self::world::{CONTROLS, FORWARD, Mode, SIZES, VIP, Way, World};

const ROUNDS: usize = 9;
/// About how long a measurement takes, in nanoseconds.
const MEASUREMENT: f64 = 50e6;
/// Runs at least: the largest table must be seen whole.
const LEAST_RUNS: u32 = 1 << 20;

pub const DROP: u32 = 1;
pub const PASS: u32 = 2;
pub const TX: u32 = 3;
const REDIRECT: u32 = 4;

/// One thing that is measured.
pub struct Case {
    pub program: &'static str,
    /// Index of the world that it runs in, and the way that its packets go there.
    pub world: usize,
    pub way: Way,
    pub frame: Vec<u8>,
    /// What the program must return: a case that measures something else is worth nothing.
    pub returns: u32,
    pub repeat: u32,
    pub nanos: Measured,
}

/// Measures it.
pub fn measure() -> Result<()> {
    let object = object()?;
    let mut worlds = worlds(&object)?;
    let mut cases = controls();
    for (index, world) in worlds.iter().enumerate() {
        cases.extend(Way::ALL.map(|way| hit(index, world, way)));
    }
    cases.extend(others());
    for case in &mut cases {
        case.calibrate(&mut worlds[case.world], LEAST_RUNS)?;
    }
    for _ in 0..ROUNDS {
        for case in &mut cases {
            check_stopped()?;
            case.measure(&mut worlds[case.world])?;
        }
    }
    let mut report = Report::new("program");
    report_costs(&mut report, &cases);
    report_verified(&mut report, &mut worlds[0])?;
    report.write()
}

/// The object that [`World`]s are made of; fails where no program can be run.
pub fn object() -> Result<Vec<u8>> {
    mount_bpffs()?;
    check_environment()?;
    let object = env::var_os("LB_EBPF_BENCH_OBJECT")
        .context("LB_EBPF_BENCH_OBJECT is not set: run `cargo xtask bench`")?;
    fs::read(&object).with_context(|| object.display().to_string())
}

/// A world a mode, transport and number of flows; the first two carry the misses as well.
fn worlds(object: &[u8]) -> Result<Vec<World>> {
    let mut worlds = Vec::new();
    for mode in [Mode::Snat, Mode::Dnat] {
        for flows in SIZES {
            for protocol in [Protocol::Tcp, Protocol::Udp] {
                check_stopped()?;
                worlds.push(World::new(object, mode, protocol, flows)?);
            }
        }
    }
    worlds[0].listen()?;
    Ok(worlds)
}

impl Case {
    pub fn new(
        name: impl Into<String>,
        program: &'static str,
        frame: Vec<u8>,
        returns: u32,
    ) -> Self {
        let nanos = Measured::new(name, "ns");
        Self { program, world: 0, way: Way::Forward, frame, returns, repeat: LEAST_RUNS, nanos }
    }

    /// Finds out how many runs take about as long as a measurement is to take.
    pub fn calibrate(&mut self, world: &mut World, least: u32) -> Result<()> {
        let nanos = self.run(world, least)? / f64::from(least);
        self.repeat = ((MEASUREMENT / nanos) as u32).max(least);
        Ok(())
    }

    pub fn measure(&mut self, world: &mut World) -> Result<()> {
        // What the call itself costs, with as few runs as the kernel prepares for in the same way.
        let call = self.run(world, 2)?;
        let all = self.run(world, self.repeat)?;
        self.nanos.values.push((all - call) / f64::from(self.repeat - 2));
        Ok(())
    }

    /// Nanoseconds of this thread's processor time that so many runs take. The kernel's own figure
    /// is cut to whole nanoseconds, which a control has seven of; and a clock on the wall would
    /// count what else the machine does.
    fn run(&self, world: &mut World, repeat: u32) -> Result<f64> {
        let program = world.program(self.way, self.program)?;
        let data_in = Some(self.frame.as_slice());
        let before = processor_time();
        let options = TestRunOptions { data_in, repeat, ..TestRunOptions::default() };
        // A signal that asks to stop also ends the run.
        let result =
            program.test_run(options).or_else(|error| check_stopped().and(Err(error.into())))?;
        let nanos = processor_time() - before;
        let (case, returned) = (&self.nanos.case, result.return_value);
        ensure!(returned == self.returns, "{case}: returned {returned} and not {}", self.returns);
        Ok(nanos)
    }
}

/// Nanoseconds that this thread has taken of a processor.
pub fn processor_time() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 * 1e9 + time.tv_nsec as f64
}

/// What a packet costs at least.
pub fn controls() -> Vec<Case> {
    let control = |(name, program): (&str, &'static str)| {
        Case::new(format!("control: {name}"), program, frame(Protocol::Tcp, VIP), TX)
    };
    CONTROLS.map(control).into()
}

/// Packets of all flows of a world in turn.
pub fn hit(index: usize, world: &World, way: Way) -> Case {
    let World { mode, protocol, flows, .. } = world;
    let way_name = if way == Way::Reply { ", reply" } else { "" };
    let name = format!("hit: {protocol}, {mode}{way_name}, {}", grouped(*flows));
    Case { world: index, way, ..Case::new(name, FORWARD, frame(*protocol, VIP), TX) }
}

/// What the program leaves as it is needs no varying: this is the product's own program.
fn others() -> Vec<Case> {
    let other =
        |name, frame, returns| Case { way: Way::Any, ..Case::new(name, "", frame, returns) };
    let mut arp = vec![0; 60];
    arp[12..14].copy_from_slice(&[8, 6]);
    let to_vip = || frame(Protocol::Tcp, VIP);
    vec![
        other("miss: not ours", frame(Protocol::Tcp, [198, 51, 100, 1]), PASS),
        other("miss: virtual service, punted", to_vip(), REDIRECT),
        Case { world: 1, ..other("miss: virtual service, no worker", to_vip(), DROP) },
        other("not IPv4: ARP", arp, PASS),
    ]
}

/// A frame of 64 bytes to `destination`, from a client that has no flow.
pub fn frame(protocol: Protocol, destination: [u8; 4]) -> Vec<u8> {
    let mut frame = vec![0; 64];
    frame[12] = 8;
    frame[14] = 0x45;
    frame[17] = 50;
    frame[22] = 64;
    frame[23] = protocol.number();
    frame[26..30].copy_from_slice(&Ipv4Addr::new(203, 0, 113, 7).octets());
    frame[30..34].copy_from_slice(&destination);
    frame[34..36].copy_from_slice(&1024u16.to_be_bytes());
    frame[36..38].copy_from_slice(&80u16.to_be_bytes());
    match protocol {
        Protocol::Tcp => (frame[46], frame[47]) = (5 << 4, 0x10),
        Protocol::Udp => frame[39] = 30,
    }
    // Not zero: a UDP checksum of zero is left alone, which costs less.
    frame[40..42].copy_from_slice(&[0x12, 0x34]);
    frame
}

fn grouped(number: u32) -> String {
    match number {
        1 => "1 flow".to_owned(),
        n if n >= 1 << 20 => format!("{} Mi flows", n >> 20),
        n if n >= 1 << 10 => format!("{} Ki flows", n >> 10),
        n => format!("{n} flows"),
    }
}

fn report_costs(report: &mut Report, cases: &[Case]) {
    let [control, _, vary, ..] = cases else { return };
    let (control, vary) = (&control.nanos, &vary.nanos);
    Report::heading("ns a packet");
    for case in cases {
        if case.program == FORWARD {
            report.add_ratios(&case.nanos, &control.case, &own_ratios(&case.nanos, vary, control));
        } else {
            report.add(&case.nanos, control);
        }
    }
    println!(
        "\nRatio: to returning XDP_TX. The ratio of a hit is without what varying the packet \
         costs ({:.1} ns).",
        vary.median() - control.median()
    );
}

/// A hit's ratios: of the program alone.
fn own_ratios(hit: &Measured, vary: &Measured, control: &Measured) -> Vec<f64> {
    let rounds = hit.values.iter().zip(&vary.values).zip(&control.values);
    rounds.map(|((hit, vary), control)| (hit - (vary - control)) / control).collect()
}

/// How many instructions the verifier looked at until it believed each program.
fn report_verified(report: &mut Report, world: &mut World) -> Result<()> {
    Report::heading("instructions that the verifier looked at");
    let count = |name: &str, program: &mut Xdp| {
        let verified = program.info()?.verified_instruction_count().unwrap_or_default();
        let values = vec![f64::from(verified)];
        Ok(Measured { values, ..Measured::new(format!("verified: {name}"), "instructions") })
    };
    let counts = CONTROLS
        .iter()
        .map(|(name, program)| count(name, world.program(Way::Forward, program)?))
        .collect::<Result<Vec<_>>>()?;
    for counted in &counts {
        report.add(counted, &counts[0]);
    }
    report.add(&count("firstpacket", world.program(Way::Any, "")?)?, &counts[0]);
    Ok(())
}
