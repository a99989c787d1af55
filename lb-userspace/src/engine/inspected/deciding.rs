//! The scripts run over what a client has said, and say what is to become of its connection.

use std::sync::Arc;

use lb_common::{address::Protocol, event::Event, flow::FlowRecord};

use super::{Inspected, Refusal};
use crate::{
    config::{TcpMode, Transport, VirtualService},
    engine::{
        Engine, Turn,
        decide::{Decided, Decision},
        explanation::Query,
        inspect::{self, Because},
    },
    script::More,
};

impl Engine {
    /// Runs the scripts over what is there, and chooses a server if they have seen enough.
    pub(super) fn decide_inspected(
        &mut self,
        turn: &mut Turn<'_>,
        inspected: &mut Inspected,
        because: Because,
    ) -> Result<inspect::Decision, Refusal> {
        let generation = Arc::clone(&self.generation);
        let service = generation.service(&inspected.service());
        let (index, service) = service.ok_or(Event::DropNoFlow)?;
        let stream = inspects(service).then(|| more(because, &inspected.inspection));
        let query = Query {
            protocol: Protocol::Tcp,
            client: inspected.source(),
            vip: inspected.destination(),
            payload: stream.map_or(&[], |_| inspected.inspection.payload()),
            stream,
        };
        let (decided, explanation) = self.decide(turn.now, (index, service), query);
        let result = match decided.decision {
            Decision::Wait(bytes) => Ok(inspect::Decision::Collect(bytes)),
            Decision::Server(choice) => {
                let record = self.record(turn.now, (index, service), &decided);
                self.shared.notes.add(inspected.id, decided.note);
                self.connect(turn, inspected, (service, &generation), choice, record)
            }
            Decision::Refuse { event, reason } => {
                let refusal = Refusal { event, reason };
                let in_order = decided.closes_in_order;
                self.note_refusal(turn, inspected, (index, service), decided);
                if in_order {
                    inspected.refusal = Some(refusal);
                    Ok(inspect::Decision::Close)
                } else {
                    Err(refusal)
                }
            }
        };
        turn.effects.explanations.extend(explanation.map(|explanation| match &result {
            Ok(_) => *explanation,
            Err(refusal) => explanation.but_dropped(refusal.event),
        }));
        result
    }

    /// Has the flow's record say who refused it.
    fn note_refusal(
        &self,
        turn: &Turn<'_>,
        inspected: &Inspected,
        service: (usize, &VirtualService),
        decided: Decided,
    ) {
        let record = self.shared.flows.record(inspected.id);
        let FlowRecord { created, partner, bits, .. } = record.load();
        let decided_by = decided.refused_by();
        let new = self.record(turn.now, service, &decided);
        record.store(&FlowRecord { created, partner, bits, decided_by, ..new });
        self.shared.notes.add(inspected.id, decided.note);
    }
}

/// Whether a service's scripts see payload before they decide.
pub(in crate::engine) fn inspects(service: &VirtualService) -> bool {
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
