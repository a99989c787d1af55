//! Which server takes a flow, and what decided it (DATASCRIPT.md §4, steps 6 to 8).

use std::{net::SocketAddr, str, sync::Arc, time::Duration};

use lb_common::event::Event;

use super::{
    generation::Generation,
    log::{DecidedBy, EndReason, Note},
};
use crate::{
    config::{OnError, PoolIndex, ServerIndex, VirtualService},
    pool::{Balancer, HashKey},
    script::{self, Outcome, Persist, Place, Selection},
    table::{Tables, Value},
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
    pub pool: PoolIndex,
    pub server: ServerIndex,
    /// The server's address, with the port that the script named if it did.
    pub address: SocketAddr,
    pub by: DecidedBy,
    pub place: Option<Place>,
}

/// A decision, and what scripts said on the way.
pub(super) struct Decided {
    pub decision: Decision,
    /// The script line that chose or closed.
    pub place: Option<Place>,
    pub note: Note,
}

/// What a decision looks at.
pub(super) struct Decider<'a> {
    pub generation: &'a Generation,
    pub balancer: &'a mut Balancer,
    pub tables: &'a Tables,
    pub service: &'a VirtualService,
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

impl Decider<'_> {
    /// The decision that follows from what the scripts said.
    pub fn decide(mut self, outcome: &Outcome) -> Decided {
        let mut note = Note::of(outcome, script::Event::L4Request);
        let (decision, place) = self.follow(outcome, &mut note);
        Decided { decision, place, note }
    }

    fn follow(&mut self, outcome: &Outcome, note: &mut Note) -> (Decision, Option<Place>) {
        if let Some(failure) = &outcome.failure {
            let decision = match failure.on_error {
                OnError::Close => refuse(Event::DropScriptError, EndReason::ScriptError),
                OnError::DefaultPool => self.default_pool(outcome, DecidedBy::OnError),
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
        match &outcome.selection {
            Some(selection) => (self.selected(selection, outcome, note), Some(selection.by)),
            None => (self.default_pool(outcome, DecidedBy::Algorithm), None),
        }
    }

    fn default_pool(&mut self, outcome: &Outcome, by: DecidedBy) -> Decision {
        match self.service.pool {
            Some(pool) => self.balance(pool, outcome, by, None),
            None => refuse(Event::DropNoServer, EndReason::Refused),
        }
    }

    fn selected(&mut self, selection: &Selection, outcome: &Outcome, note: &mut Note) -> Decision {
        let (pool, place) = (selection.pool, Some(selection.by));
        let Some((server, port)) = selection.server else {
            return self.balance(pool, outcome, DecidedBy::ScriptPool, place);
        };
        if self.generation.is_up(pool, server) {
            return self.choice(pool, server, Some(port), DecidedBy::ScriptServer, place);
        }
        // Our rule (DATASCRIPT.md §3, select): the algorithm picks another, and the log says so.
        if let Some(server) = self.generation.pools.pool(pool).server(server) {
            note.log.push_str(&format!("[selected server {} is down]", server.address));
        }
        self.balance(pool, outcome, DecidedBy::ScriptPool, place)
    }

    fn balance(
        &mut self,
        pool: PoolIndex,
        outcome: &Outcome,
        by: DecidedBy,
        place: Option<Place>,
    ) -> Decision {
        match self.pick(pool, outcome) {
            Some(server) => self.choice(pool, server, None, by, place),
            None => refuse(Event::DropNoServer, EndReason::Refused),
        }
    }

    fn pick(&mut self, pool: PoolIndex, outcome: &Outcome) -> Option<ServerIndex> {
        let address = HashKey::Address(self.client.ip());
        let key = outcome.chash.as_deref().map_or(address, HashKey::Custom);
        let generation = self.generation;
        let up = |server| generation.is_up(pool, server);
        self.balancer.pick(&generation.pools, pool, key, up)
    }

    fn choice(
        &self,
        pool: PoolIndex,
        server: ServerIndex,
        port: Option<u16>,
        by: DecidedBy,
        place: Option<Place>,
    ) -> Decision {
        let Some(found) = self.generation.pools.pool(pool).server(server) else {
            return refuse(Event::DropNoServer, EndReason::Refused);
        };
        let mut address = found.address;
        address.set_port(port.unwrap_or(address.port()));
        Decision::Server(Choice { pool, server, address, by, place })
    }

    /// `avi.vs.persist`: the server that is stored under the key, if it is up; else a new one,
    /// which is stored. Of two workers that store at once the first wins, for both.
    fn persistent(&mut self, persist: &Persist, outcome: &Outcome) -> Decision {
        let (pool, place) = (persist.pool, Some(persist.by));
        let lifetime = Duration::from_secs(persist.lifetime.into());
        let table = self.tables.table_or_create(&self.service.name, b"");
        let stored =
            table.as_ref().and_then(|table| table.lookup(&persist.key, Duration::ZERO, self.now));
        if let Some(server) = stored.as_ref().and_then(|stored| self.up(pool, &stored.value)) {
            if let Some(table) = &table {
                table.refresh(&persist.key, lifetime, self.now);
            }
            return self.choice(pool, server, None, DecidedBy::Persistence, place);
        }
        let Some(server) = self.pick(pool, outcome) else {
            return refuse(Event::DropNoServer, EndReason::Refused);
        };
        let winner = table.and_then(|table| {
            let new = self.value(pool, server)?;
            match &stored {
                Some(old) => table.replace(&persist.key, &old.value, new, lifetime, self.now),
                None => table.insert_or_get(&persist.key, new, lifetime, self.now),
            }
        });
        match winner.and_then(|value| self.up(pool, &value)) {
            Some(first) if first != server => {
                self.choice(pool, first, None, DecidedBy::Persistence, place)
            }
            _ => self.choice(pool, server, None, DecidedBy::PersistenceNew, place),
        }
    }

    /// As `avi.vs.persist` stores a server: `ip-port`.
    fn value(&self, pool: PoolIndex, server: ServerIndex) -> Option<Value> {
        let address = self.generation.pools.pool(pool).server(server)?.address;
        Some(Value::string(format!("{}-{}", address.ip(), address.port())))
    }

    /// The server that a stored value names, if the pool has it and it is up.
    fn up(&self, pool: PoolIndex, value: &Value) -> Option<ServerIndex> {
        let Value::String(bytes) = value else { return None };
        let (host, port) = str::from_utf8(bytes).ok()?.rsplit_once('-')?;
        let server =
            self.generation.pools.pool(pool).find_server(host, Some(port.parse().ok()?))?;
        self.generation.is_up(pool, server).then_some(server)
    }
}

fn refuse(event: Event, reason: EndReason) -> Decision {
    Decision::Refuse { event, reason }
}
