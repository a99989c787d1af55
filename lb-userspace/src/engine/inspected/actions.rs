//! An inspection moves, and what it asks for is done.

use std::collections::VecDeque;

use lb_common::event::Event;

use super::{Inspected, Moved, Refusal};
use crate::{
    engine::{
        Engine, Turn,
        inspect::{Action, Decision, Input},
        log::EndReason,
        packet::Packet,
    },
    flow_table::SlotId,
};

impl Engine {
    /// Brings a connection forward, and does what follows from that.
    pub(in crate::engine) fn advance(
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
        let input = match moved {
            Moved::Client(segment) => Input::Client(segment),
            Moved::Server(segment) => Input::Server(segment),
            Moved::Unreachable(quoted) => Input::Unreachable(quoted),
            Moved::TooBig(quoted, mtu) => Input::TooBig { quoted, mtu },
            Moved::Time => Input::Timer,
        };
        let mut actions = Vec::new();
        inspected.inspection.step(turn.now.monotonic, input, &mut actions);
        self.note_answer(turn, &mut inspected, &actions);
        self.act(turn, &mut inspected, packet, actions);
        if inspected.inspection.is_over() {
            return;
        }
        self.inspections.put(inspected);
        if self.inspections.is_full()
            && let Some(mut inspected) = self.inspections.take(id, created)
        {
            let actions = inspected.abort(Event::DropInspectMemory.into());
            self.act(turn, &mut inspected, None, actions);
        }
    }

    /// Learns how fast a server is that has just accepted the connection.
    fn note_answer(&self, turn: &Turn<'_>, inspected: &mut Inspected, actions: &[Action]) {
        let is_spliced = actions.iter().any(|action| matches!(action, Action::Splice(_)));
        let is_open = is_spliced || inspected.inspection.handshakes().is_some();
        if let Some(server) = inspected.server.as_mut().filter(|_| is_open)
            && let Some(asked) = server.asked.take()
        {
            let after = turn.now.monotonic.saturating_sub(asked);
            self.shared.servers.answered(server.number, after);
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
                        let (event, reason) = (Event::DropScriptError, EndReason::ScriptError);
                        actions = inspected.abort(Refusal { event, reason }).into();
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
                Action::ServerFailed(failure) => self.next_server(turn, inspected, failure),
            };
            let decision = decision.unwrap_or_else(|refusal| {
                inspected.refusal = Some(refusal);
                Decision::Refuse
            });
            let mut more = Vec::new();
            let now = turn.now.monotonic;
            inspected.inspection.step(now, Input::Decided(decision), &mut more);
            actions.extend(more);
        }
    }
}

impl Inspected {
    /// Ends the inspection for a reason of ours.
    fn abort(&mut self, refusal: Refusal) -> Vec<Action> {
        let mut actions = Vec::new();
        self.refusal = Some(refusal);
        self.inspection.abort(&mut actions);
        actions
    }
}
