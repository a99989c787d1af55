//! An inspection is over: the connection is the program's, or nobody's.

use lb_common::{
    event::Event,
    flow::Entry,
    splice::{Handshakes, Sender},
    wire::TcpFlags,
};

use super::{Inspected, Refusal};
use crate::{
    engine::{Engine, Turn, inspect::End, log::EndReason},
    flow_table::SlotId,
};

impl Engine {
    /// Hands the connection to the program.
    pub(super) fn splice(&mut self, inspected: &Inspected, handshakes: Handshakes) {
        let flows = &self.shared.flows;
        let reply = SlotId(flows.record(inspected.id).load().partner);
        // The reply first: no packet may reach a server whose answer is not translated.
        for (id, sender) in [(reply, Sender::Server), (inspected.id, Sender::Client)] {
            let Some((_, Entry { next_hop, rewrite, .. }, _)) = flows.slot(id).snapshot() else {
                continue;
            };
            flows.slot(id).amend(next_hop, &rewrite, &handshakes.splice(sender));
        }
        // A FIN that was collected has come to the server with the rest.
        if inspected.inspection.is_complete() {
            flows.slot(inspected.id).mark(TcpFlags(TcpFlags::FIN));
        }
        self.flows.watch(inspected.id, inspected.created);
    }

    /// The connection has no server, and is over.
    pub(super) fn end_inspected(&mut self, turn: &Turn<'_>, inspected: &Inspected, end: End) {
        if let (Some(server), End::NoServer(_) | End::Undelivered) = (inspected.server, end) {
            self.shared.servers.observe(server.number, true, turn.now.monotonic);
        }
        let no_payload = Refusal { event: Event::DropNoPayload, reason: EndReason::NoPayload };
        let refusal = match end {
            _ if inspected.refusal.is_some() => inspected.refusal,
            End::ClientReset => None,
            End::NoServer(_) | End::Undelivered => Some(Event::DropNoServer.into()),
            _ => Some(no_payload),
        };
        if end == End::ClientReset {
            self.shared.flows.slot(inspected.id).mark(TcpFlags(TcpFlags::RST));
        }
        refusal.into_iter().for_each(|Refusal { event, .. }| self.count(event, 1));
        let reason = refusal.map_or(EndReason::Reset, |Refusal { reason, .. }| reason);
        self.flows.end(inspected.id, reason, &self.shared);
    }
}
