//! The server's first packet, shown to the service's L4_RESPONSE scripts.

use std::{sync::Arc, time::Duration};

use lb_common::{address::Protocol, event::Event, flow::Flags, service::ServiceKey};

use super::{Carries, Engine, Found, Now, Response, Turn, log::Note, packet::Packet, reset};
use crate::{
    config::OnError,
    flow_table::SlotId,
    script::{self, More, Progress, Wait},
};

impl Engine {
    /// Shows the server's first packet to the L4_RESPONSE scripts, once. The flow, if one has failed
    /// and it is to be closed for that.
    pub(super) fn respond(
        &mut self,
        turn: &mut Turn<'_>,
        packet: &Packet<'_>,
        reply: SlotId,
    ) -> Option<Found> {
        if !self.shared.flows.slot(reply).take_flag(Flags::PUNT_RESPONSE) {
            return None;
        }
        let forward = SlotId(self.shared.flows.record(reply).load().partner);
        let found = Found::at(&self.shared.flows, forward)?;
        let since = turn.now.monotonic.saturating_sub(Duration::from_nanos(found.record.created));
        self.shared.servers.answered(found.record.server, since);
        let goes_on = self.show(turn, packet, &found, (packet.payload, None));
        // Nothing waits for payload that is no stream.
        (goes_on == Ok(false)).then_some(found)
    }

    /// Runs the L4_RESPONSE scripts over what a server has said, and if that is a stream, whether
    /// more may come. False if one has failed and the flow is to be closed for that.
    pub(super) fn show(
        &mut self,
        turn: &mut Turn<'_>,
        packet: &Packet<'_>,
        found: &Found,
        (payload, more): (&[u8], Option<More>),
    ) -> Result<bool, Wait> {
        let generation = Arc::clone(&self.generation);
        let vip = found.vip();
        let key = ServiceKey::at(vip, packet.protocol);
        let Some((_, service)) = generation.service(&key) else { return Ok(true) };
        let flow = script::Flow {
            virtual_service: &service.name,
            protocol: packet.protocol,
            client: found.client(),
            vip,
            payload,
            more,
            destination: service.destination,
            server: found.server(),
        };
        let event = script::Event::L4Response;
        let (sets, world) = (&service.datascripts, &self.world);
        let Now { monotonic, wall } = turn.now;
        let progress = self.runtime.run(event, sets, &flow, world, monotonic, wall);
        let outcome = match progress {
            Progress::Decided(outcome) => outcome,
            Progress::Waits(wait) => {
                self.runtime.take_journal();
                return Err(wait);
            }
        };
        turn.effects.responses.extend(self.explain_response(&flow));
        let closes =
            outcome.failure.as_ref().is_some_and(|failure| failure.on_error == OnError::Close);
        self.shared.notes.add(found.id, Note::of(&outcome, event));
        Ok(!closes)
    }

    /// Takes the journal, which would else be part of the next flow's explanation. `None`: nobody
    /// asked for one, or no script ran.
    fn explain_response(&mut self, flow: &script::Flow<'_>) -> Option<Response> {
        let runs = self.runtime.take_journal();
        (!runs.is_empty()).then(|| Response {
            protocol: flow.protocol,
            client: flow.client,
            vip: flow.vip,
            tables: runs.into_iter().flat_map(|run| run.tables).collect(),
        })
    }

    /// Ends a flow whose response script failed: both sides of a TCP connection are reset.
    pub(super) fn close_established(
        &mut self,
        turn: &mut Turn<'_>,
        packet: &Packet<'_>,
        found: &Found,
    ) {
        self.count(Event::DropScriptError, 1);
        if packet.protocol == Protocol::Tcp {
            let reply = SlotId(found.record.partner);
            if let Some((_, entry, _)) = self.shared.flows.slot(reply).snapshot() {
                let reset = reset::instead_of(packet);
                let known = (reply, entry);
                self.forward(turn, known, packet.protocol, &reset, Carries::Transport);
            }
            let server = turn.neighbours.entry(found.entry.next_hop);
            if let (Some(reset), true) = (reset::answer(packet), server.is_resolved()) {
                turn.effects.transmit(&server, &reset);
            }
        }
        self.flows.close(found, &self.shared);
    }
}
