//! The sans-I/O core of a worker: packet in and time, effects out.
//!
//! [`Engine::receive`] decides about a punted frame; [`Engine::tick`] does what time demands. Both
//! touch nothing but the flow table, the tables of scripts and [`Effects`]: the same engine runs
//! in the daemon, in replay and in tests. Time, neighbours and server status are arguments.

mod adopt;
mod candidates;
mod counters;
mod decide;
mod effects;
mod evidence;
mod explain;
pub mod explanation;
mod first;
mod flows;
mod fragments;
mod generation;
mod gone;
mod handshakes;
mod held;
mod icmp;
pub mod inspect;
mod inspected;
mod install;
mod lifecycle;
pub mod log;
mod mail;
mod neighbours;
mod obituary;
pub mod packet;
mod persistence;
mod ports;
mod reset;
mod responses;
mod servers;
mod shared;
mod tally;
mod tapped;
mod view;
mod watched;

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
    splice::Splice,
    wire::{IPV4, TcpFlags},
};

pub use adopt::{adopt, snat_sources};
pub use counters::Counters;
pub use effects::{Effects, Response, Transmit};
pub use explanation::{Explanation, FirstPacket, Query, Ruling};
pub use generation::Generation;
pub use handshakes::CookieJar;
pub(crate) use lifecycle::Hand;
pub use lifecycle::State;
pub use log::FlowLog;
pub use mail::{Letter, Mail};
pub use neighbours::{Neighbours, Toward};
pub use ports::{Peer, PortCount, PortGauges};
pub use shared::{Gauge, Shared};
pub use view::{FlowView, Found};

use decide::Status;
use flows::{Flows, Reuse};
use fragments::{Fragments, Gathered, Whole};
use held::{Held, Waiting};
use icmp::IcmpError;
use inspected::Inspections;
use install::tick;
use packet::{Network, Packet, Parsed, Unreadable};
use ports::Ports;
use tapped::Taps;

use crate::{
    flow_table::SlotId,
    pool::{Balancer, Seat},
    script::{self, Runtime},
};

/// The time, by both clocks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
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

impl Position {
    fn seat(self) -> Seat {
        Seat { worker: self.worker.into(), workers: self.workers.into() }
    }
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
    inspections: Inspections,
    taps: Taps,
    /// When it was first looked after.
    began: Option<Duration>,
    scratch: Vec<u8>,
    /// Whether decisions are explained.
    explains: bool,
}

/// What a worker works with while it deals with one frame.
struct Turn<'a> {
    now: Now,
    neighbours: &'a dyn Neighbours,
    effects: &'a mut Effects,
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
    /// Whether the program could not read the packet's ports.
    fn is_irregular(&self, packet: &Packet<'_>) -> bool {
        !self.fragments.is_empty() || packet.network.header != IPV4
    }

    /// The frames that the packet came in, as they came.
    fn frames(&self) -> Vec<Vec<u8>> {
        if self.fragments.is_empty() {
            return vec![self.frame.to_vec()];
        }
        let link = &self.frame[..packet::link_length(self.frame)];
        self.fragments.iter().map(|fragment| [link, fragment].concat()).collect()
    }
}

