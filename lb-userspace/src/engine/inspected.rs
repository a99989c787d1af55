//! Packets of connections that are inspected: from the state machine's actions to frames, entries
//! and log records.

use std::{collections::VecDeque, sync::Arc};

use lb_common::{
    address::{Address, Protocol},
    event::Event,
    flow::{Entry, Flags},
    service::ServiceKey,
    splice::{Handshakes, Sender},
};

use super::{
    Carries, Engine, Ingress, Known, Turn,
    decide::{Decided, Decision},
    explanation::Query,
    generation::Generation,
    icmp::IcmpError,
    inspect::{self, Action, Because, End, Input, Outgoing, Segment, SequenceNumber, Side},
    inspections::{Inspected, Moved},
    log::EndReason,
    mail::Letter,
    packet::{self, Packet},
};
use crate::{
    config::{TcpMode, Transport, VirtualService},
    flow_table::SlotId,
    script::More,
};

impl Engine {
    /// A packet whose flow is inspected. It goes no further as it is.
    pub(super) fn inspected(
        &mut self,
        turn: &mut Turn<'_>,
        packet: &Packet<'_>,
        ingress: Ingress<'_>,
        (id, entry): Known,
    ) {
        if packet.network.ttl() <= 1 {
            self.count(Event::DropTtlExpired, 1);
            return;
        }
        let from_server = entry.flags.has(Flags::REPLY);
        let Some((forward, created)) = self.own_inspection(turn, id, from_server, ingress) else {
            return;
        };
        let Some(segment) = Segment::read(packet) else {
            self.count(Event::DropMalformed, 1);
            return;
        };
        self.touch(turn.now, id, ingress.frame.len(), packet);
        let moved = if from_server { Moved::Server(&segment) } else { Moved::Client(&segment) };
        self.advance(turn, (forward, created), moved, Some(packet));
    }

    /// An ICMP error about a packet of ours to the server, or to the client.
    pub(super) fn inspected_error(
        &mut self,
        turn: &mut Turn<'_>,
        error: &IcmpError<'_>,
        ingress: Ingress<'_>,
        (id, entry): Known,
    ) {
        let from_server = entry.flags.has(Flags::REPLY);
        let Some(own) = self.own_inspection(turn, id, from_server, ingress) else { return };
        let number = SequenceNumber(error.quoted_sequence());
        let moved = match error.fitting() {
            Some(mtu) => Moved::TooBig(number, mtu),
            None => Moved::Unreachable(number),
        };
        // What the client cannot be told it will ask for again.
        if from_server {
            self.advance(turn, own, moved, None);
        }
    }

    /// The inspection that a slot belongs to. `None`: it is another worker's, which has the frame
    /// now.
    fn own_inspection(
        &mut self,
        turn: &mut Turn<'_>,
        id: SlotId,
        from_server: bool,
        ingress: Ingress<'_>,
    ) -> Option<(SlotId, u64)> {
        let flows = &self.shared.flows;
        let forward = if from_server { SlotId(flows.record(id).load().partner) } else { id };
        if forward.bucket() >= flows.geometry().total() {
            return None;
        }
        let record = flows.record(forward).load();
        if record.owner == self.position.worker {
            return Some((forward, record.created));
        }
        turn.effects.wake.push(record.owner);
        for frame in ingress.frames() {
            let letter = Letter { interface: ingress.interface, frame };
            if !self.shared.mail.send(record.owner, letter) {
                self.count(Event::DropReceiveFull, 1);
            }
        }
        None
    }

    /// Wakes inspections whose time has come, and takes what others have left for this worker.
    pub(super) fn look_after_inspections(&mut self, turn: &mut Turn<'_>) {
        for Letter { interface, frame } in self.shared.mail.take(self.position.worker) {
            self.take(turn, Ingress { interface, frame: &frame, fragments: &[] });
        }
        while let Some(due) = self.inspections.due(turn.now.monotonic) {
            self.advance(turn, due, Moved::Time, None);
        }
    }

