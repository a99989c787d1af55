//! Segments of ours, and those that are sent on before the splice.

use lb_common::{
    address::Protocol,
    flow::Flags,
    splice::{Handshakes, Sender},
};

use super::Inspected;
use crate::{
    engine::{
        Carries, Engine, Turn,
        inspect::{Outgoing, Side},
        packet::Packet,
    },
    flow_table::SlotId,
};

impl Engine {
    pub(super) fn send_segment(
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
    pub(super) fn forward_early(
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
        // A reset that the inspection does not believe is the receiver's to judge, and ends nothing.
        if !(is_inspected && packet.flags().rst()) {
            self.shared.flows.slot(slot).mark(packet.flags());
        }
        let known = (slot, handshakes.splice(sender).entry(entry));
        self.forward(turn, known, Protocol::Tcp, packet.network.bytes, Carries::Transport);
        true
    }
}
