//! A replay in numbers.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    net::Ipv4Addr,
    time::Duration,
};

use lb_common::{address::Protocol, event::Event, path::Verdict};

use super::glance::Glance;
use crate::{config::Config, engine::Counters};

/// How many destinations are told apart when none is a virtual service.
const MOST_DESTINATIONS: usize = 4096;
/// How many of them are shown.
const SHOWN: usize = 5;

/// What became of a capture's packets.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// Packets in the capture.
    pub packets: u64,
    /// Flows that were decided.
    pub flows: u64,
    /// From the first packet to the last.
    pub duration: Duration,
    /// To the address of a virtual service.
    pub to_services: u64,
    /// Of a flow or of a virtual service.
    pub ours: u64,
    /// From a virtual service, given to the flow as the chosen server's.
    pub answers: u64,
    /// From a virtual service to a client that has no flow here.
    pub unasked_answers: u64,
    /// Neither to nor from the address of a virtual service.
    pub foreign: u64,
    /// Not IPv4, or under more than one VLAN tag.
    pub not_ipv4: u64,
    /// Not whole, by the capture's snap length.
    pub cut: u64,
    /// Frames that have left.
    pub sent: u64,
    /// Forwarded by the packet program alone.
    pub forwarded: u64,
    /// Passed to the kernel or punted to the worker by the program, and dropped by either.
    pub events: BTreeMap<Event, u64>,
    /// The virtual services that there are.
    services: Vec<String>,
    destinations: HashMap<Destination, u64>,
}

/// Where a packet was sent: transport, address, port.
type Destination = (u8, Ipv4Addr, Option<u16>);

impl Summary {
    pub(super) fn new(config: &Config) -> Self {
        let services = config.virtual_services.iter();
        let services =
            services.map(|s| format!("{} {} ({})", s.protocol().name(), s.address, s.name));
        Self { services: services.collect(), ..Self::default() }
    }

    /// A packet that is none of the balancer's. Where to is kept for as long as nothing is.
    pub(super) fn add_foreign(&mut self, glance: &Glance) {
        self.foreign += 1;
        self.add_destination(glance);
    }

    /// What the program has made of a packet.
    pub(super) fn add_verdict(&mut self, glance: &Glance, verdict: Verdict) {
        match verdict {
            Verdict::Transmit | Verdict::Redirect { .. } => self.forwarded += 1,
            Verdict::Pass(event)
            | Verdict::Drop(event)
            | Verdict::Punt(event)
            | Verdict::Answer(event) => {
                *self.events.entry(event).or_default() += 1;
            }
        }
        match verdict {
            Verdict::Pass(_) => self.add_destination(glance),
            _ => self.ours += 1,
        }
    }

    fn add_destination(&mut self, glance: &Glance) {
        let to = (glance.transport, glance.destination, glance.ports.map(|(_, to)| to));
        let room = self.ours == 0 && self.destinations.len() < MOST_DESTINATIONS;
        match self.destinations.get_mut(&to) {
            Some(count) => *count += 1,
            None if room => drop(self.destinations.insert(to, 1)),
            None => {}
        }
    }

    /// What the worker has counted.
    pub(super) fn add_counters(&mut self, counters: &Counters) {
        for event in Event::ALL.iter().filter(|event| counters.get(**event) > 0) {
            *self.events.entry(*event).or_default() += counters.get(*event);
        }
    }

    fn lines(&self) -> Vec<(u64, String)> {
        let mut lines = vec![
            (self.to_services, "to the addresses of virtual services".to_owned()),
            (self.answers, "answers, replayed as from the server that was chosen".to_owned()),
            (self.unasked_answers, "answers to clients that have no flow in the replay".to_owned()),
            (self.foreign, "neither to nor from a virtual service's address: left out".to_owned()),
            (self.not_ipv4, "not IPv4, or under more than one VLAN tag: left out".to_owned()),
            (self.cut, "cut short by the capture's snap length".to_owned()),
            (self.forwarded, "forwarded by the packet program".to_owned()),
        ];
        let events = self.events.iter();
        lines.extend(events.map(|(event, count)| {
            let description = event.description().trim().trim_end_matches('.');
            (*count, format!("{}: {description}", event.name()))
        }));
        lines.retain(|(count, _)| *count > 0);
        lines
    }

    /// The destinations that most packets went to.
    fn busiest(&self) -> Vec<(u64, String)> {
        let mut all: Vec<_> = self.destinations.iter().map(|(to, count)| (*count, *to)).collect();
        all.sort_unstable_by_key(|(count, to)| (std::cmp::Reverse(*count), *to));
        all.truncate(SHOWN);
        all.into_iter().map(|(count, to)| (count, shown(to))).collect()
    }

    fn hint(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "no packet is for a virtual service of the configuration, which has")?;
        for service in &self.services {
            writeln!(f, "  {service}")?;
        }
        let busiest = self.busiest();
        if !busiest.is_empty() {
            writeln!(f, "most packets of the capture are for")?;
        }
        for (count, destination) in busiest {
            writeln!(f, "  {destination}: {count}")?;
        }
        Ok(())
    }
}

fn shown((transport, address, port): Destination) -> String {
    let name = Protocol::from_number(transport).map(Protocol::name);
    let transport = name.map_or_else(|| format!("IP protocol {transport}"), str::to_owned);
    match port {
        Some(port) => format!("{transport} {address}:{port}"),
        None => format!("{transport} {address}"),
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.duration.as_secs_f64();
        writeln!(f, "{} packets in {seconds:.3} s, {} flows", self.packets, self.flows)?;
        let lines = self.lines();
        let width = lines.iter().map(|(count, _)| count.to_string().len()).max().unwrap_or(0);
        for (count, text) in lines {
            writeln!(f, "  {count:>width$}  {text}")?;
        }
        if self.ours == 0 { self.hint(f) } else { Ok(()) }
    }
}
