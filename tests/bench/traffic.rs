//! Drives the generator of lb-ebpf/src/traffic.rs: live frames from one core, by
//! `BPF_F_TEST_XDP_LIVE_FRAMES`, and what comes back of them.

#[expect(dead_code, reason = "some of it is for the programs alone")]
#[path = "../../lb-ebpf/src/counter.rs"]
mod counter;

use std::{
    env, fs,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use aya::{
    Ebpf, EbpfLoader,
    maps::{Array, MapData},
    programs::{TestRun as _, TestRunAttrs, TestRunOptions, Xdp, XdpMode},
};
use lb_tests::{Namespace, check_stopped, wait_until};

pub use self::counter::Counter;
use self::counter::{BUCKETS, COUNTERS, upper_bound};
use crate::{
    cpu,
    link::{CLIENTS, Link, PORT, SERVICE},
};

/// Runs of the generator a call where it waits between packets: most of a second. Between two
/// calls the kernel takes milliseconds, so there are to be few.
const RUNS: u32 = 1 << 22;
/// Frames that are given to the link at once.
const BATCH: u32 = 64;
/// The same where it matters when a frame is sent.
const PACED_BATCH: u32 = 8;
/// When nothing has come back for so long, nothing comes any more.
const SETTLED: Duration = Duration::from_millis(100);
const STRAGGLERS: Duration = Duration::from_secs(10);

/// A generator on one end of a link, and the sink for what comes back.
pub struct Traffic {
    ebpf: Ebpf,
    host: Namespace,
    interface: u32,
}

impl Traffic {
    /// Loads both. Of a flow's number so many lower bits are the client's address.
    pub fn new(link: &Link, address_bits: u32) -> Result<Self> {
        let globals = [
            ("ADDRESS_BITS", address_bits),
            ("CLIENT", u32::from_be_bytes(CLIENTS)),
            ("SERVICE", u32::from_be_bytes(SERVICE)),
            ("PORT", u32::from(PORT)),
        ];
        let mut ebpf = load(&globals)?;
        let (host, interface) = (link.traffic.clone(), index(&link.traffic, &link.near)?);
        attach(&mut ebpf, "absorb", &host, interface, XdpMode::Driver)?;
        // The kernel prepares for a program that is attached somewhere only once, and not, which
        // takes tens of milliseconds, at each run. Nothing is ever sent over this loopback.
        attach(&mut ebpf, "generate", &host, index(&host, "lo")?, XdpMode::Skb)?;
        Ok(Self { ebpf, host, interface })
    }

    /// Forgets all counts and settings.
    pub fn reset(&mut self) -> Result<()> {
        for counter in 0..COUNTERS as u32 {
            self.numbers("counters")?.set(counter, 0, 0)?;
        }
        for bucket in 0..BUCKETS as u32 {
            self.numbers("delays")?.set(bucket, 0, 0)?;
        }
        Ok(())
    }

    /// Sets what the generator obeys.
    pub fn set(&mut self, counter: Counter, value: u64) -> Result<()> {
        Ok(self.numbers("counters")?.set(counter as u32, value, 0)?)
    }

    /// What was counted.
    pub fn get(&mut self, counter: Counter) -> Result<u64> {
        Ok(self.numbers("counters")?.get(&(counter as u32), 0)?)
    }

    /// Packets that came back, of standing flows or not.
    pub fn received(&mut self) -> Result<u64> {
        Ok(self.get(Counter::Received)? + self.get(Counter::StandingReceived)?)
    }

    /// Sends packets of a length until so many are made in all since the last reset, and waits for
    /// those that come back.
    pub fn send(&mut self, length: usize, packets: u64) -> Result<()> {
        self.set(Counter::Limit, packets)?;
        let waits = self.get(Counter::Interval)? != 0 || self.get(Counter::Window)? != 0;
        let runs = if waits { RUNS } else { u32::try_from(packets)? };
        while self.get(Counter::Made)? < packets {
            self.run(length, runs)?;
        }
        self.wait_for_stragglers()
    }

    /// Sends for so long.
    pub fn send_for(&mut self, length: usize, time: Duration) -> Result<()> {
        let start = Instant::now();
        while start.elapsed() < time {
            self.run(length, RUNS)?;
        }
        self.wait_for_stragglers()
    }

    fn run(&mut self, length: usize, runs: u32) -> Result<()> {
        check_stopped()?;
        let frame = vec![0; length];
        let paced = self.get(Counter::Interval)? != 0;
        let batch = if paced { PACED_BATCH } else { BATCH };
        // `struct xdp_md` of linux/bpf.h: data, data_end, data_meta, interface, queue, way out.
        let words = [0, u32::try_from(length)?, 0, self.interface, 0, 0];
        let context: Vec<u8> = words.iter().flat_map(|word: &u32| word.to_ne_bytes()).collect();
        let generator = program(&mut self.ebpf, "generate")?;
        self.host.enter(|| -> Result<()> {
            cpu::pin(cpu::TRAFFIC)?;
            cpu::come_first()?;
            let options = TestRunOptions {
                data_in: Some(&frame),
                ctx_in: Some(&context),
                repeat: runs,
                attrs: TestRunAttrs::new().xdp_live_frames(batch),
                ..TestRunOptions::default()
            };
            generator.test_run(options).context("this kernel sends no live frames")?;
            Ok(())
        })?
    }

    /// Waits until nothing comes any more.
    pub fn wait_for_stragglers(&mut self) -> Result<()> {
        let (mut before, mut since) = ((0, 0), Instant::now());
        wait_until("packets that are under way", STRAGGLERS, || {
            let now = (self.get(Counter::Received)?, self.get(Counter::StandingReceived)?);
            if now != before {
                (before, since) = (now, Instant::now());
            }
            Ok(since.elapsed() >= SETTLED)
        })
    }

    /// Packets a second that came back, from the first that was sent to the last that came.
    pub fn rate(&mut self) -> Result<f64> {
        let (first, last) = (self.get(Counter::FirstSent)?, self.get(Counter::LastReceived)?);
        let received = self.received()?;
        ensure!(received > 0 && last > first, "nothing came back");
        Ok(received as f64 * 1e9 / (last - first) as f64)
    }

    /// The delays in nanoseconds that shares of the packets did not have to wait longer than, by
    /// the bound of the bucket that they are in.
    pub fn delays<const N: usize>(&mut self, shares: [f64; N]) -> Result<[f64; N]> {
        let delays = self.numbers("delays")?;
        let counts: Vec<u64> =
            (0..BUCKETS as u32).map(|bucket| delays.get(&bucket, 0)).collect::<Result<_, _>>()?;
        let all: u64 = counts.iter().sum();
        Ok(shares.map(|share| {
            let wanted = (all as f64 * share).ceil() as u64;
            let mut seen = 0;
            let reaches = |count: &u64| {
                seen += count;
                seen >= wanted
            };
            counts.iter().position(reaches).map_or(f64::NAN, |b| upper_bound(b as u32) as f64)
        }))
    }

    fn numbers(&mut self, name: &str) -> Result<Array<&mut MapData, u64>> {
        Ok(self.ebpf.map_mut(name).context("no such map")?.try_into()?)
    }
}

/// Puts a bare reflector on the balancer's end. It is there as long as what is returned.
pub fn reflector(link: &Link) -> Result<Ebpf> {
    let mut ebpf = load(&[])?;
    let interface = index(&link.balancer, &link.far)?;
    attach(&mut ebpf, "reflect", &link.balancer, interface, XdpMode::Driver)?;
    Ok(ebpf)
}

fn load(globals: &[(&str, u32)]) -> Result<Ebpf> {
    let object = env::var_os("LB_EBPF_TRAFFIC_OBJECT")
        .context("LB_EBPF_TRAFFIC_OBJECT is not set: run `cargo xtask bench`")?;
    let object = fs::read(&object).with_context(|| object.display().to_string())?;
    let mut loader = EbpfLoader::new();
    for (name, value) in globals {
        loader.override_global(name, value, true);
    }
    loader.load(&object).context("cannot load the traffic's programs")
}

fn program<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Xdp> {
    Ok(ebpf.program_mut(name).context("no such program")?.try_into()?)
}

fn attach(
    ebpf: &mut Ebpf,
    name: &str,
    host: &Namespace,
    interface: u32,
    mode: XdpMode,
) -> Result<()> {
    let program = program(ebpf, name)?;
    program.load().with_context(|| format!("the kernel does not take `{name}`"))?;
    let attached = host.enter(|| program.attach_to_if_index(interface, mode))?;
    attached.with_context(|| format!("cannot attach `{name}`")).map(drop)
}

/// `ip` prints it first.
fn index(host: &Namespace, device: &str) -> Result<u32> {
    let line = host.ip(&["-o", "link", "show", "dev", device])?;
    let number = line.split(':').next().and_then(|word| word.trim().parse().ok());
    number.with_context(|| format!("no index in `{line}`"))
}
