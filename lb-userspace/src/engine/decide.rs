//! Which server takes a flow, and what decided it (DATASCRIPT.md §4, steps 5 to 8).

use std::{net::SocketAddr, sync::Arc, time::Duration};

use lb_common::event::Event;

use super::{
    generation::{Generation, RuleIndex},
    log::{DecidedBy, EndReason, Note},
    persistence::{Sticky, Stored},
};
use crate::{
    config::{Destination, OnError, PersistenceProfile, PoolGroupIndex, PoolIndex, ServerIndex},
    pool::{Balancer, HashKey, Live, ServerStates},
    script::{self, Chosen, Outcome, Place, Selection, TableAccess},
};

/// What becomes of a flow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Decision {
    /// It goes to a server.
    Server(Choice),
    /// It does not come to be.
    Refuse {
        /// What is counted.
        event: Event,
        /// What is logged.
        reason: EndReason,
    },
}

/// A server, and who chose it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Choice {
    /// The group that the pool was picked from.
    pub group: Option<PoolGroupIndex>,
    pub pool: PoolIndex,
    pub server: ServerIndex,
    /// The server's address, with the port that the script named if it did.
    pub address: SocketAddr,
    pub by: DecidedBy,
}

/// A decision, and what scripts said on the way.
pub(super) struct Decided {
    pub decision: Decision,
    /// Where the flow was to go, by rules and scripts; of a flow that nobody sent anywhere, nothing.
    pub destination: Option<Destination>,
    /// The policy rule that holds, whether a script overruled it or not.
    pub rule: Option<RuleIndex>,
    /// The script line that chose or closed.
    pub place: Option<Place>,
    pub note: Note,
}

impl Decided {
    /// By the program, before any worker.
    pub fn kept_out(event: Event) -> Self {
        let decision = refuse(event, EndReason::Refused);
        Self { decision, destination: None, rule: None, place: None, note: Note::default() }
    }

    /// The policy rule, if it is what decided.
    pub fn deciding_rule(&self) -> Option<RuleIndex> {
        self.rule.filter(|_| self.place.is_none() && self.note.failure.is_none())
    }
}

/// A server, and how it was come by.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Pick {
    pub group: Option<PoolGroupIndex>,
    pub pool: PoolIndex,
    pub server: ServerIndex,
}

/// What a decision looks at.
pub(super) struct Decider<'a> {
    pub generation: &'a Generation,
    pub balancer: &'a mut Balancer,
    pub servers: &'a ServerStates,
    /// Where `avi.vs.persist` keeps servers.
    pub stored: Stored<'a>,
    /// What was done there, if somebody wants to know.
    pub accesses: Option<Vec<TableAccess>>,
    /// Where the flow goes if no script sends it elsewhere.
    pub destination: Option<Destination>,
    /// The policy rule that says so.
    pub rule: Option<RuleIndex>,
    /// What keeps the client at its server if no script names one.
    pub profile: Option<&'a PersistenceProfile>,
    pub client: SocketAddr,
    pub now: Duration,
}

/// Server status as scripts may ask for it.
pub(super) struct Status(pub Arc<Generation>);

impl script::World for Status {
    fn server_up(&self, pool: PoolIndex, server: ServerIndex) -> bool {
        self.0.is_up(pool, server)
    }
}

/// The servers of a pool at this moment.
struct LiveServers<'a> {
    generation: &'a Generation,
    states: &'a ServerStates,
    pool: PoolIndex,
}

impl LiveServers<'_> {
    fn number(&self, server: ServerIndex) -> u32 {
        self.generation.server_number(self.pool, server)
    }
}

impl Live for LiveServers<'_> {
    fn is_usable(&self, server: ServerIndex) -> bool {
        self.generation.is_up(self.pool, server)
    }

    fn connections(&self, server: ServerIndex) -> u32 {
        self.states.connections(self.number(server))
    }

    fn response_time(&self, server: ServerIndex) -> Option<Duration> {
        self.states.response_time(self.number(server))
    }
}

