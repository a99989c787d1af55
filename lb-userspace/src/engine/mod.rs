//! The sans-I/O core of a worker: packet in and time, effects out.
//!
//! [`Engine::receive`] decides about a punted frame; [`Engine::tick`] does what time demands. Both
//! touch nothing but the flow table, the tables of scripts and [`Effects`]: the same engine runs
//! in the daemon, in replay and in tests. Time, neighbours and server status are arguments.

mod counters;
mod decide;
mod effects;
mod explain;
pub mod explanation;
mod first;
mod flows;
mod fragments;
mod generation;
mod held;
mod icmp;
mod install;
mod lifecycle;
pub mod log;
mod neighbours;
pub mod packet;
mod persistence;
mod ports;
mod reset;
mod responses;
mod shared;
mod view;

use std::{
    rc::Rc,
    sync::Arc,
    time::{Duration, SystemTime},
};

use lb_common::{
    address::Protocol,
    event::Event,
    flow::{Entry, Flags},
    next_hop::NextHopId,
};

pub use counters::Counters;
pub use effects::{Effects, Response, Transmit};
pub use explanation::{Explanation, Query, Ruling};
pub use flows::adopt;
pub use generation::Generation;
pub(crate) use lifecycle::Hand;
pub use lifecycle::State;
pub use log::FlowLog;
pub use neighbours::{Neighbours, Toward};
pub use shared::{Gauge, Shared};
pub use view::{FlowView, Found};

use decide::Status;
use flows::{Flows, Reuse};
use fragments::{Fragments, Gathered, Whole};
use held::{Held, Waiting};
use icmp::IcmpError;
use install::tick;
use packet::{Network, Packet, Parsed, Unreadable};
use ports::Ports;

use crate::{
    flow_table::SlotId,
    pool::Balancer,
    script::{self, Runtime},
};

/// The time, by both clocks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Now {
    /// `CLOCK_MONOTONIC`: deadlines and ages.
    pub monotonic: Duration,
    /// For people: logs, and `os.time` of scripts.
    pub wall: SystemTime,
}

/// A worker's place among the others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Position {
    /// From 0.
    pub worker: u16,
    /// How many there are.
    pub workers: u16,
}

/// A worker's state. It stays on the worker's thread: Lua does not travel.
pub struct Engine {
    position: Position,
    shared: Arc<Shared>,
    counters: Arc<Counters>,
    generation: Arc<Generation>,
    /// The generation, as scripts may ask about it.
    world: Rc<dyn script::World>,
    runtime: Runtime,
    balancer: Balancer,
    ports: Ports,
    flows: Flows,
    fragments: Fragments,
    held: Held,
    scratch: Vec<u8>,
    /// Whether decisions are explained.
    explains: bool,
}

/// A frame that came in, and where.
#[derive(Clone, Copy, Debug)]
struct Ingress<'a> {
    interface: u32,
    /// The frame; of a packet in fragments, the one that made it whole.
    frame: &'a [u8],
    /// The fragments, if the packet came in such.
    fragments: &'a [Vec<u8>],
}

impl Ingress<'_> {
    /// The frames that the packet came in, as they came.
    fn frames(&self) -> Vec<Vec<u8>> {
        if self.fragments.is_empty() {
            return vec![self.frame.to_vec()];
        }
        let link = &self.frame[..packet::link_length(self.frame)];
        self.fragments.iter().map(|fragment| [link, fragment].concat()).collect()
    }
}

/// A packet's flow: the slot of its direction, and the entry in it.
type Known = (SlotId, Entry);

impl Engine {
    /// A worker's engine under a configuration. Fails if its scripts do not load.
    pub fn new(
        position: Position,
        shared: Arc<Shared>,
        counters: Arc<Counters>,
        generation: Arc<Generation>,
    ) -> Result<Self, script::ScriptError> {
        let instance = &generation.config.instance;
        let mut runtime = Runtime::new(instance.script, Arc::clone(&shared.tables))?;
        runtime.load(&generation.config)?;
        let share = ports::share(&instance.snat_ports, position.worker, position.workers);
        Ok(Self {
            position,
            balancer: Balancer::new(&generation.pools, position.worker.into()),
            ports: Ports::new(share),
            flows: Flows::new(instance, position.worker),
            fragments: Fragments::default(),
            held: Held::default(),
            scratch: Vec::new(),
            explains: false,
            world: Rc::new(Status(Arc::clone(&generation))),
            shared,
            counters,
            generation,
            runtime,
        })
    }

