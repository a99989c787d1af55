//! Why a flow goes where it goes, for people: what `lb explain`, `lb replay` and `lb test` show.
//!
//! An explanation is put together after the decision, from what is known then. While flows are
//! decided in earnest nobody keeps notes, unless [`super::Engine::keep_explanations`] asks.

use std::{borrow::Cow, net::SocketAddr};

use lb_common::{address::Protocol, event::Event};
use serde::{Deserialize, Serialize};

use super::{
    decide::{Choice, Decided, Decision},
    generation::Generation,
    log::{DecidedBy, EndReason},
};
use crate::{
    config::{Algorithm, Destination, PoolGroupIndex, PoolIndex, ServerIndex, VirtualService},
    script::{Ending, Place, RunEntry, TableAccess},
};

/// A flow's first packet, as far as a decision looks at it.
#[derive(Clone, Copy, Debug)]
pub struct Query<'a> {
    /// The transport.
    pub protocol: Protocol,
    /// Who sends it.
    pub client: SocketAddr,
    /// Where to.
    pub vip: SocketAddr,
    /// What follows the transport header.
    pub payload: &'a [u8],
}

/// What becomes of a flow.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ruling {
    /// It goes to a server.
    Server,
    /// A script closed it, or failed.
    Closed,
    /// Nothing can take it.
    Refused,
}

/// A decision, and everything that led to it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Explanation {
    /// `tcp` or `udp`.
    pub protocol: Cow<'static, str>,
    /// Who begins the flow.
    pub client: SocketAddr,
    /// Where the client sends to.
    pub vip: SocketAddr,
    /// The virtual service's name.
    pub virtual_service: String,
    /// What becomes of it.
    pub decision: Ruling,
    /// Why nothing can take it.
    pub reason: Option<String>,
    /// The pool group, if one was asked for a pool.
    pub pool_group: Option<String>,
    /// The pool that the server was to be picked from.
    pub pool: Option<String>,
    /// The server.
    pub server: Option<SocketAddr>,
    /// What chose it.
    pub decided_by: Option<DecidedBy>,
    /// The policy rule that decided, as `policy/rule`.
    pub rule: Option<String>,
    /// The script that decided, or failed.
    pub script: Option<String>,
    /// Its line.
    pub line: Option<u32>,
    /// What scripts logged.
    pub log: String,
    /// A script's failure, with file and line.
    pub error: Option<String>,
    /// Lua's stack where it failed.
    pub traceback: Option<String>,
    /// Generation of the configuration.
    pub generation: u32,
    /// The worker that decides: each takes turns by itself.
    pub worker: u16,
    /// The way to the decision, in the order of evaluation.
    pub steps: Vec<Step>,
    /// What was looked up and changed in tables.
    pub tables: Vec<TableAccess>,
    /// The pool group's members.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<Candidate>,
    /// The pool's servers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub candidates: Vec<Candidate>,
}

/// One step of the order of evaluation (DATASCRIPT.md §4).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Step {
    /// Its number there.
    pub number: u8,
    /// What was asked: a rule, a script, a pool.
    pub what: String,
    /// What came of it.
    pub result: String,
}

/// A pool or a server that might have been chosen.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Candidate {
    /// A pool's name, or a server's address.
    pub name: String,
    /// Its share.
    pub ratio: u16,
    /// Whether it was chosen.
    pub chosen: bool,
    /// Why, or why not.
    pub why: Cow<'static, str>,
}

impl Explanation {
    /// Of a flow for which there turned out to be no room.
    pub(super) fn but_dropped(self, event: Event) -> Self {
        if self.decision != Ruling::Server {
            return self;
        }
        let reason = Some(event.description().trim().to_owned());
        Self { decision: Ruling::Refused, reason, ..self }
    }
}