    /// Brings a connection forward, and does what follows from that.
    pub(super) fn advance(
        &mut self,
        turn: &mut Turn<'_>,
        (id, created): (SlotId, u64),
        moved: Moved<'_>,
        packet: Option<&Packet<'_>>,
    ) {
        let Some(mut inspected) = self.inspections.take(id, created) else {
            self.count(Event::DropNoFlow, 1);
            return;
        };
        if let (Moved::Server(_), Some(server)) = (moved, &mut inspected.server)
            && let Some(asked) = server.asked.take()
        {
            let after = turn.now.monotonic.saturating_sub(asked);
            self.shared.servers.answered(server.number, after);
        }
        let input = match moved {
            Moved::Client(segment) => Input::Client(segment),
            Moved::Server(segment) => Input::Server(segment),
            Moved::Unreachable(quoted) => Input::Unreachable(quoted),
            Moved::TooBig(quoted, mtu) => Input::TooBig { quoted, mtu },
            Moved::Time => Input::Timer,
        };
        let mut actions = Vec::new();
        inspected.inspection.step(turn.now.monotonic, input, &mut actions);
        self.act(turn, &mut inspected, packet, actions);
        if inspected.inspection.is_over() {
            return;
        }
        self.inspections.put(inspected);
        if self.inspections.is_full()
            && let Some(mut inspected) = self.inspections.take(id, created)
        {
            let refusal = (Event::DropInspectMemory, EndReason::Refused);
            let actions = abort(&mut inspected, refusal);
            self.act(turn, &mut inspected, None, actions);
        }
    }

    fn act(
        &mut self,
        turn: &mut Turn<'_>,
        inspected: &mut Inspected,
        packet: Option<&Packet<'_>>,
        actions: Vec<Action>,
    ) {
        let mut handshakes = inspected.inspection.handshakes();
        let mut actions = VecDeque::from(actions);
        while let Some(action) = actions.pop_front() {
            let decision = match action {
                Action::Send(side, segment) => {
                    self.send_segment(turn, inspected, side, &segment);
                    continue;
                }
                Action::Forward(side) => {
                    if let (Some(packet), Some(handshakes)) = (packet, handshakes)
                        && !self.forward_early(turn, inspected, side, packet, handshakes)
                    {
                        let refusal = (Event::DropScriptError, EndReason::ScriptError);
                        actions = abort(inspected, refusal).into();
                    }
                    continue;
                }
                Action::Splice(agreed) => {
                    handshakes = Some(agreed);
                    self.splice(inspected, agreed);
                    continue;
                }
                Action::End(end) => {
                    self.end_inspected(turn, inspected, end);
                    continue;
                }
                Action::Decide(because) => self.decide_inspected(turn, inspected, because),
                Action::ServerFailed(_) => self.next_server(turn, inspected),
            };
            let mut more = Vec::new();
            let now = turn.now.monotonic;
            inspected.inspection.step(now, Input::Decided(decision), &mut more);
            actions.extend(more);
        }
    }

    /// Runs the scripts over what is there, and chooses a server if they have seen enough.
    fn decide_inspected(
        &mut self,
        turn: &mut Turn<'_>,
        inspected: &mut Inspected,
        because: Because,
    ) -> inspect::Decision {
        let generation = Arc::clone(&self.generation);
        let ends = &inspected.client;
        let vip = Address::v4(ends.destination);
        let key = ServiceKey::new(vip, ends.destination_port, Protocol::Tcp);
        let Some((index, service)) = generation.service(&key) else {
            return self.refuse_inspected(inspected, Event::DropNoFlow, EndReason::Refused);
        };
        let payload = inspected.inspection.payload().to_vec();
        let stream = inspects(service).then(|| more(because, &inspected.inspection));
        let query = Query {
            protocol: Protocol::Tcp,
            client: packet::socket_address(ends.source, ends.source_port),
            vip: packet::socket_address(ends.destination, ends.destination_port),
            payload: if stream.is_some() { &payload } else { &[] },
            stream,
        };
        let (decided, explanation) = self.decide(turn.now, (index, service), query);
        turn.effects.explanations.extend(explanation);
        self.follow(turn, inspected, &generation, (index, service), decided)
    }

    fn follow(
        &mut self,
        turn: &mut Turn<'_>,
        inspected: &mut Inspected,
        generation: &Generation,
        (index, service): (usize, &VirtualService),
        decided: Decided,
    ) -> inspect::Decision {
        let (id, in_order) = (inspected.id, decided.closes_in_order);
        match decided.decision {
            Decision::Server(choice) => {
                let record = self.record(turn.now, (index, service), &decided);
                self.shared.notes.add(id, decided.note);
                self.connect(turn, inspected, (service, generation), choice, record)
            }
            Decision::Wait(bytes) => inspect::Decision::Collect(bytes),
            Decision::Refuse { event, reason } => {
                let record = self.shared.flows.record(id);
                let created = record.load().created;
                let new = self.record(turn.now, (index, service), &decided);
                record.store(&lb_common::flow::FlowRecord {
                    created,
                    decided_by: decided.refused_by(),
                    partner: record.load().partner,
                    bits: record.load().bits,
                    ..new
                });
                self.shared.notes.add(id, decided.note);
                match self.refuse_inspected(inspected, event, reason) {
                    inspect::Decision::Refuse if in_order => inspect::Decision::Close,
                    decision => decision,
                }
            }
        }
    }

