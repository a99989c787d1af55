//! Which server takes a flow, and what decided it (DATASCRIPT.md §4, steps 5 to 8).

use std::{net::SocketAddr, sync::Arc, time::Duration};

use lb_common::event::Event;

use super::{
    generation::{Generation, RuleIndex},
    log::{DecidedBy, EndReason, Note},
    persistence::{Sticky, Stored},
    servers::LiveServers,
};
use crate::{
    config::{Destination, OnError, PersistenceProfile, PoolGroupIndex, PoolIndex, ServerIndex},
    pool::{Balancer, HashKey, Live as _},
    script::{self, Chosen, Outcome, Place, Progress, Selection, TableAccess, Wait},
};

/// What becomes of a flow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Decision {
    /// It goes to a server.
    Server(Choice),
    /// A script wants to see so many bytes of payload first.
    Wait(usize),
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
    /// Whether a script has closed the connection, and not asked for a reset.
    pub closes_in_order: bool,
    pub note: Note,
}

impl Decided {
    /// By the program, before any worker.
    pub fn kept_out(event: Event) -> Self {
        Self {
            decision: refuse(event, EndReason::Refused),
            destination: None,
            rule: None,
            place: None,
            closes_in_order: false,
            note: Note::default(),
        }
    }

    /// For a flow record, of a flow that does not come to be; 0 if nobody in particular refused it.
    pub fn refused_by(&self) -> u8 {
        match self.decision {
            Decision::Refuse { reason: EndReason::ClosedByScript, .. } => {
                DecidedBy::ScriptClosed as u8
            }
            _ => 0,
        }
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

impl<'a> Decider<'a> {
    /// The decision that follows from how far the scripts came.
    pub fn decide(&mut self, progress: &Progress) -> Decided {
        match progress {
            Progress::Decided(outcome) => self.conclude(outcome),
            Progress::Waits(wait) => self.wait(wait),
        }
    }

    fn wait(&self, wait: &Wait) -> Decided {
        Decided {
            decision: Decision::Wait(wait.bytes),
            destination: self.destination,
            rule: self.rule,
            place: Some(wait.by),
            closes_in_order: false,
            note: Note::default(),
        }
    }

    fn conclude(&mut self, outcome: &Outcome) -> Decided {
        let mut note = Note::of(outcome, script::Event::L4Request);
        let (decision, place) = self.follow(outcome, &mut note);
        let persisted = outcome.persist.as_ref().map(|persist| persist.destination);
        let selected = outcome.selection.map(|selection| selection.chosen.destination());
        let destination = persisted.or(selected).or(self.destination);
        let close = outcome.close.as_ref().filter(|_| outcome.failure.is_none());
        let closes_in_order = close.is_some_and(|close| !close.reset);
        Decided { decision, destination, rule: self.rule, place, closes_in_order, note }
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
                if self.live(pool).is_usable(server) {
                    let pick = Pick { group: None, pool, server };
                    return self.choice(pick, Some(port), DecidedBy::ScriptServer);
                }
                // Our rule (DATASCRIPT.md §3, select): the algorithm picks another, and the log
                // says so.
                let why = if self.generation.is_up(pool, server) { "full" } else { "down" };
                if let Some(server) = self.generation.pools.pool(pool).server(server) {
                    note.log.push_str(&format!("[selected server {} is {why}]", server.address));
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
            Ok(pick) => self.choice(pick, None, by),
            Err(event) => refuse(event, EndReason::Refused),
        }
    }

    /// Group → pool → algorithm → server. If there is none, what is counted.
    pub(super) fn pick(
        &mut self,
        destination: Destination,
        outcome: &Outcome,
    ) -> Result<Pick, Event> {
        let generation = self.generation;
        let (group, pool) = self.way(destination).ok_or(Event::DropNoServer)?;
        let own = generation.pools.pool(pool).hash_key(self.client);
        let key = outcome.chash.as_deref().map_or(own, HashKey::Custom);
        let live = self.live(pool);
        let server = self.balancer.pick(&generation.pools, pool, key, &live);
        // The pool is up: if none of its servers takes the flow, those that are up are full.
        let server = server.ok_or(Event::DropServerLimit)?;
        Ok(Pick { group, pool, server })
    }

    /// The pool that a flow gets its server from: one that is up, if need be one that stands in.
    fn way(&mut self, destination: Destination) -> Option<(Option<PoolGroupIndex>, PoolIndex)> {
        let generation = self.generation;
        match destination {
            Destination::Pool(pool) => Some((None, generation.stand_in(pool)?)),
            Destination::Group(group) => {
                let servers_up = |pool| generation.servers_up(pool);
                let member = self.balancer.pick_member(&generation.pools, group, servers_up);
                let pool = member.or_else(|| generation.stand_in_for_members(group))?;
                Some((Some(group), pool))
            }
        }
    }

    /// The servers of a pool as they are now.
    pub(super) fn live(&self, pool: PoolIndex) -> LiveServers<'a> {
        self.generation.live(pool, self.now)
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