/// What an explanation is made from.
pub(super) struct Evidence<'a> {
    pub generation: &'a Generation,
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

    fn choice(&self) -> Option<&Choice> {
        match &self.decided.decision {
            Decision::Server(choice) => Some(choice),
            Decision::Refuse { .. } => None,
        }
    }

    fn ruling(&self) -> Ruling {
        match self.decided.decision {
            Decision::Server(_) => Ruling::Server,
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
            Decision::Refuse { .. } => None,
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
        let mut steps = Vec::new();
        self.policy_steps(&mut steps);
        steps.extend(self.runs.iter().map(|run| self.run_step(run)));
        self.destination_steps(&mut steps);
        steps
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
                result: pool.unwrap_or_else(|| "no member has a server up".to_owned()),
            });
        }
        if let Some(pool) = pool {
            steps.push(Step {
                number: 8,
                what: format!("pool {:?}, {}", self.pool_name(pool), self.manner(pool)),
                result: server.unwrap_or_else(|| "no server is up".to_owned()),
            });
        }
    }

    /// How a server of the pool was come by.
    fn manner(&self, pool: PoolIndex) -> &'static str {
        match self.choice().map(|choice| choice.by) {
            Some(DecidedBy::ScriptServer) => "server named by the script",
            Some(DecidedBy::Persistence) => "server stored under the key",
            _ => match self.generation.pools.pool(pool).algorithm() {
                Algorithm::RoundRobin => "round-robin",
                Algorithm::ConsistentHash => "consistent-hash",
            },
        }
    }

    fn tables(&self) -> Vec<TableAccess> {
        let by_scripts = self.runs.iter().flat_map(|run| &run.tables);
        by_scripts.chain(self.persisted).cloned().collect()
    }

    fn members(&self, group: PoolGroupIndex, chosen: Option<PoolIndex>) -> Vec<Candidate> {
        let members = self.generation.pools.group(group);
        let up = |pool| self.generation.has_server_up(pool);
        let usable = members.iter().filter(|member| up(member.pool));
        let highest = usable.map(|member| member.priority).max();
        let candidate = |member: &crate::config::Member| Candidate {
            name: self.pool_name(member.pool),
            ratio: member.ratio,
            chosen: chosen == Some(member.pool),
            why: if !up(member.pool) {
                "no server up".into()
            } else if chosen == Some(member.pool) {
                "its turn".into()
            } else if Some(member.priority) < highest {
                format!("priority {}: another's is higher", member.priority).into()
            } else {
                "not its turn".into()
            },
        };
        members.iter().map(candidate).collect()
    }

    fn candidates(&self, pool: PoolIndex) -> Vec<Candidate> {
        let servers = self.generation.pools.pool(pool).servers().iter().enumerate();
        let chosen = self.choice().map(|choice| choice.server);
        let candidates = servers.map(|(index, server)| {
            let index = ServerIndex(index);
            Candidate {
                name: server.address.to_string(),
                ratio: server.ratio,
                chosen: chosen == Some(index),
                why: self.why(pool, index, chosen == Some(index)).into(),
            }
        });
        candidates.collect()
    }

    fn why(&self, pool: PoolIndex, server: ServerIndex, chosen: bool) -> &'static str {
        let manner = self.manner(pool);
        match (self.generation.is_up(pool, server), chosen, manner) {
            (false, ..) => "disabled",
            (true, true, "round-robin") => "its turn",
            (true, false, "round-robin") => "not its turn",
            (true, true, "consistent-hash") => "the key's hash leads here",
            (true, false, "consistent-hash") => "the key's hash leads elsewhere",
            (true, true, other) => other,
            (true, false, _) => "not asked for",
        }
    }

    fn chosen_name(&self, chosen: crate::script::Chosen) -> String {
        use crate::script::Chosen;
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

    fn pool_name(&self, pool: PoolIndex) -> String {
        self.generation.config.destination_name(Destination::Pool(pool)).to_owned()
    }

    fn group_name(&self, group: PoolGroupIndex) -> String {
        self.generation.config.destination_name(Destination::Group(group)).to_owned()
    }
}
