//! Persistence, by `avi.vs.persist` or by a profile: a key leads to the server that it led to before.

use std::{str, time::Duration};

use super::{
    decide::{Decider, Decision, Pick, refuse},
    log::{DecidedBy, EndReason},
};
use crate::{
    config::{Destination, PoolIndex},
    script::{Outcome, Persist, TableAccess},
    table::{Found, Tables, Transaction, Value},
};

/// The default table of scripts, where servers are kept.
const TABLE: &[u8] = b"";

/// Where servers are kept.
pub(super) enum Stored<'a> {
    /// In a virtual service's table, for everyone.
    Shared(&'a Tables, &'a str),
    /// In what a rehearsed run saw: nothing is changed.
    Rehearsed(&'a mut Transaction),
}

impl Stored<'_> {
    fn find(&mut self, key: &[u8], now: Duration) -> Option<Found> {
        match self {
            Self::Shared(tables, service) => {
                tables.table(service, TABLE)?.lookup(key, Duration::ZERO, now)
            }
            Self::Rehearsed(transaction) => transaction.peek(TABLE, key),
        }
    }

    fn renew(&self, key: &[u8], lifetime: Duration, now: Duration) {
        if let Self::Shared(tables, service) = self
            && let Some(table) = tables.table(service, TABLE)
        {
            table.refresh(key, lifetime, now);
        }
    }

    /// Stores `new` in place of `old`, and says what is there now: of two workers that store at
    /// once the first wins, for both. `None`: the table is full.
    fn store(
        &self,
        key: &[u8],
        old: Option<&Found>,
        new: Value,
        lifetime: Duration,
        now: Duration,
    ) -> Option<Value> {
        let Self::Shared(tables, service) = self else { return Some(new) };
        let table = tables.table_or_create(service, TABLE)?;
        match old {
            Some(old) => table.replace(key, &old.value, new, lifetime, now),
            None => table.insert_or_get(key, new, lifetime, now),
        }
    }
}

/// A key that is to lead to one server.
pub(super) struct Sticky<'a> {
    pub key: &'a [u8],
    /// From each flow on.
    pub lifetime: Duration,
    /// Where the server is to be.
    pub destination: Destination,
    /// The script's line that asks for it; 0 if none does.
    pub line: u32,
}

impl Decider<'_> {
    /// `avi.vs.persist`.
    pub(super) fn persistent(&mut self, persist: &Persist, outcome: &Outcome) -> Decision {
        let sticky = Sticky {
            key: &persist.key,
            lifetime: Duration::from_secs(persist.lifetime.into()),
            destination: persist.destination,
            line: persist.by.line,
        };
        self.stick(&sticky, outcome, DecidedBy::PersistenceNew)
    }

    /// The server that is stored under the key, if it takes the client; else a new one, which is stored and
    /// said to be chosen `by`.
    pub(super) fn stick(
        &mut self,
        sticky: &Sticky<'_>,
        outcome: &Outcome,
        by: DecidedBy,
    ) -> Decision {
        let Sticky { key, lifetime, destination, .. } = *sticky;
        let stored = self.stored.find(key, self.now);
        self.note(sticky, "table_lookup", stored.is_some(), stored.as_ref());
        if let Some(pick) = self.up(destination, stored.as_ref()) {
            self.stored.renew(key, lifetime, self.now);
            let renewed = stored.map(|found| Found { deadline: self.now + lifetime, ..found });
            self.note(sticky, "table_refresh", true, renewed.as_ref());
            return self.choice(pick, None, DecidedBy::Persistence);
        }
        let pick = match self.pick(destination, outcome) {
            Ok(pick) => pick,
            Err(event) => return refuse(event, EndReason::Refused),
        };
        let new = self.value(&pick);
        let value =
            new.and_then(|new| self.stored.store(key, stored.as_ref(), new, lifetime, self.now));
        let winner = value.map(|value| Found { value, deadline: self.now + lifetime });
        self.note(sticky, "table_insert", winner.is_some(), winner.as_ref());
        match self.up(destination, winner.as_ref()) {
            Some(first) if (first.pool, first.server) != (pick.pool, pick.server) => {
                self.choice(first, None, DecidedBy::Persistence)
            }
            _ => self.choice(pick, None, by),
        }
    }

    /// For those who explain decisions.
    fn note(
        &mut self,
        sticky: &Sticky<'_>,
        action: &'static str,
        success: bool,
        now: Option<&Found>,
    ) {
        if let Some(accesses) = &mut self.accesses {
            let access = TableAccess::new(action, TABLE, sticky.key, success);
            accesses.push(access.with_found(now, self.now).at(sticky.line));
        }
    }

    /// As it is stored: `ip-port`.
    fn value(&self, pick: &Pick) -> Option<Value> {
        let address = self.generation.pools.pool(pick.pool).server(pick.server)?.address;
        Some(Value::string(format!("{}-{}", address.ip(), address.port())))
    }

    /// The server that a stored value names, if it is among the destination's and takes clients
    /// whom persistence leads to it.
    fn up(&self, destination: Destination, stored: Option<&Found>) -> Option<Pick> {
        let Value::String(bytes) = &stored?.value else { return None };
        let (host, port) = str::from_utf8(bytes).ok()?.rsplit_once('-')?;
        let port = port.parse().ok()?;
        let pools = &self.generation.pools;
        let in_pool = |group, pool: PoolIndex| {
            let server = pools.pool(pool).find_server(host, Some(port))?;
            self.live(pool).takes_persistent(server).then_some(Pick { group, pool, server })
        };
        match destination {
            Destination::Pool(pool) => in_pool(None, self.generation.stand_in(pool)?),
            Destination::Group(group) => {
                let mut members = pools.group(group).members.iter();
                let in_member = members.find_map(|member| in_pool(Some(group), member.pool));
                let stand_in = || self.generation.stand_in_for_members(group);
                in_member.or_else(|| in_pool(Some(group), stand_in()?))
            }
        }
    }
}