impl Decider<'_> {
    /// The decision that follows from what the scripts said.
    pub fn decide(&mut self, outcome: &Outcome) -> Decided {
        let mut note = Note::of(outcome, script::Event::L4Request);
        let (decision, place) = self.follow(outcome, &mut note);
        let persisted = outcome.persist.as_ref().map(|persist| persist.destination);
        let selected = outcome.selection.map(|selection| selection.chosen.destination());
        let destination = persisted.or(selected).or(self.destination);
        Decided { decision, destination, rule: self.rule, place, note }
    }

    fn follow(&mut self, outcome: &Outcome, note: &mut Note) -> (Decision, Option<Place>) {
        if let Some(failure) = &outcome.failure {
            let decision = match failure.on_error {
                OnError::Close => refuse(Event::DropScriptError, EndReason::ScriptError),
                OnError::DefaultPool => self.default(outcome, DecidedBy::OnError),
            };
            return (decision, None);
        }
        if let Some(close) = &outcome.close {
            let decision = refuse(Event::DropScriptClosed, EndReason::ClosedByScript);
            return (decision, Some(close.by));
        }
        if let Some(persist) = &outcome.persist {
            return (self.persistent(persist, outcome), Some(persist.by));
        }
        if let Some(selection) = &outcome.selection {
            return (self.selected(selection, outcome, note), Some(selection.by));
        }
        let by = if self.rule.is_some() { DecidedBy::PolicyRule } else { DecidedBy::Algorithm };
        (self.default(outcome, by), None)
    }

    fn default(&mut self, outcome: &Outcome, by: DecidedBy) -> Decision {
        match self.destination {
            Some(destination) => self.balance(destination, outcome, by),
            None => refuse(Event::DropNoServer, EndReason::Refused),
        }
    }

    fn selected(&mut self, selection: &Selection, outcome: &Outcome, note: &mut Note) -> Decision {
        let by = match selection.chosen {
            Chosen::Pool(_) => DecidedBy::ScriptPool,
            Chosen::Group(_) => DecidedBy::ScriptPoolGroup,
            Chosen::Server(pool, server, port) => {
                if self.generation.is_up(pool, server) {
                    let pick = Pick { group: None, pool, server };
                    return self.choice(pick, Some(port), DecidedBy::ScriptServer);
                }
                // Our rule (DATASCRIPT.md §3, select): the algorithm picks another, and the log
                // says so.
                if let Some(server) = self.generation.pools.pool(pool).server(server) {
                    note.log.push_str(&format!("[selected server {} is down]", server.address));
                }
                DecidedBy::ScriptPool
            }
        };
        self.balance(selection.chosen.destination(), outcome, by)
    }

    fn balance(&mut self, destination: Destination, outcome: &Outcome, by: DecidedBy) -> Decision {
        if let Some(profile) = self.profile {
            let key = profile.key(self.client.ip());
            let (key, lifetime) = (key.as_bytes(), profile.timeout);
            let sticky = Sticky { key, lifetime, destination, line: 0 };
            return self.stick(&sticky, outcome, by);
        }
        match self.pick(destination, outcome) {
            Some(pick) => self.choice(pick, None, by),
            None => refuse(Event::DropNoServer, EndReason::Refused),
        }
    }

    /// Group → pool → algorithm → server.
    pub(super) fn pick(&mut self, destination: Destination, outcome: &Outcome) -> Option<Pick> {
        let generation = self.generation;
        let (group, pool) = match destination {
            Destination::Pool(pool) => (None, pool),
            Destination::Group(group) => {
                let has_server = |pool| generation.has_server_up(pool);
                let pool = self.balancer.pick_member(&generation.pools, group, has_server)?;
                (Some(group), pool)
            }
        };
        let own = generation.pools.pool(pool).hash_key(self.client);
        let key = outcome.chash.as_deref().map_or(own, HashKey::Custom);
        let live = LiveServers { generation, states: self.servers, pool };
        let server = self.balancer.pick(&generation.pools, pool, key, &live)?;
        Some(Pick { group, pool, server })
    }

    pub(super) fn choice(&self, pick: Pick, port: Option<u16>, by: DecidedBy) -> Decision {
        let Pick { group, pool, server } = pick;
        let Some(found) = self.generation.pools.pool(pool).server(server) else {
            return refuse(Event::DropNoServer, EndReason::Refused);
        };
        let mut address = found.address;
        address.set_port(port.unwrap_or(address.port()));
        Decision::Server(Choice { group, pool, server, address, by })
    }
}

pub(super) fn refuse(event: Event, reason: EndReason) -> Decision {
    Decision::Refuse { event, reason }
}