    /// New flows are decided by `generation` from now on. On an error the old one stays.
    pub fn replace(&mut self, generation: Arc<Generation>) -> Result<(), script::ScriptError> {
        let instance = &generation.config.instance;
        if instance.script == self.generation.config.instance.script {
            self.runtime.load(&generation.config)?;
        } else {
            let mut runtime = Runtime::new(instance.script, Arc::clone(&self.shared.tables))?;
            runtime.load(&generation.config)?;
            runtime.keep_journal(self.explains);
            self.runtime = runtime;
        }
        let Position { worker, workers } = self.position;
        self.balancer = Balancer::new(&generation.pools, worker.into());
        self.ports.set_share(ports::share(&instance.snat_ports, worker, workers));
        self.flows.set_timeouts(instance);
        self.world = Rc::new(Status(Arc::clone(&generation)));
        self.generation = generation;
        Ok(())
    }

    /// Takes over flows that are in the table already.
    pub fn take_over(&mut self, flows: &[SlotId]) {
        self.flows.take_over(flows, &self.shared, &mut self.ports);
    }

    /// The configuration in force.
    pub fn generation(&self) -> &Arc<Generation> {
        &self.generation
    }

    /// Decides about a frame that the XDP program punted.
    pub fn receive(
        &mut self,
        now: Now,
        interface: u32,
        frame: &[u8],
        neighbours: &dyn Neighbours,
        effects: &mut Effects,
    ) {
        let ingress = Ingress { interface, frame, fragments: &[] };
        match packet::parse(frame) {
            Ok(Parsed::Transport(packet)) => {
                if let Some(known) = self.admit(now, &packet, ingress, neighbours, effects) {
                    let bytes = packet.network.bytes;
                    self.forward(now, known, packet.protocol, bytes, true, neighbours, effects);
                    self.touch(now, known.0, frame.len(), &packet);
                }
            }
            Ok(Parsed::Fragment(fragment)) => match self.fragments.add(now.monotonic, &fragment) {
                Gathered::Waiting => {}
                Gathered::Dropped(count) => self.count(Event::DropFragment, count),
                Gathered::Whole(whole) => self.whole(now, &whole, ingress, neighbours, effects),
            },
            Ok(Parsed::Icmp(network)) => self.icmp(now, network, neighbours, effects),
            Err(Unreadable::Malformed) => self.count(Event::DropMalformed, 1),
            Err(Unreadable::Foreign) => self.count(Event::DropNoFlow, 1),
        }
    }

    /// Does what is due: expiry, slots given back, packets that waited.
    pub fn tick(&mut self, now: Now, neighbours: &dyn Neighbours, effects: &mut Effects) {
        self.flows.tick(now, &self.shared, &mut self.ports, &mut effects.log);
        let late = self.fragments.expire(now.monotonic);
        self.count(Event::DropFragment, late);
        self.release_held(now, neighbours, effects);
    }

    fn count(&self, event: Event, times: usize) {
        for _ in 0..times {
            self.counters.count(event);
        }
    }

    /// The flow that a packet belongs to, made if this is its first. `None`: the packet is dealt
    /// with, and counted if it was dropped.
    fn admit(
        &mut self,
        now: Now,
        packet: &Packet<'_>,
        ingress: Ingress<'_>,
        neighbours: &dyn Neighbours,
        effects: &mut Effects,
    ) -> Option<Known> {
        if let Some((id, entry)) = self.shared.flows.find(&packet.key()) {
            let again = packet.flags().opens() && !entry.flags.has(Flags::REPLY);
            let reuse =
                if again { self.flows.end_if_over(id, &self.shared) } else { Reuse::GoesOn };
            match reuse {
                Reuse::GoesOn => {}
                Reuse::Ended => return self.first(now, packet, ingress, neighbours, effects),
                Reuse::LeftToOwner => {
                    self.count(Event::DropClosed, 1);
                    return None;
                }
            }
            return self.of_known_flow(now, packet, (id, entry), neighbours, effects);
        }
        self.first(now, packet, ingress, neighbours, effects)
    }

    fn of_known_flow(
        &mut self,
        now: Now,
        packet: &Packet<'_>,
        known: Known,
        neighbours: &dyn Neighbours,
        effects: &mut Effects,
    ) -> Option<Known> {
        let (id, entry) = known;
        if entry.flags.has(Flags::CLOSED) {
            self.count(Event::DropClosed, 1);
            return None;
        }
        if packet.network.ttl() <= 1 {
            self.count(Event::DropTtlExpired, 1);
            return None;
        }
        let shows = entry.flags.has(Flags::PUNT_RESPONSE)
            && self.shared.flows.slot(id).take_flag(Flags::PUNT_RESPONSE);
        if shows && !self.respond(now, packet, id, neighbours, effects) {
            return None;
        }
        Some(known)
    }

