//! A balancer under test: the simulation, its clock, and what came out of it.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use lb_common::{address::Protocol, event::Event};

use super::{connection::Connection, failure::Told};
use crate::{
    config::{Config, VirtualService, nearest},
    engine::{Effects, Explanation, Found, Query, State, log::FlowLog, log::Note},
    simulation::{Simulation, SimulationError, first_packet, from_client, from_server},
    table::{Listed, Value},
};

/// Flows at once, for which a test has room. Half of them may wait for their server's answer.
const FLOWS: u32 = 8192;
/// Time passes in steps of this length, for flows to end about when they should …
const STEP: Duration = Duration::from_millis(250);
/// … and in so many steps at most.
const STEPS: u32 = 1000;

/// A balancer, and the time there.
pub(super) struct Rig {
    simulation: Simulation,
    now: SystemTime,
    effects: Effects,
    records: Vec<FlowLog>,
    /// How each flow was decided, in the order in which they began.
    decisions: Vec<Explanation>,
    /// Those over which the balancer has shaken hands itself.
    pub(super) connections: HashMap<Ends, Connection>,
}

/// What came of a frame.
pub(super) struct Came {
    /// What the balancer has sent.
    pub frames: Vec<Vec<u8>>,
    /// How a flow was decided, or what its scripts wait for: the last word.
    pub explanation: Option<Explanation>,
}

/// What a flow is known by.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Ends {
    pub protocol: Protocol,
    pub client: SocketAddr,
    pub vip: SocketAddr,
}

impl Rig {
    /// A balancer that nothing has passed through.
    pub fn new(config: Config, started: SystemTime) -> Result<Self, SimulationError> {
        let simulation = Simulation::new(Arc::new(config), started, FLOWS)?;
        Ok(Self {
            simulation,
            now: started,
            effects: Effects::default(),
            records: Vec::new(),
            decisions: Vec::new(),
            connections: HashMap::new(),
        })
    }

    /// The configuration in force.
    pub(super) fn config(&self) -> &Config {
        self.simulation.config()
    }

    /// What time it is.
    pub fn now(&self) -> SystemTime {
        self.now
    }

    /// The connection log.
    pub fn records(&self) -> &[FlowLog] {
        &self.records
    }

    /// A client sends its first packet, or, where the balancer shakes hands itself, what it says
    /// first. Says which of the decisions is about it.
    pub fn begin(&mut self, ends: Ends, pieces: &[Vec<u8>]) -> Told<usize> {
        let Ends { protocol, client, vip } = ends;
        if self.find(ends).is_some() {
            return Err(format!(
                "{client} has a flow to {vip} already, and scripts run on the first packet only: \
                 let it end with lb:advance, or take another client port"
            ));
        }
        let counted = self.counted();
        let explanation = if self.shakes_hands(ends) {
            self.shake_hands(ends, pieces)?
        } else {
            let payload = only_piece(pieces)?;
            let query = Query { protocol, client, vip, payload, stream: None };
            let frame = first_packet(&query).ok_or_else(|| too_long(payload))?;
            self.receive(&frame).explanation
        };
        self.decisions.push(explanation.ok_or_else(|| self.why_dropped(&counted))?);
        Ok(self.decisions.len() - 1)
    }

    /// How a flow was decided.
    pub fn decision(&self, number: usize) -> Option<&Explanation> {
        self.decisions.get(number)
    }

    /// The last word about a flow that was waiting.
    pub(super) fn decided(&mut self, explanation: Explanation) {
        let ends = |it: &Explanation| (it.protocol.clone(), it.client, it.vip);
        let of = ends(&explanation);
        if let Some(known) = self.decisions.iter_mut().rev().find(|known| ends(known) == of) {
            *known = explanation;
        }
    }

