//! Deciding: in earnest, and for those who only want to know.

use std::sync::Arc;

use lb_common::{event::Event, service::ServiceKey};

use super::{
    Engine, Explanation, Now, Query,
    decide::{Decided, Decider},
    evidence::Evidence,
    inspected::inspects,
    packet::{self, Parsed},
    persistence::Stored,
};
use crate::{
    config::{Destination, VirtualService},
    script::{self, More, Outcome, Progress, RunEntry, TableAccess},
    table::Transaction,
};

impl Engine {
    /// From now on every decision is explained among the effects.
    pub fn keep_explanations(&mut self) {
        self.explains = true;
        self.runtime.keep_journal(true);
    }

    /// What would become of a flow that began now; nothing changes by it. `None`: no virtual
    /// service listens there.
    pub fn explain(&mut self, now: Now, query: Query<'_>) -> Option<Explanation> {
        let generation = Arc::clone(&self.generation);
        let (index, service) = generation.service(&ServiceKey::at(query.vip, query.protocol))?;
        let policy = generation.security(service);
        if policy.is_some_and(|policy| !policy.allows(query.client.ip())) {
            return Some(self.kept_out(now, service, query, Event::DropDenied));
        }
        self.runtime.keep_journal(true);
        let stream = inspects(service).then_some(More::MayCome);
        let query = Query { stream, ..query };
        let (_, explanation) = self.judge(now, (index, service), query, Mode::Rehearsal);
        self.runtime.keep_journal(self.explains);
        explanation.map(|explanation| *explanation)
    }

    /// Why the program has dropped a packet that would have begun a flow, if that is why.
    pub fn explain_drop(&self, now: Now, frame: &[u8], event: Event) -> Option<Explanation> {
        if !matches!(event, Event::DropDenied | Event::DropRateLimited) {
            return None;
        }
        let Ok(Parsed::Transport(packet)) = packet::parse(frame) else { return None };
        let query = Query {
            protocol: packet.protocol,
            client: packet.source(),
            vip: packet.destination(),
            payload: packet.payload,
            stream: None,
        };
        let key = ServiceKey::at(query.vip, query.protocol);
        let (_, service) = self.generation.service(&key)?;
        Some(self.kept_out(now, service, query, event))
    }

    fn kept_out(
        &self,
        now: Now,
        service: &VirtualService,
        query: Query<'_>,
        event: Event,
    ) -> Explanation {
        self.explained(now, service, query, &Decided::kept_out(event), Journal::default())
    }

    fn explained(
        &self,
        now: Now,
        service: &VirtualService,
        query: Query<'_>,
        decided: &Decided,
        Journal { runs, persisted }: Journal,
    ) -> Explanation {
        Evidence {
            now: now.monotonic,
            generation: &self.generation,
            worker: self.position.worker,
            service,
            query,
            decided,
            runs: &runs,
            persisted: &persisted,
        }
        .explain()
    }

    /// Runs the scripts, and follows them. Explained only if that is wanted. Only over a stream can
    /// the decision be to wait.
    pub(super) fn decide(
        &mut self,
        now: Now,
        service: (usize, &VirtualService),
        query: Query<'_>,
    ) -> (Decided, Option<Box<Explanation>>) {
        self.judge(now, service, query, Mode::Earnest)
    }

    fn judge(
        &mut self,
        now: Now,
        (index, service): (usize, &VirtualService),
        query: Query<'_>,
        mode: Mode,
    ) -> (Decided, Option<Box<Explanation>>) {
        let generation = Arc::clone(&self.generation);
        let explains = self.explains || mode == Mode::Rehearsal;
        let flows = self.shared.services.now(generation.service_number(index));
        if (1..=flows).contains(&service.max_concurrent_connections) {
            let event = Event::DropServiceLimit;
            let explanation =
                explains.then(|| self.kept_out(now, service, query, event)).map(Box::new);
            return (Decided::kept_out(event), explanation);
        }
        let rule = generation.rule(service, query.client.ip());
        let destination = rule.map(|(_, to)| to).or(service.destination);
        let flow = flow_of(service, query, destination);
        let (progress, mut rehearsed) = self.run_scripts(now, service, &flow, mode);
        let mut balancer_copy;
        let (balancer, stored) = match &mut rehearsed {
            None => {
                (&mut self.balancer, Stored::Shared(&self.shared.tables, service.name.as_str()))
            }
            Some(transaction) => {
                balancer_copy = self.balancer.clone();
                (&mut balancer_copy, Stored::Rehearsed(transaction))
            }
        };
        let mut decider = Decider {
            generation: &generation,
            balancer,
            stored,
            accesses: explains.then(Vec::new),
            destination,
            rule: rule.map(|(rule, _)| rule),
            profile: generation.profile(service),
            client: query.client,
            now: now.monotonic,
        };
        let decided = decider.decide(&progress);
        let persisted = decider.accesses;
        let explanation = persisted.map(|persisted| {
            let journal = Journal { runs: self.runtime.take_journal(), persisted };
            Box::new(self.explained(now, service, query, &decided, journal))
        });
        (decided, explanation)
    }

    /// How far the scripts come, and, of a rehearsal, what they would have done to tables.
    fn run_scripts(
        &mut self,
        now: Now,
        service: &VirtualService,
        flow: &script::Flow<'_>,
        mode: Mode,
    ) -> (Progress, Option<Transaction>) {
        let Now { monotonic, wall } = now;
        let (event, sets) = (script::Event::L4Request, &service.datascripts[..]);
        let (runtime, world) = (&mut self.runtime, &self.world);
        match mode {
            Mode::Earnest if sets.is_empty() => (Progress::Decided(Outcome::default()), None),
            Mode::Earnest => (runtime.run(event, sets, flow, world, monotonic, wall), None),
            Mode::Rehearsal => {
                let (progress, transaction) =
                    runtime.rehearse(event, sets, flow, world, monotonic, wall);
                (progress, Some(transaction))
            }
        }
    }
}

/// What was done on the way to a decision.
#[derive(Default)]
struct Journal {
    runs: Vec<RunEntry>,
    /// What `avi.vs.persist` did to tables.
    persisted: Vec<TableAccess>,
}

/// Whether a decision is carried out.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Earnest,
    Rehearsal,
}

fn flow_of<'a>(
    service: &'a VirtualService,
    query: Query<'a>,
    destination: Option<Destination>,
) -> script::Flow<'a> {
    script::Flow {
        virtual_service: &service.name,
        protocol: query.protocol,
        client: query.client,
        vip: query.vip,
        payload: query.payload,
        more: query.stream,
        destination,
        server: None,
    }
}
