//! New flows: how many a second a worker takes, what a first packet waits, what too many do.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Result, bail, ensure};
use lb_tests::{
    Balancer, mount_bpffs,
    report::{Measured, Report},
    wait_until,
};
use lb_userspace::datapath::check_environment;

use crate::{
    cpu,
    link::Link,
    traffic::{Counter, Traffic},
};

const ROUNDS: usize = 7;
/// How long each measurement lasts.
const TIME: Duration = Duration::from_secs(1);
/// The least that Ethernet sends.
const LENGTH: usize = 60;
/// Clients, each with 32 Ki ports.
const ADDRESS_BITS: u32 = 12;
const FLOWS: u64 = 1 << (ADDRESS_BITS + 15);
/// First packets under way while the most is looked for: enough that the worker never waits, less
/// than the 256 that a veth holds.
const WINDOW: u64 = 128;
/// Flows that nobody uses any more are gone by then.
const EXPIRY: Duration = Duration::from_secs(20);

const CONFIGURATION: &str = r#"
[instance]
name = "{instance}"
interfaces = ["{interface}"]
attach_mode = "native"
snat_addresses = ["10.0.0.4", "10.0.0.5", "10.0.0.6", "10.0.0.7", "10.0.0.8", "10.0.0.9"]
flow_capacity = 1048576
cores = [{core}]
half_open_share = 100
udp_one_way_timeout = "2s"
[[virtual_service]]
name = "dns"
address = "192.0.2.10"
port = 53
protocol = "udp"
pool = "resolvers"
{uses}
[[pool]]
name = "resolvers"
servers = [{ address = "10.0.0.11", port = 53 }, { address = "10.0.0.12", port = 53 }]
{set}
"#;
const USES: &str = r#"datascripts = ["set"]"#;
const SET: &str = r#"
[[datascript]]
name = "set"
pools = ["resolvers"]
l4_request = "request.lua"
"#;
/// Of each client only the first flow writes; all others find what it wrote.
const TYPICAL: &str = r#"
local client = avi.vs.client_ip()
local server = avi.vs.table_lookup("pins", client, 0)
if not server then
  server = "10.0.0.12"
  avi.vs.table_insert("pins", client, server, 3600)
end
avi.pool.select("resolvers", server, 53)
"#;

/// A balancer with a script, or without, and what is measured of it. Fields are dropped in this
/// order.
struct Subject {
    name: &'static str,
    traffic: Traffic,
    balancer: Balancer,
    link: Link,
    most: Measured,
    delays: [Measured; 3],
    overload: Overload,
}

/// What becomes of twice as many as the worker takes.
struct Overload {
    taken: Measured,
    dropped: Measured,
    unaccounted: Measured,
    standing_lost: Measured,
}

/// Measures them.
pub fn measure() -> Result<()> {
    mount_bpffs()?;
    check_environment()?;
    cpu::require_two()?;
    let scripts = [("no script", None), ("empty script", Some("")), ("typical", Some(TYPICAL))];
    let mut subjects = Vec::new();
    for (name, script) in scripts {
        subjects.push(Subject::new(name, script)?);
    }
    for subject in &mut subjects {
        subject.warm_up()?;
    }
    for _ in 0..ROUNDS {
        subjects.iter_mut().try_for_each(Subject::measure_most)?;
        subjects.iter_mut().try_for_each(Subject::measure_delays)?;
        subjects.iter_mut().try_for_each(Subject::measure_overload)?;
    }
    report(&subjects)?.write()?;
    let lost: f64 = subjects.iter().flat_map(|s| &s.overload.standing_lost.values).sum();
    ensure!(
        lost == 0.0,
        "established flows lost {lost} packets while there were too many new ones"
    );
    Ok(())
}

impl Subject {
    fn new(name: &'static str, script: Option<&str>) -> Result<Self> {
        let link = Link::new()?;
        let (uses, set) = if script.is_some() { (USES, SET) } else { ("", "") };
        let configuration = CONFIGURATION
            .replace("{interface}", &link.far)
            .replace("{core}", &cpu::BALANCER.to_string())
            .replace("{uses}", uses)
            .replace("{set}", set);
        let scripts: Vec<_> = script.iter().map(|text| ("request.lua", *text)).collect();
        let mut balancer = Balancer::start(&link.balancer, &configuration, &scripts)?;
        cpu::let_come_first(&link.balancer, balancer.process().id())?;
        let traffic = Traffic::new(&link, ADDRESS_BITS)?;
        link.pin(true)?;
        let measured = |what: &str, unit| Measured::new(format!("{what}: {name}"), unit);
        Ok(Self {
            name,
            traffic,
            balancer,
            link,
            most: measured("most", "flows/s"),
            delays: ["p50", "p99", "p999"]
                .map(|share| measured(&format!("first packet, {share}"), "us")),
            overload: Overload {
                taken: measured("twice as many, taken", "flows/s"),
                dropped: measured("twice as many, dropped and counted", "share"),
                unaccounted: measured("twice as many, dropped, not counted", "packets"),
                standing_lost: measured("twice as many, established lost", "packets"),
            },
        })
    }

    /// Lets neighbours become known, and the script fill its table.
    fn warm_up(&mut self) -> Result<()> {
        self.begin()?;
        self.traffic.set(Counter::Window, 16)?;
        self.traffic.send(LENGTH, 2 << ADDRESS_BITS)?;
        let received = self.traffic.get(Counter::Received)?;
        ensure!(received > 1 << ADDRESS_BITS, "{}: only {received} flows were taken", self.name);
        Ok(())
    }