    /// The flow's server sends its first packet, or another; of TCP the client acknowledges it, and
    /// the connection stands.
    pub fn answer(&mut self, ends: Ends, payload: &[u8]) -> Told<()> {
        let Some(found) = self.find(ends) else {
            return Err("the flow has ended: no server answers any more".to_owned());
        };
        if found.server().is_none() {
            return Err(match found.state() {
                State::Inspected => {
                    "the flow's scripts wait for more payload: it has no server yet"
                }
                _ => "the flow was closed: it has no server that could answer",
            }
            .to_owned());
        }
        if let Some(connection) = self.connections.get(&ends).copied() {
            return self.answer_stream(connection, &found, payload);
        }
        let frame = from_server(&found, payload).ok_or_else(|| too_long(payload))?;
        self.receive(&frame);
        if let (Protocol::Tcp, Some(frame)) = (ends.protocol, from_client(&found, &[])) {
            self.receive(&frame);
        }
        Ok(())
    }

    /// Time passes.
    pub fn advance(&mut self, by: Duration) {
        let end = self.now + by;
        let step = STEP.max(by / STEPS);
        while self.now < end {
            self.now = (self.now + step).min(end);
            let now = self.simulation.at(self.now);
            self.simulation.tick(now, &mut self.effects);
            let decided: Vec<_> = self.effects.explanations.drain(..).collect();
            decided.into_iter().for_each(|explanation| self.decided(explanation));
            self.collect();
        }
    }

    /// What scripts have said of a flow that goes on.
    pub fn note(&self, ends: Ends) -> Option<Note> {
        self.find(ends).map(|found| self.simulation.note(&found))
    }

    /// The entries of a table.
    pub fn table(&self, service: &str, table: &[u8]) -> Told<Vec<Listed>> {
        self.service(service)?;
        let now = self.simulation.at(self.now).monotonic;
        let table = self.simulation.tables().table(service, table);
        Ok(table.map(|table| table.entries(&[], usize::MAX, now)).unwrap_or_default())
    }

    /// Puts an entry into a table, whatever was there.
    pub fn put(
        &self,
        (service, table): (&str, &[u8]),
        (key, value): (&[u8], Value),
        lifetime: Duration,
    ) -> Told<()> {
        self.service(service)?;
        let tables = self.simulation.tables();
        let (limits, now) = (tables.limits(), self.simulation.at(self.now).monotonic);
        if key.len() > limits.key_size {
            return Err(format!("put: a key has at most {} bytes", limits.key_size));
        }
        if matches!(&value, Value::String(text) if text.len() > limits.value_size) {
            return Err(format!("put: a value has at most {} bytes", limits.value_size));
        }
        let table = tables.table_or_create(service, table);
        match table.is_some_and(|table| table.put(key, value, lifetime, now)) {
            true => Ok(()),
            false => Err(format!("put: the table is full, it holds {} entries", limits.entries)),
        }
    }

    /// Lets servers of a pool take new flows, or no more: one, or all of them.
    pub fn enable(&mut self, pool: &str, server: Option<&str>, enabled: bool) -> Told<()> {
        let mut config = Config::clone(self.simulation.config());
        let names: Vec<_> = config.pools.iter().map(|pool| pool.name.clone()).collect();
        let found = config.pools.iter_mut().find(|found| found.name == pool);
        let found = found.ok_or_else(|| unknown("pool", pool, &names))?;
        let is_meant = |address: SocketAddr| match server {
            None => true,
            Some(server) => address.to_string() == server || address.ip().to_string() == server,
        };
        let mut changed = 0;
        for server in found.servers.iter_mut().filter(|server| is_meant(server.address)) {
            server.enabled = enabled;
            changed += 1;
        }
        if changed == 0 {
            let servers: Vec<_> = found.servers.iter().map(|it| it.address.to_string()).collect();
            let (server, all) = (server.unwrap_or_default(), servers.join(", "));
            return Err(format!("pool {pool:?} has no server {server}; there are {all}"));
        }
        self.simulation.replace(Arc::new(config)).map_err(|error| error.to_string())
    }

