//! The first packet of a flow: from the virtual service to both entries, or to a refusal.

use std::{net::IpAddr, sync::Arc};

use lb_common::{
    address::Protocol, event::Event, flow::FlowRecord, next_hop::NextHopId, service::ServiceKey,
    time::Tick,
};

use super::{
    Engine, Generation, Ingress, Known, Now, Toward, Turn,
    decide::{Choice, Decided, Decision},
    explanation::Query,
    held::Waiting,
    install::{self, NewFlow},
    log::EndReason,
    obituary::Refused,
    packet::Packet,
    ports::Peer,
    reset,
};
use crate::config::VirtualService;

/// A first packet on its way to a decision.
#[derive(Clone, Copy)]
struct First<'a> {
    packet: &'a Packet<'a>,
    ingress: Ingress<'a>,
    service: &'a VirtualService,
    index: usize,
    to_client: NextHopId,
}

impl Engine {
    /// The first packet of a flow.
    pub(super) fn first(
        &mut self,
        turn: &mut Turn<'_>,
        packet: &Packet<'_>,
        ingress: Ingress<'_>,
    ) -> Option<Known> {
        let generation = Arc::clone(&self.generation);
        let key = ServiceKey::at(packet.destination(), packet.protocol);
        let Some((index, service)) = generation.service(&key) else {
            self.count(Event::DropNoFlow, 1);
            return None;
        };
        if ingress.is_irregular(packet) && !is_allowed(&generation, service, packet) {
            self.count(Event::DropDenied, 1);
            return None;
        }
        let is_tcp = packet.protocol == Protocol::Tcp;
        if is_tcp && self.shake_hands(turn, packet, ingress, (index, service)) {
            return None;
        }
        if is_tcp && !packet.flags().opens() {
            reset_client(packet, ingress, turn);
            self.count(Event::DropNoFlow, 1);
            return None;
        }
        if let Some(event) = self.no_room(packet) {
            self.count(event, 1);
            return None;
        }
        let to_client = self.way_back(turn, packet, ingress)?;
        let query = Query {
            protocol: packet.protocol,
            client: packet.source(),
            vip: packet.destination(),
            payload: packet.payload,
            stream: None,
        };
        let (decided, explanation) = self.decide(turn.now, (index, service), query);
        let first = First { packet, ingress, service, index, to_client };
        let result = self.carry_out(turn, &first, decided);
        turn.effects.explanations.extend(explanation.map(|explanation| match &result {
            Ok(_) => *explanation,
            Err(event) => explanation.but_dropped(*event),
        }));
        result.ok()
    }

    /// The next hop toward the client. `None`: the packet waits for it, or is dropped and counted.
    pub(super) fn way_back(
        &mut self,
        turn: &mut Turn<'_>,
        packet: &Packet<'_>,
        ingress: Ingress<'_>,
    ) -> Option<NextHopId> {
        let client = packet.source().ip();
        match turn.neighbours.toward(client) {
            Toward::Known(id) if !self.held.has_from(client) => return Some(id),
            // Behind those that came before.
            Toward::Known(_) => self.hold_undecided(turn.now, client, ingress),
            Toward::Unknown => {
                turn.effects.resolve.push(client);
                self.hold_undecided(turn.now, client, ingress);
            }
            Toward::Unreachable => self.count(Event::DropUnreachable, 1),
        }
        None
    }

    pub(super) fn no_room(&self, packet: &Packet<'_>) -> Option<Event> {
        if packet.network.ttl() <= 1 {
            Some(Event::DropTtlExpired)
        } else if self.shared.gauge.is_full() {
            Some(Event::DropFlowTableFull)
        } else if self.shared.gauge.is_half_open_full() {
            Some(Event::DropHalfOpenLimit)
        } else {
            None
        }
    }

    /// Keeps a packet until the next hop toward its client is known.
    pub(super) fn hold_undecided(&mut self, now: Now, client: IpAddr, ingress: Ingress<'_>) {
        for frame in ingress.frames() {
            let interface = ingress.interface;
            let waiting = Waiting::Undecided { client, interface, frame };
            if !self.held.push(now.monotonic, waiting) {
                self.count(Event::DropNextHopUnresolved, 1);
            }
        }
    }

    fn carry_out(
        &mut self,
        turn: &mut Turn<'_>,
        first: &First<'_>,
        decided: Decided,
    ) -> Result<Known, Event> {
        let (event, reason, choice) = match decided.decision {
            Decision::Server(choice) => match self.install(turn, first, &choice, &decided) {
                Ok(known) => {
                    self.shared.notes.add(known.0, decided.note);
                    return Ok(known);
                }
                Err(event) => (event, EndReason::Refused, Some(choice)),
            },
            Decision::Refuse { event, reason } => (event, reason, None),
            // Of what is no stream no more can come.
            Decision::Wait(_) => (Event::DropNoPayload, EndReason::NoPayload, None),
        };
        self.refuse(turn, first, (event, reason, choice), decided);
        Err(event)
    }