/// What is behind a packet's IPv4 header.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Carries {
    /// The transport header, whose ports and checksum are rewritten too.
    Transport,
    /// A later part of a packet in fragments.
    Rest,
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
        let ports = Ports::new(&ports::Settings::new(instance, position), &shared.snat_ports);
        Ok(Self {
            position,
            balancer: Balancer::new(&generation.pools, position.seat()),
            ports,
            flows: Flows::new(instance, position.worker),
            fragments: Fragments::default(),
            held: Held::default(),
            inspections: Inspections::within(inspected::MEMORY),
            taps: Taps::default(),
            began: None,
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
        self.balancer = Balancer::new(&generation.pools, self.position.seat());
        let settings = ports::Settings::new(instance, self.position);
        self.ports.configure(&settings, &self.shared.snat_ports);
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

    /// Fetches what [`Self::receive`] will look at, so that it need not wait for it: a worker says so
    /// of all frames of a batch before it comes to the first.
    pub fn expect(&self, frame: &[u8]) {
        if let Ok(Parsed::Transport(packet)) = packet::parse(frame) {
            self.shared.flows.fetch_places(&packet.key());
        }
    }

    /// Decides about a frame that the packet program punted.
    pub fn receive(
        &mut self,
        now: Now,
        interface: u32,
        frame: &[u8],
        neighbours: &dyn Neighbours,
        effects: &mut Effects,
    ) {
        let mut turn = Turn { now, neighbours, effects };
        self.take(&mut turn, Ingress { interface, frame, fragments: &[] });
    }

    fn take(&mut self, turn: &mut Turn<'_>, ingress: Ingress<'_>) {
        let now = turn.now;
        match packet::parse(ingress.frame) {
            Ok(Parsed::Transport(packet)) => {
                if let Some(known) = self.admit(turn, &packet, ingress) {
                    let bytes = packet.network.bytes;
                    self.forward(turn, known, packet.protocol, bytes, Carries::Transport);
                    self.touch(now, known.0, ingress.frame.len(), packet.flags());
                }
            }
            Ok(Parsed::Fragment(fragment)) => match self.fragments.add(now.monotonic, &fragment) {
                Gathered::Waiting => {}
                Gathered::Dropped(count) => self.count(Event::DropFragment, count),
                Gathered::Whole(whole) => self.whole(turn, &whole, ingress),
            },
            Ok(Parsed::Icmp(network)) => self.icmp(turn, network, ingress),
            Err(Unreadable::Malformed) => self.count(Event::DropMalformed, 1),
            Err(Unreadable::Foreign) => self.count(Event::DropNoFlow, 1),
        }
    }

    /// Does what is due: expiry, slots given back, packets that waited.
    pub fn tick(&mut self, now: Now, neighbours: &dyn Neighbours, effects: &mut Effects) {
        self.began.get_or_insert(now.monotonic);
        let mut turn = Turn { now, neighbours, effects };
        self.flows.tick(&mut turn, &self.shared, &mut self.ports);
        self.ports.look_after(now.monotonic);
        let late = self.fragments.expire(now.monotonic);
        self.count(Event::DropFragment, late);
        self.release_held(&mut turn);
        self.look_after_inspections(&mut turn);
        self.expire_taps(now.monotonic);
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
        turn: &mut Turn<'_>,
        packet: &Packet<'_>,
        ingress: Ingress<'_>,
    ) -> Option<Known> {
        if let Some((id, entry)) = self.shared.flows.find(&packet.key()) {
            // Nobody ends an inspection but itself, whatever resets the slot has counted.
            if entry.flags.has(Flags::INSPECTED) {
                self.inspected(turn, packet, ingress, (id, entry));
                return None;
            }
            let again = packet.flags().opens() && !entry.flags.has(Flags::REPLY);
            let reuse =
                if again { self.flows.end_if_over(id, &self.shared) } else { Reuse::GoesOn };
            match reuse {
                Reuse::GoesOn => {}
                Reuse::Ended => return self.first(turn, packet, ingress),
                Reuse::LeftToOwner => {
                    self.count(Event::DropClosed, 1);
                    return None;
                }
            }
            return self.of_known_flow(turn, packet, ingress, (id, entry));
        }
        self.first(turn, packet, ingress)
    }

    fn of_known_flow(
        &mut self,
        turn: &mut Turn<'_>,
        packet: &Packet<'_>,
        ingress: Ingress<'_>,
        known: Known,
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
        if !entry.flags.has(Flags::PUNT_RESPONSE) {
            return Some(known);
        }
        let failed = if entry.flags.has(Flags::SPLICED) {
            self.own_connection(turn, id, true, ingress)?;
            self.tap(turn, packet, id)
        } else {
            self.respond(turn, packet, id)
        };
        let Some(found) = failed else { return Some(known) };
        self.close_established(turn, packet, &found);
        None
    }

    /// Rewrites a packet of a known flow and sends it on.
    fn forward(
        &mut self,
        turn: &mut Turn<'_>,
        (_, entry): Known,
        protocol: Protocol,
        packet: &[u8],
        carries: Carries,
    ) {
        self.scratch.clear();
        self.scratch.extend_from_slice(packet);
        let has_transport = carries == Carries::Transport;
        packet::rewrite(&mut self.scratch, &entry.rewrite, protocol, has_transport);
        let splice = Splice::of(&entry).filter(|_| has_transport);
        let header = usize::from(packet[0] & 0x0f) * 4;
        if let (Some(splice), Some(segment)) = (splice, self.scratch.get_mut(header..)) {
            splice.segment(segment);
        }
        self.send(turn, entry.next_hop);
    }

    /// Sends what is in the scratch buffer, or keeps it until the next hop is known and those that
    /// came before have left.
    fn send(&mut self, turn: &mut Turn<'_>, id: NextHopId) {
        let next_hop = turn.neighbours.entry(id);
        if next_hop.is_resolved() && !self.held.has_for(id) {
            turn.effects.transmit(&next_hop, &self.scratch);
            return;
        }
        let waiting = Waiting::Decided(id, self.scratch.clone());
        if !self.held.push(turn.now.monotonic, waiting) {
            self.count(Event::DropNextHopUnresolved, 1);
        }
    }

    fn touch(&self, now: Now, id: SlotId, bytes: usize, flags: TcpFlags) {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.shared.flows.slot(id).touch(tick(now.monotonic), bytes, flags);
    }

    /// A packet that came in fragments and is whole: decided as one, sent on as it came.
    fn whole(&mut self, turn: &mut Turn<'_>, whole: &Whole, ingress: Ingress<'_>) {
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
        let Some(known) = self.admit(turn, &packet, ingress) else { return };
        for (index, fragment) in whole.fragments.iter().enumerate() {
            let carries = if index == 0 { Carries::Transport } else { Carries::Rest };
            self.forward(turn, known, packet.protocol, fragment, carries);
            self.touch(turn.now, known.0, link + fragment.len(), packet.flags());
        }
    }

    /// An ICMP error about one of our flows.
    fn icmp(&mut self, turn: &mut Turn<'_>, network: Network<'_>, ingress: Ingress<'_>) {
        let known = IcmpError::new(network)
            .and_then(|error| Some((error, self.shared.flows.find(&error.key())?)));
        match known {
            Some((error, known)) if known.1.flags.has(Flags::INSPECTED) => {
                self.inspected_error(turn, &error, ingress, known);
            }
            Some((error, (_, entry))) if !entry.flags.has(Flags::CLOSED) && network.ttl() > 1 => {
                self.scratch = error.rewritten(&entry);
                self.send(turn, entry.next_hop);
            }
            _ => self.count(Event::DropNoFlow, 1),
        }
    }

    fn release_held(&mut self, turn: &mut Turn<'_>) {
        if self.held.is_empty() {
            return;
        }
        let neighbours = turn.neighbours;
        let is_ready = |waiting: &Waiting| match waiting {
            Waiting::Decided(id, _) => neighbours.entry(*id).is_resolved(),
            Waiting::Undecided { client, .. } => neighbours.toward(*client) != Toward::Unknown,
        };
        let (ready, expired) = self.held.take_ready(turn.now.monotonic, is_ready);
        self.count(Event::DropNextHopUnresolved, expired);
        for waiting in ready {
            match waiting {
                Waiting::Decided(id, packet) => {
                    turn.effects.transmit(&neighbours.entry(id), &packet);
                }
                Waiting::Undecided { interface, frame, .. } => {
                    self.take(turn, Ingress { interface, frame: &frame, fragments: &[] });
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