    /// The connection is to end for this reason.
    pub(super) fn refuse_inspected(
        &mut self,
        inspected: &mut Inspected,
        event: Event,
        reason: EndReason,
    ) -> inspect::Decision {
        inspected.refusal = Some((event, reason));
        inspect::Decision::Refuse
    }

    fn send_segment(
        &mut self,
        turn: &mut Turn<'_>,
        inspected: &Inspected,
        side: Side,
        segment: &Outgoing,
    ) {
        let to_client = (inspected.client.reversed(), inspected.to_client);
        let to_server = inspected.server.map(|server| (server.ends, server.to_server));
        let way = match side {
            Side::Client => Some(to_client),
            Side::Server => to_server,
        };
        let Some((ends, next_hop)) = way else { return };
        let payload = inspected.inspection.payload().get(segment.payload.clone());
        self.scratch.clear();
        segment.write(&ends, payload.unwrap_or_default(), &mut self.scratch);
        self.send(turn, next_hop);
    }

    /// Sends the packet that came in on as the program will once the connection is spliced. False
    /// if a response script has failed over it before that.
    fn forward_early(
        &mut self,
        turn: &mut Turn<'_>,
        inspected: &Inspected,
        to: Side,
        packet: &Packet<'_>,
        handshakes: Handshakes,
    ) -> bool {
        let record = self.shared.flows.record(inspected.id).load();
        let (slot, sender) = match to {
            Side::Server => (inspected.id, Sender::Client),
            Side::Client => (SlotId(record.partner), Sender::Server),
        };
        let Some((_, entry, _)) = self.shared.flows.slot(slot).snapshot() else { return true };
        let is_inspected = entry.flags.has(Flags::INSPECTED);
        if entry.flags.has(Flags::PUNT_RESPONSE)
            && let Some(found) = self.tap(turn, packet, slot)
        {
            if !is_inspected {
                self.close_established(turn, packet, &found);
            }
            return !is_inspected;
        }
        if packet.flags().rst() {
            self.shared.flows.slot(slot).mark_reset(true);
        }
        let known = (slot, handshakes.splice(sender).entry(entry));
        self.forward(turn, known, Protocol::Tcp, packet.network.bytes, Carries::Transport);
        true
    }

    /// Hands the connection to the program.
    fn splice(&mut self, inspected: &Inspected, handshakes: Handshakes) {
        let flows = &self.shared.flows;
        let reply = SlotId(flows.record(inspected.id).load().partner);
        // The reply first: no packet may reach a server whose answer is not translated.
        for (id, sender) in [(reply, Sender::Server), (inspected.id, Sender::Client)] {
            let Some((_, Entry { next_hop, rewrite, .. }, _)) = flows.slot(id).snapshot() else {
                continue;
            };
            // A reset that the inspection has not believed is none.
            flows.slot(id).mark_reset(false);
            flows.slot(id).amend(next_hop, &rewrite, &handshakes.splice(sender));
        }
        self.flows.watch(inspected.id, inspected.created);
    }

    fn end_inspected(&mut self, turn: &Turn<'_>, inspected: &Inspected, end: End) {
        if let (Some(server), End::NoServer(_) | End::Undelivered) = (inspected.server, end) {
            self.shared.servers.observe(server.number, true, turn.now.monotonic);
        }
        let no_payload = (Event::DropNoPayload, EndReason::NoPayload);
        let no_server = (Event::DropNoServer, EndReason::Refused);
        let (event, reason) = match (inspected.refusal, end) {
            (Some((event, reason)), _) => (Some(event), reason),
            (None, End::ClientReset) => (None, EndReason::Reset),
            (None, End::NoServer(_) | End::Undelivered) => (Some(no_server.0), no_server.1),
            (None, _) => (Some(no_payload.0), no_payload.1),
        };
        event.into_iter().for_each(|event| self.count(event, 1));
        self.flows.end(inspected.id, reason, &self.shared);
    }
}

/// Ends an inspection for a reason of ours.
fn abort(inspected: &mut Inspected, refusal: (Event, EndReason)) -> Vec<Action> {
    let mut actions = Vec::new();
    inspected.refusal = Some(refusal);
    inspected.inspection.abort(&mut actions);
    actions
}

/// Whether a service's scripts see payload before they decide.
pub(super) fn inspects(service: &VirtualService) -> bool {
    matches!(service.transport, Transport::Tcp(TcpMode::Inspect(_)))
}

/// Whether waiting may bring more than is there.
fn more(because: Because, inspection: &inspect::Inspection) -> More {
    match because {
        Because::Silent => More::Late,
        Because::Enough if !inspection.is_complete() => More::MayCome,
        Because::Enough | Because::Closed | Because::Full => More::Closed,
    }
}
