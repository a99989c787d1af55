//! What comes in about an inspected connection: whose it is, and what it moves.

use lb_common::{event::Event, flow::Flags, wire::TcpFlags};

use super::Moved;
use crate::{
    engine::{
        Engine, Ingress, Known, Letter, Turn,
        icmp::IcmpError,
        inspect::{Segment, SequenceNumber},
        packet::Packet,
    },
    flow_table::SlotId,
};

impl Engine {
    /// A packet whose flow is inspected. It goes no further as it is.
    pub(in crate::engine) fn inspected(
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
        let Some((forward, created)) = self.own_connection(turn, id, from_server, ingress) else {
            return;
        };
        let Some(segment) = Segment::read(packet) else {
            self.count(Event::DropMalformed, 1);
            return;
        };
        // What its flags mean only the inspection can tell: anybody may send a FIN with any number.
        self.touch(turn.now, id, ingress.frame.len(), TcpFlags(0));
        let moved = if from_server { Moved::Server(&segment) } else { Moved::Client(&segment) };
        self.advance(turn, (forward, created), moved, Some(packet));
    }

    /// An ICMP error about a packet of ours to the server, or to the client.
    pub(in crate::engine) fn inspected_error(
        &mut self,
        turn: &mut Turn<'_>,
        error: &IcmpError<'_>,
        ingress: Ingress<'_>,
        (id, entry): Known,
    ) {
        let from_server = entry.flags.has(Flags::REPLY);
        let Some(own) = self.own_connection(turn, id, from_server, ingress) else { return };
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

    /// Wakes inspections whose time has come, and takes what others have left for this worker.
    pub(in crate::engine) fn look_after_inspections(&mut self, turn: &mut Turn<'_>) {
        for Letter { interface, frame } in self.shared.mail.take(self.position.worker) {
            self.take(turn, Ingress { interface, frame: &frame, fragments: &[] });
        }
        while let Some(due) = self.inspections.due(turn.now.monotonic) {
            self.advance(turn, due, Moved::Time, None);
        }
    }

    /// The connection that a slot belongs to: its forward direction, and when it was made. `None`: it
    /// is another worker's, which has the frame now. So one worker sees all of what a server says
    /// until the program does, whatever queues it comes by.
    pub(in crate::engine) fn own_connection(
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
}
