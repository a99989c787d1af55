//! From what is known after a decision to its explanation.

use std::time::Duration;

use lb_common::event::Event;

use super::{
    decide::{Choice, Decided, Decision},
    explanation::{Explanation, Query, Ruling, Step},
    generation::Generation,
    log::{DecidedBy, EndReason},
};
use crate::{
    config::{Destination, PoolGroupIndex, PoolIndex, VirtualService},
    script::{Chosen, Ending, Place, RunEntry, TableAccess},
};

/// What an explanation is made from.
pub(super) struct Evidence<'a> {
    pub generation: &'a Generation,
    pub now: Duration,
    pub worker: u16,
    pub service: &'a VirtualService,
    pub query: Query<'a>,
    pub decided: &'a Decided,
    pub runs: &'a [RunEntry],
    /// What `avi.vs.persist` did to tables.
    pub persisted: &'a [TableAccess],
}

impl Evidence<'_> {
    pub fn explain(&self) -> Explanation {
        let Query { protocol, client, vip, .. } = self.query;
        let choice = self.choice();
        let place = self.decided.place;
        let failure = self.decided.note.failure.as_ref();
        let (group, pool) = self.way();
        let placed = place.and_then(|place| self.script(place));
        let failed = failure.map(|failure| (failure.script.clone(), failure.line));
        let (script, line) = placed.or(failed).unzip();
        Explanation {
            protocol: protocol.name().into(),
            client,
            vip,
            virtual_service: self.service.name.clone(),
            decision: self.ruling(),
            reason: self.reason(),
            waits_for: self.waits_for(),
            pool_group: group.map(|group| self.group_name(group)),
            pool: pool.map(|pool| self.pool_name(pool)),
            server: choice.map(|choice| choice.address),
            decided_by: self.decided_by(),
            rule: self.decided.deciding_rule().and_then(|rule| self.generation.rule_name(rule)),
            script,
            line,
            log: self.decided.note.log.clone(),
            error: failure.map(ToString::to_string),
            traceback: failure.map(|failure| failure.traceback.clone()),
            generation: self.generation.number,
            worker: self.worker,
            steps: self.steps(),
            tables: self.tables(),
            members: group.map(|group| self.members(group, pool)).unwrap_or_default(),
            candidates: pool.map(|pool| self.candidates(pool)).unwrap_or_default(),
        }
    }

    pub(super) fn choice(&self) -> Option<&Choice> {
        match &self.decided.decision {
            Decision::Server(choice) => Some(choice),
            Decision::Wait(_) | Decision::Refuse { .. } => None,
        }
    }

    fn ruling(&self) -> Ruling {
        match self.decided.decision {
            Decision::Server(_) => Ruling::Server,
            Decision::Wait(_) => Ruling::Waits,
            Decision::Refuse { reason: EndReason::Refused, .. } => Ruling::Refused,
            Decision::Refuse { .. } => Ruling::Closed,
        }
    }

    fn decided_by(&self) -> Option<DecidedBy> {
        match &self.decided.decision {
            Decision::Server(choice) => Some(choice.by),
            Decision::Refuse { reason: EndReason::ClosedByScript, .. } => {
                Some(DecidedBy::ScriptClosed)
            }
            Decision::Wait(_) | Decision::Refuse { .. } => None,
        }
    }

    fn waits_for(&self) -> Option<usize> {
        match self.decided.decision {
            Decision::Wait(bytes) => Some(bytes),
            Decision::Server(_) | Decision::Refuse { .. } => None,
        }
    }

    /// The group and the pool that were asked for a server.
    fn way(&self) -> (Option<PoolGroupIndex>, Option<PoolIndex>) {
        if let Some(choice) = self.choice() {
            return (choice.group, Some(choice.pool));
        }
        match (self.ruling(), self.decided.destination) {
            (Ruling::Refused, Some(Destination::Pool(pool))) => (None, Some(pool)),
            (Ruling::Refused, Some(Destination::Group(group))) => (Some(group), None),
            _ => (None, None),
        }
    }

    fn reason(&self) -> Option<String> {
        let Decision::Refuse { event, reason: EndReason::Refused } = self.decided.decision else {
            return None;
        };
        Some(match (event, self.decided.destination) {
            (Event::DropNoServer, Some(destination)) => {
                format!("{} has no server that can take the flow", self.named(destination))
            }
            (Event::DropNoServer, None) => {
                let name = &self.service.name;
                format!("no script chose a pool, and virtual service {name:?} has none")
            }
            (event, _) => event.description().trim().to_owned(),
        })
    }

    fn script(&self, place: Place) -> Option<(String, u32)> {
        let script = place.event.script(&self.generation.config, place.set)?;
        Some((script.path.display().to_string(), place.line))
    }

    fn steps(&self) -> Vec<Step> {
        let mut steps = self.admission_steps();
        if self.is_kept_out() {
            return steps;
        }
        self.policy_steps(&mut steps);
        steps.extend(self.runs.iter().map(|run| self.run_step(run)));
        steps.extend(self.persistence_step());
        self.destination_steps(&mut steps);
        steps
    }

    /// What the service's profile does, where no script chose the server.
    fn persistence_step(&self) -> Option<Step> {
        let profile = self.generation.profile(self.service)?;
        let by_script = self.runs.iter().any(|run| matches!(run.ending, Ending::Persisted(_)));
        let by = self.choice()?.by;
        if by_script || by == DecidedBy::ScriptServer {
            return None;
        }
        let key = profile.key(self.query.client.ip());
        let result = match by {
            DecidedBy::Persistence => format!("{key} leads to the server that it led to before"),
            _ => format!("nothing that is up is stored for {key}: what is picked will be"),
        };
        Some(Step { number: 7, what: format!("persistence profile {}", profile.name), result })
    }

    /// Whether the flow is refused before anything is asked where it goes.
    fn is_kept_out(&self) -> bool {
        let kept_out = [Event::DropDenied, Event::DropRateLimited, Event::DropServiceLimit];
        kept_out.into_iter().any(|event| self.is_refused_for(event))
    }

    fn is_refused_for(&self, event: Event) -> bool {
        self.decided.decision == Decision::Refuse { event, reason: EndReason::Refused }
    }

    /// What the program asks before a worker gets the packet.
    fn admission_steps(&self) -> Vec<Step> {
        let client = self.query.client.ip();
        let policy = self.generation.security(self.service).map(|policy| Step {
            number: 1,
            what: format!("network security policy {}", policy.name),
            result: match (policy.rule(client), policy.allows_others()) {
                (Some((prefix, true)), _) => format!("{prefix} is allowed"),
                (Some((prefix, false)), _) => format!("{prefix} is denied"),
                (None, true) => "in no prefix: allowed".to_owned(),
                (None, false) => "in no prefix: denied".to_owned(),
            },
        });
        let limits = [
            ("of each client", self.service.client_connection_rate_limit),
            ("of all clients", self.service.connection_rate_limit),
        ];
        let limited = self.is_refused_for(Event::DropRateLimited);
        let limits =
            limits.into_iter().filter(|(_, limit)| *limit != 0).map(|(whose, limit)| Step {
                number: 2,
                what: format!("{limit} new flows a second {whose}"),
                result: if limited {
                    "exceeded, by this client or by all together"
                } else {
                    "counted by the program"
                }
                .into(),
            });
        policy.into_iter().chain(limits).chain(self.service_limit()).collect()
    }

    fn service_limit(&self) -> Option<Step> {
        let most = self.service.max_concurrent_connections;
        let exceeded = self.is_refused_for(Event::DropServiceLimit);
        (most != 0).then(|| Step {
            number: 2,
            what: format!("{most} flows of the virtual service at once"),
            result: if exceeded { "there are as many" } else { "there are fewer" }.to_owned(),
        })
    }

    fn policy_steps(&self, steps: &mut Vec<Step>) {
        let holding = self.decided.rule;
        for (index, rule) in self.generation.rules(self.service) {
            let holds = holding == Some(index);
            steps.push(Step {
                number: 5,
                what: format!("rule {}", self.generation.rule_name(index).unwrap_or_default()),
                result: match holds {
                    true => format!("holds: to {}", self.named(rule.destination)),
                    false => "does not hold".to_owned(),
                },
            });
            if holds {
                return;
            }
        }
    }

    fn run_step(&self, run: &RunEntry) -> Step {
        let config = &self.generation.config;
        let script = run.event.script(config, run.set);
        let path = script.map(|script| script.path.display().to_string()).unwrap_or_default();
        let result = match run.ending {
            Ending::Undecided => "chose nothing".to_owned(),
            Ending::Selected(chosen, place) => {
                format!("chose {} at line {}", self.chosen_name(chosen), place.line)
            }
            Ending::Persisted(place) => format!("persists at line {}", place.line),
            Ending::Closed(place) => format!("closed the connection at line {}", place.line),
            Ending::Waits(wait) => {
                format!("waits for {} bytes of payload at line {}", wait.bytes, wait.by.line)
            }
            Ending::Failed => match &self.decided.note.failure {
                Some(failure) => format!("failed at line {}: {}", failure.line, failure.message),
                None => "failed".to_owned(),
            },
        };
        Step { number: 6, what: format!("script {path}"), result }
    }

    fn destination_steps(&self, steps: &mut Vec<Step>) {
        let (group, pool) = self.way();
        let server = self.choice().map(|choice| choice.address.to_string());
        if let Some(group) = group {
            let pool = pool.map(|pool| format!("pool {:?}", self.pool_name(pool)));
            steps.push(Step {
                number: 8,
                what: format!("pool group {:?}", self.group_name(group)),
                result: pool.unwrap_or_else(|| "every member is down".to_owned()),
            });
        }
        if let (None, Some(Destination::Pool(asked)), Some(_)) =
            (group, self.decided.destination, &server)
            && pool != Some(asked)
        {
            let what = format!("pool {:?}", self.pool_name(asked));
            steps.push(Step { number: 8, what, result: "is down: a backup stands in".to_owned() });
        }
        if let Some(pool) = pool {
            steps.push(Step {
                number: 8,
                what: format!("pool {:?}, {}", self.pool_name(pool), self.manner(pool)),
                result: server.unwrap_or_else(|| self.want_of_server(pool)),
            });
        }
    }

    fn want_of_server(&self, pool: PoolIndex) -> String {
        let minimum = self.generation.pools.pool(pool).min_servers_up();
        match self.generation.count_up(pool) {
            _ if self.generation.is_pool_up(pool) => "every server that is up is full".to_owned(),
            0 => "no server is up".to_owned(),
            up => format!("{up} up, of {minimum} that it must have"),
        }
    }

    /// How a server of the pool was come by.
    pub(super) fn manner(&self, pool: PoolIndex) -> &'static str {
        match self.choice().map(|choice| choice.by) {
            Some(DecidedBy::ScriptServer) => "server named by the script",
            Some(DecidedBy::Persistence) => "server stored under the key",
            _ => self.generation.pools.pool(pool).algorithm().name(),
        }
    }

    /// Of a run that failed, only what it looked up: nothing else stays of it.
    fn tables(&self) -> Vec<TableAccess> {
        let stays = |run: &RunEntry, access: &TableAccess| {
            run.ending != Ending::Failed || access.action == "table_lookup"
        };
        let by_scripts = self
            .runs
            .iter()
            .flat_map(|run| run.tables.iter().filter(move |access| stays(run, access)));
        by_scripts.chain(self.persisted).cloned().collect()
    }

    fn chosen_name(&self, chosen: Chosen) -> String {
        match chosen {
            Chosen::Server(pool, server, port) => {
                let found = self.generation.pools.pool(pool).server(server);
                let address = found.map(|server| server.address.ip().to_string());
                let address = address.unwrap_or_default();
                format!("server {address} port {port} of pool {:?}", self.pool_name(pool))
            }
            other => self.named(other.destination()),
        }
    }

    fn named(&self, destination: Destination) -> String {
        match destination {
            Destination::Pool(pool) => format!("pool {:?}", self.pool_name(pool)),
            Destination::Group(group) => format!("pool group {:?}", self.group_name(group)),
        }
    }

    pub(super) fn pool_name(&self, pool: PoolIndex) -> String {
        self.generation.config.destination_name(Destination::Pool(pool)).to_owned()
    }

    fn group_name(&self, group: PoolGroupIndex) -> String {
        self.generation.config.destination_name(Destination::Group(group)).to_owned()
    }
}