    /// Rewrites a packet of a known flow and sends it on.
    #[expect(clippy::too_many_arguments, reason = "each is another thing, used once")]
    fn forward(
        &mut self,
        now: Now,
        (_, entry): Known,
        protocol: Protocol,
        packet: &[u8],
        has_transport: bool,
        neighbours: &dyn Neighbours,
        effects: &mut Effects,
    ) {
        self.scratch.clear();
        self.scratch.extend_from_slice(packet);
        packet::rewrite(&mut self.scratch, &entry.rewrite, protocol, has_transport);
        self.send(now, entry.next_hop, neighbours, effects);
    }

    /// Sends what is in the scratch buffer, or keeps it until the next hop is known and those that
    /// came before have left.
    fn send(
        &mut self,
        now: Now,
        id: NextHopId,
        neighbours: &dyn Neighbours,
        effects: &mut Effects,
    ) {
        let next_hop = neighbours.entry(id);
        if next_hop.is_resolved() && !self.held.has_for(id) {
            effects.transmit(&next_hop, &self.scratch);
        } else if !self.held.push(now.monotonic, Waiting::Decided(id, self.scratch.clone())) {
            self.count(Event::DropNextHopUnresolved, 1);
        }
    }

    fn touch(&self, now: Now, id: SlotId, bytes: usize, packet: &Packet<'_>) {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.shared.flows.slot(id).touch(tick(now.monotonic), bytes, packet.flags());
    }

    /// A packet that came in fragments and is whole: decided as one, sent on as it came.
    fn whole(
        &mut self,
        now: Now,
        whole: &Whole,
        ingress: Ingress<'_>,
        neighbours: &dyn Neighbours,
        effects: &mut Effects,
    ) {
        let read = Network::new(&whole.packet).and_then(Packet::new);
        let Ok(packet) = read else {
            self.count(Event::DropMalformed, whole.fragments.len());
            return;
        };
        // A transport header cut in two serves to slip past filters (RFC 1858 §3), and its
        // checksum would have to be found in another fragment.
        let headers = packet.network.header + packet.transport_header();
        if whole.fragments.first().is_none_or(|first| first.len() < headers) {
            self.count(Event::DropFragment, whole.fragments.len());
            return;
        }
        let link = packet::link_length(ingress.frame);
        let ingress = Ingress { fragments: &whole.fragments, ..ingress };
        let Some(known) = self.admit(now, &packet, ingress, neighbours, effects) else { return };
        for (index, fragment) in whole.fragments.iter().enumerate() {
            let first = index == 0;
            self.forward(now, known, packet.protocol, fragment, first, neighbours, effects);
            self.touch(now, known.0, link + fragment.len(), &packet);
        }
    }

    /// An ICMP error about one of our flows.
    fn icmp(
        &mut self,
        now: Now,
        network: Network<'_>,
        neighbours: &dyn Neighbours,
        effects: &mut Effects,
    ) {
        let known = IcmpError::new(network)
            .and_then(|error| Some((error, self.shared.flows.find(&error.key())?.1)));
        match known {
            Some((error, entry)) if !entry.flags.has(Flags::CLOSED) && network.ttl() > 1 => {
                self.scratch = error.rewritten(&entry);
                self.send(now, entry.next_hop, neighbours, effects);
            }
            _ => self.count(Event::DropNoFlow, 1),
        }
    }

    fn release_held(&mut self, now: Now, neighbours: &dyn Neighbours, effects: &mut Effects) {
        if self.held.is_empty() {
            return;
        }
        let is_ready = |waiting: &Waiting| match waiting {
            Waiting::Decided(id, _) => neighbours.entry(*id).is_resolved(),
            Waiting::Undecided { client, .. } => neighbours.toward(*client) != Toward::Unknown,
        };
        let (ready, expired) = self.held.take_ready(now.monotonic, is_ready);
        self.count(Event::DropNextHopUnresolved, expired);
        for waiting in ready {
            match waiting {
                Waiting::Decided(id, packet) => effects.transmit(&neighbours.entry(id), &packet),
                Waiting::Undecided { interface, frame, .. } => {
                    self.receive(now, interface, &frame, neighbours, effects);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