    /// As many as come back, when never more than some are under way.
    fn measure_most(&mut self) -> Result<()> {
        self.begin()?;
        self.traffic.set(Counter::Window, WINDOW)?;
        self.traffic.send_for(LENGTH, TIME)?;
        let sent = self.traffic.get(Counter::Sent)?;
        let lost = sent.saturating_sub(self.traffic.get(Counter::Received)?);
        if lost * 100 > sent {
            let drops = drops(&self.balancer)?.into_iter().filter(|(_, count)| *count > 0.0);
            let drops: Vec<_> = drops.collect();
            bail!("{}: {lost} of {sent} new flows were lost; dropped: {drops:?}", self.name);
        }
        self.most.values.push(self.traffic.rate()?);
        Ok(())
    }

    /// What first packets wait at half as many.
    fn measure_delays(&mut self) -> Result<()> {
        self.begin()?;
        let rate = self.most.median() / 2.0;
        self.traffic.set(Counter::Interval, (1e9 / rate) as u64)?;
        self.traffic.send(LENGTH, (rate * TIME.as_secs_f64()) as u64)?;
        let delays = self.traffic.delays([0.5, 0.99, 0.999])?;
        for (measured, nanos) in self.delays.iter_mut().zip(delays) {
            measured.values.push(nanos / 1e3);
        }
        Ok(())
    }

    /// What becomes of twice as many, and of flows that were there before.
    fn measure_overload(&mut self) -> Result<()> {
        self.begin()?;
        self.traffic.set(Counter::Standing, 1)?;
        let rate = self.most.median();
        let made = self.send_at(rate / 4.0, 0)?;
        let before = Counts::of(self)?;
        self.send_at(2.0 * rate, made)?;
        let after = Counts::of(self)?;
        let counts = after - before;
        let overload = &mut self.overload;
        let seconds = TIME.as_secs_f64();
        overload.taken.values.push(counts.received / seconds);
        overload.dropped.values.push(counts.dropped / counts.arrived);
        let unaccounted =
            counts.arrived - counts.received - counts.standing_received - counts.dropped;
        overload.unaccounted.values.push(unaccounted.abs());
        // What did not even reach the balancer's end was lost by the link.
        let sent = counts.sent + counts.standing_sent;
        let lost_before = sent - counts.arrived;
        let lost = counts.standing_sent - counts.standing_received;
        overload.standing_lost.values.push((lost - lost_before).max(0.0));
        Ok(())
    }

    /// Sends for the usual time at a rate, on top of those that were made; returns how many are.
    fn send_at(&mut self, rate: f64, made: u64) -> Result<u64> {
        let packets = made + (rate * TIME.as_secs_f64()) as u64;
        self.traffic.set(Counter::Interval, (1e9 / rate) as u64)?;
        self.traffic.send(LENGTH, packets)?;
        Ok(packets)
    }

    /// Waits until no flow is left, and begins to count anew, with other flows than before.
    fn begin(&mut self) -> Result<()> {
        wait_until("the last flows' end", EXPIRY, || {
            Ok(self.balancer.status_json()?["flows"]["now"].as_u64() == Some(0))
        })?;
        self.traffic.reset()?;
        self.traffic.set(Counter::FlowMask, FLOWS - 1)
    }
}

/// Counts of packets, since whenever.
struct Counts {
    sent: f64,
    standing_sent: f64,
    arrived: f64,
    received: f64,
    standing_received: f64,
    dropped: f64,
}

impl Counts {
    fn of(subject: &mut Subject) -> Result<Self> {
        let traffic = &mut subject.traffic;
        let mut count = |counter| traffic.get(counter).map(|count| count as f64);
        Ok(Self {
            sent: count(Counter::Sent)?,
            standing_sent: count(Counter::StandingSent)?,
            received: count(Counter::Received)?,
            standing_received: count(Counter::StandingReceived)?,
            arrived: subject.link.received()? as f64,
            dropped: drops(&subject.balancer)?.values().sum(),
        })
    }
}

impl std::ops::Sub for Counts {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self {
            sent: self.sent - before.sent,
            standing_sent: self.standing_sent - before.standing_sent,
            arrived: self.arrived - before.arrived,
            received: self.received - before.received,
            standing_received: self.standing_received - before.standing_received,
            dropped: self.dropped - before.dropped,
        }
    }
}

/// What the balancer says that it dropped, and why.
fn drops(balancer: &Balancer) -> Result<BTreeMap<String, f64>> {
    let status = balancer.status_json()?;
    let events = status["events"].as_object().into_iter().flatten();
    let drops = events.filter(|(name, _)| name.starts_with("drop_"));
    Ok(drops.filter_map(|(name, count)| Some((name.clone(), count.as_f64()?))).collect())
}

fn report(subjects: &[Subject]) -> Result<Report> {
    let mut report = Report::new("new-flows");
    let compared = |report: &mut Report, of: &dyn Fn(&Subject) -> &Measured| {
        subjects.iter().for_each(|subject| report.add(of(subject), of(&subjects[0])));
    };
    Report::heading("new flows a second, one worker");
    compared(&mut report, &|subject| &subject.most);
    Report::heading("us that a first packet waits at half of that");
    for share in 0..3 {
        compared(&mut report, &|subject| &subject.delays[share]);
    }
    Report::heading("new flows a second at twice of that");
    compared(&mut report, &|subject| &subject.overload.taken);
    Report::heading("and what becomes of the others");
    for Subject { overload, .. } in subjects {
        for counted in [&overload.dropped, &overload.unaccounted, &overload.standing_lost] {
            report.add_ratios(counted, &counted.case, &[1.0]);
        }
    }
    Ok(report)
}