    /// A virtual service by its name.
    pub fn service(&self, name: &str) -> Told<&VirtualService> {
        let services = &self.simulation.config().virtual_services;
        let found = services.iter().find(|service| service.name == name);
        let names = || services.iter().map(|service| service.name.clone()).collect::<Vec<_>>();
        found.ok_or_else(|| unknown("virtual service", name, &names()))
    }

    /// The only virtual service, or the only one at an address.
    pub fn only_service(
        &self,
        vip: Option<SocketAddr>,
        protocol: Option<Protocol>,
    ) -> Told<&VirtualService> {
        let services = self.simulation.config().virtual_services.iter();
        let is_meant = |service: &&VirtualService| {
            vip.is_none_or(|vip| service.address == vip)
                && protocol.is_none_or(|protocol| service.protocol() == protocol)
        };
        let mut meant = services.clone().filter(is_meant);
        match (meant.next(), meant.next()) {
            (Some(only), None) => Ok(only),
            (first, _) => {
                let what = if first.is_some() {
                    "several virtual services are"
                } else {
                    "no virtual service is"
                };
                let all: Vec<_> = services.map(described).collect();
                Err(format!("flow: {what} meant; there are {}", all.join(", ")))
            }
        }
    }

    pub(super) fn find(&self, ends: Ends) -> Option<Found> {
        self.simulation.flow(ends.protocol, ends.client, ends.vip)
    }

    /// What would be said of a flow that began now.
    pub(super) fn rehearse(&mut self, query: Query<'_>) -> Option<Explanation> {
        let now = self.simulation.at(self.now);
        self.simulation.explain(now, query)
    }

    pub(super) fn receive(&mut self, frame: &[u8]) -> Came {
        let now = self.simulation.at(self.now);
        self.simulation.receive(now, frame, &mut self.effects);
        // A flow that was closed by it is logged at once.
        self.simulation.tick(now, &mut self.effects);
        let frames = self.effects.frames().map(|sent| sent.frame.to_vec()).collect();
        let explanation = self.effects.explanations.pop();
        self.collect();
        Came { frames, explanation }
    }

    /// Keeps what was logged.
    fn collect(&mut self) {
        self.records.append(&mut self.effects.log);
        self.effects.clear();
    }

    fn counted(&self) -> Vec<u64> {
        Event::ALL.iter().map(|event| self.simulation.counters().get(*event)).collect()
    }

    /// Why a first packet got no decision, from what has been counted since.
    fn why_dropped(&self, before: &[u64]) -> String {
        let now = self.counted();
        let mut counted = Event::ALL.iter().zip(before.iter().zip(&now));
        let dropped = counted
            .find(|(event, (before, now))| before != now && event.name().starts_with("drop_"));
        let why = dropped.map_or("", |(event, _)| event.description().trim());
        format!("the packet was dropped before any decision. {why}")
    }
}

fn described(service: &VirtualService) -> String {
    format!("{:?} ({} {})", service.name, service.protocol().name(), service.address)
}

fn unknown(what: &str, name: &str, names: &[String]) -> String {
    match nearest(name, names.iter().map(String::as_str)) {
        Some(nearest) => format!("no {what} is named {name:?}; did you mean {nearest:?}?"),
        None => format!("no {what} is named {name:?}; there are {}", names.join(", ")),
    }
}

/// What is decided on one packet has one payload.
fn only_piece(pieces: &[Vec<u8>]) -> Told<&[u8]> {
    match pieces {
        [] => Ok(&[]),
        [only] => Ok(only),
        _ => Err("flow: `payload` comes in pieces where tcp_mode = \"inspect\"; elsewhere the \
                  first packet decides"
            .to_owned()),
    }
}

fn too_long(payload: &[u8]) -> String {
    format!("a payload of {} bytes does not fit into one packet", payload.len())
}
