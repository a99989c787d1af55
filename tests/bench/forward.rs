//! Packets a second end to end: live frames from one core, over a link, through the balancer on
//! another core and back, beside a bare reflector and the kernel's own forwarding.

use std::time::Instant;

use anyhow::{Result, ensure};
use aya::Ebpf;
use lb_tests::{
    Balancer, mount_bpffs,
    report::{Measured, Report},
};
use lb_userspace::datapath::check_environment;

use crate::{
    cpu::{self, Napi},
    link::Link,
    traffic::{self, Counter, Traffic},
};

const ROUNDS: usize = 9;
/// Packets a measurement.
const PACKETS: u64 = 1 << 20;
/// Of the frames: the least that Ethernet sends, which is 64 bytes with its checksum, and the most.
const LENGTHS: [(usize, &str); 2] = [(60, "64 bytes"), (1514, "1,500 bytes")];
/// Bits of the clients' addresses: as many flows as there are addresses.
const ADDRESS_BITS: u32 = 16;
const MANY: u64 = 1 << ADDRESS_BITS;
/// Passes over all flows until each is established; only an overloaded machine needs a second.
const PASSES: u32 = 20;
/// Its place among the subjects.
const FIRSTPACKET: usize = 2;

const CONFIGURATION: &str = r#"
[instance]
name = "{instance}"
interfaces = ["{interface}"]
attach_mode = "native"
snat_addresses = ["10.0.0.8", "10.0.0.9"]
cores = [{core}]
half_open_share = 100
udp_one_way_timeout = "1h"
[[virtual_service]]
name = "dns"
address = "192.0.2.10"
port = 53
protocol = "udp"
idle_timeout = "1h"
pool = "resolvers"
[[pool]]
name = "resolvers"
servers = [{ address = "10.0.0.11", port = 53 }, { address = "10.0.0.12", port = 53 }]
"#;

/// Who sends packets back. Fields are dropped in this order.
struct Subject {
    traffic: Traffic,
    balancer: Option<Balancer>,
    _reflector: Option<Ebpf>,
    napi: Napi,
    link: Link,
}

/// One thing that is measured, in three ways.
struct Case {
    /// Index of the subject.
    subject: usize,
    flows: u64,
    length: usize,
    rate: Measured,
    nanos: Measured,
    own: Measured,
}

/// Measures it.
pub fn measure() -> Result<()> {
    mount_bpffs()?;
    check_environment()?;
    cpu::require_two()?;
    let mut subjects = [reflector()?, kernel()?, firstpacket()?];
    subjects[FIRSTPACKET].establish()?;
    let mut cases: Vec<Case> = LENGTHS.into_iter().flat_map(cases).collect();
    for _ in 0..ROUNDS {
        for case in &mut cases {
            case.measure(&mut subjects[case.subject])?;
        }
    }
    let mut report = Report::new("forward");
    for (title, measured) in [
        ("packets a second, end to end", (|case| &case.rate) as fn(&Case) -> &Measured),
        ("ns of the balancer's core a packet", |case| &case.nanos),
    ] {
        Report::heading(title);
        for of_length in cases.chunks(cases.len() / LENGTHS.len()) {
            of_length.iter().for_each(|case| report.add(measured(case), measured(&of_length[0])));
        }
    }
    Report::heading("% of a core that the balancer's own threads took meanwhile");
    for case in cases.iter().filter(|case| case.subject == FIRSTPACKET) {
        report.add_ratios(&case.own, &case.own.case, &[1.0]);
    }
    report.write()
}