    fn install(
        &mut self,
        turn: &mut Turn<'_>,
        first: &First<'_>,
        choice: &Choice,
        decided: &Decided,
    ) -> Result<Known, Event> {
        let Toward::Known(to_server) = turn.neighbours.toward(choice.address.ip()) else {
            return Err(Event::DropUnreachable);
        };
        let generation = &self.generation;
        let record = FlowRecord {
            pool: generation.pool_number(choice.pool),
            server: generation.server_number(choice.pool, choice.server),
            decided_by: choice.by as u8,
            ..self.record(turn.now, (first.index, first.service), decided)
        };
        let flow = NewFlow {
            key: first.packet.key(),
            joins: None,
            choice,
            forwarding: generation.pools.pool(choice.pool).forwarding(),
            to_server,
            to_client: first.to_client,
            show_response: generation.shows_response(first.service, choice.pool),
            record,
            now: turn.now.monotonic,
        };
        let installed = flow.install(&self.shared, &mut self.ports);
        if installed == Err(Event::DropSnatPortsExhausted) {
            let peer = Peer { server: choice.address, protocol: first.packet.protocol };
            if self.ports.is_to_report(peer, turn.now.monotonic) {
                turn.effects.out_of_ports.push(peer);
            }
        }
        let id = installed?;
        self.flows.begin(id, record.created, &self.shared);
        let policy = generation.pools.pool(choice.pool).policy();
        self.shared.servers.spend(record.server, policy, turn.now.monotonic);
        let entry = self.shared.flows.slot(id).snapshot().map(|(_, entry, _)| entry);
        entry.map(|entry| (id, entry)).ok_or(Event::DropNoFlow)
    }

    /// Of a flow that is decided now.
    pub(super) fn record(
        &self,
        now: Now,
        service: (usize, &VirtualService),
        decided: &Decided,
    ) -> FlowRecord {
        let script = decided
            .place
            .and_then(|place| Some((self.generation.script_number(place)?, place.line)));
        let rule = || decided.deciding_rule().map(|rule| (self.generation.rule_number(rule), 0));
        let (script, line) = script.or_else(rule).unwrap_or_default();
        FlowRecord { script, line, ..self.undecided(now, service) }
    }

    /// Of a flow that begins now.
    pub(super) fn undecided(
        &self,
        now: Now,
        (index, service): (usize, &VirtualService),
    ) -> FlowRecord {
        FlowRecord {
            created: u64::try_from(now.monotonic.as_nanos()).unwrap_or(u64::MAX),
            idle_timeout: Tick::ticks(service.idle_timeout),
            service: self.generation.service_number(index),
            generation: self.generation.number,
            owner: self.position.worker,
            ..FlowRecord::default()
        }
    }

    /// A flow that does not come to be: TCP is told, UDP is dropped, also what follows.
    fn refuse(
        &mut self,
        turn: &mut Turn<'_>,
        first: &First<'_>,
        (event, reason, choice): (Event, EndReason, Option<Choice>),
        decided: Decided,
    ) {
        self.count(event, 1);
        let closed = matches!(reason, EndReason::ClosedByScript | EndReason::ScriptError);
        let now = turn.now;
        let record = FlowRecord {
            decided_by: decided.refused_by(),
            ..self.record(now, (first.index, first.service), &decided)
        };
        match first.packet.protocol {
            Protocol::Tcp => reset_client(first.packet, first.ingress, turn),
            Protocol::Udp if closed => {
                let key = first.packet.key();
                let table = &self.shared.flows;
                if let Ok(id) = install::install_closed(table, &key, &record, now.monotonic) {
                    // Logged when the entry goes, with what it has swallowed.
                    self.shared.notes.add(id, decided.note);
                    self.flows.begin(id, record.created, &self.shared);
                    self.touch(now, id, first.ingress.frame.len(), first.packet.flags());
                    return;
                }
            }
            Protocol::Udp => {}
        }
        let refused = Refused {
            record: &record,
            packet: first.packet,
            bytes: first.ingress.frame.len(),
            reason,
            pool: choice.map(|choice| self.generation.pool_number(choice.pool)),
            server: choice.map(|choice| choice.address),
            note: decided.note,
        };
        turn.effects.log.push(refused.log(now, &self.shared));
    }
}

/// The program asks this of packets that it can read; the others are ours to refuse.
fn is_allowed(generation: &Generation, service: &VirtualService, packet: &Packet<'_>) -> bool {
    let policy = generation.security(service);
    policy.is_none_or(|policy| policy.allows(packet.source().ip()))
}

pub(super) fn reset_client(packet: &Packet<'_>, ingress: Ingress<'_>, turn: &mut Turn<'_>) {
    if let Some(reset) = reset::answer(packet) {
        turn.effects.answer(ingress.interface, ingress.frame, &reset);
    }
}