fn cases((length, bytes): (usize, &str)) -> Vec<Case> {
    let case = |(subject, name, flows): (usize, &str, u64)| {
        let name = |what| format!("{what}: {name}, {bytes}");
        Case {
            subject,
            flows,
            length,
            rate: Measured::new(name("rate"), "packets/s"),
            nanos: Measured::new(name("cost"), "ns"),
            own: Measured::new(name("own threads"), "%"),
        }
    };
    let cases = [
        (0, "bare reflector", 1),
        (1, "kernel forwarding", 1),
        (1, "kernel forwarding, 64 Ki flows", MANY),
        (FIRSTPACKET, "firstpacket, 1 flow", 1),
        (FIRSTPACKET, "firstpacket, 64 Ki flows", MANY),
    ];
    cases.map(case).into()
}

impl Case {
    fn measure(&mut self, subject: &mut Subject) -> Result<()> {
        let traffic = &mut subject.traffic;
        traffic.reset()?;
        traffic.set(Counter::FlowMask, self.flows - 1)?;
        let before = (subject.napi.nanos()?, subject.own_nanos()?, subject.link.received()?);
        let start = Instant::now();
        subject.traffic.send(self.length, PACKETS)?;
        let nanos = subject.napi.nanos()? - before.0;
        let own = (subject.own_nanos()? - before.1) as f64 / start.elapsed().as_nanos() as f64;
        let packets = subject.link.received()? - before.2;
        ensure!(packets > 0, "{}: nothing arrived", self.rate.case);
        self.own.values.push(100.0 * own);
        self.rate.values.push(subject.traffic.rate()?);
        self.nanos.values.push(nanos as f64 / packets as f64);
        Ok(())
    }
}

impl Subject {
    /// `balancer` and `reflector` are there already, each on the link's far end.
    fn new(link: Link, balancer: Option<Balancer>, reflector: Option<Ebpf>) -> Result<Self> {
        let traffic = Traffic::new(&link, ADDRESS_BITS)?;
        let napi = link.pin(false)?;
        Ok(Self { traffic, balancer, _reflector: reflector, napi, link })
    }

    /// What the balancer's own threads, which no packet here has any need of, have taken so far.
    fn own_nanos(&mut self) -> Result<u64> {
        let own =
            self.balancer.as_mut().map(|balancer| cpu::process_nanos(balancer.process().id()));
        Ok(own.transpose()?.unwrap_or_default())
    }

    /// Sends a packet of each flow, slowly, until the worker has seen one of each and sees no more: a
    /// busy machine loses some, so not all need to come back at once.
    fn establish(&mut self) -> Result<()> {
        for _ in 0..PASSES {
            self.traffic.reset()?;
            self.traffic.set(Counter::FlowMask, MANY - 1)?;
            self.traffic.set(Counter::Interval, 20_000)?;
            let before = self.punted()?;
            self.traffic.send(LENGTHS[0].0, MANY)?;
            if before >= MANY && self.punted()? == before {
                return Ok(());
            }
        }
        anyhow::bail!("after {PASSES} passes over {MANY} flows not all are established")
    }

    fn punted(&self) -> Result<u64> {
        self.balancer.as_ref().map_or(Ok(0), punted)
    }
}

/// How many packets the program has given to a worker.
pub fn punted(balancer: &Balancer) -> Result<u64> {
    let status = balancer.status_json()?;
    let events = status["events"].as_object().into_iter().flatten();
    Ok(events
        .filter(|(name, _)| name.starts_with("punt_"))
        .filter_map(|(_, count)| count.as_u64())
        .sum())
}

fn reflector() -> Result<Subject> {
    let link = Link::new()?;
    let reflector = traffic::reflector(&link)?;
    Subject::new(link, None, Some(reflector))
}

fn kernel() -> Result<Subject> {
    let link = Link::new()?;
    link.let_the_kernel_forward()?;
    Subject::new(link, None, None)
}

fn firstpacket() -> Result<Subject> {
    let link = Link::new()?;
    let configuration = CONFIGURATION
        .replace("{interface}", &link.far)
        .replace("{core}", &cpu::BALANCER.to_string());
    let balancer = Balancer::start(&link.balancer, &configuration, &[])?;
    Subject::new(link, Some(balancer), None)
}
