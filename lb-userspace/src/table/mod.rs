//! Tables that scripts keep: key → value with a lifetime, shared by all workers.
//!
//! A table belongs to a virtual service and has a name; the default table's name is empty. An entry
//! whose lifetime has passed is never returned and never takes another's place, however late its
//! memory is reclaimed. A full table refuses what is new, counts it, and never evicts what lives.
//!
//! There is no clock in here: `now` comes in, from one monotonic clock for all workers. Scripts do
//! not write to a [`Table`] but to a [`Transaction`], which nobody else sees until it commits.

mod bytes;
#[cfg(test)]
mod concurrent_tests;
mod entry;
mod guarded;
mod key;
#[cfg(test)]
mod model_tests;
pub mod notation;
mod shard;
#[cfg(test)]
mod tests;
mod transaction;

use std::{
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use hashbrown::{Equivalent, HashMap};

pub use bytes::Bytes;
pub(crate) use entry::remaining;
pub use entry::{DEFAULT_LIFETIME, Found, Listed, Value};
use guarded::Guarded;
use key::{Key, KeyHasher};
use shard::Placed;
pub use transaction::Transaction;

use crate::config::TableLimits;

/// Tables that may exist at once. A script can compute names; this bounds what that costs.
pub const MAX_TABLES: usize = 4096;

/// Locks of a small table: workers that touch different keys seldom meet.
const LEAST_SHARDS: usize = 16;
/// A larger table has more of them, so that what must look at every entry of a shard at once, a
/// listing or the growth of its map, holds a worker up for microseconds.
const ENTRIES_A_SHARD: usize = 1024;
/// Bounds what an empty table costs.
const MOST_SHARDS: usize = 4096;

/// All tables of an instance.
#[derive(Debug)]
pub struct Tables {
    limits: TableLimits,
    tables: RwLock<HashMap<Name, Arc<Table>>>,
}

/// What a table is known by.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Name {
    /// The virtual service's name.
    pub service: Box<str>,
    /// The table's own name, empty for the default one. Lua strings need not be UTF-8.
    pub table: Box<[u8]>,
}

/// [`Name`], borrowed: a lookup allocates nothing.
#[derive(Hash)]
struct NameRef<'a> {
    service: &'a str,
    table: &'a [u8],
}

impl Equivalent<Name> for NameRef<'_> {
    fn equivalent(&self, name: &Name) -> bool {
        self.service == &*name.service && self.table == &*name.table
    }
}

impl Tables {
    /// No tables yet; each will have these limits.
    pub fn new(limits: TableLimits) -> Self {
        Self { limits, tables: RwLock::default() }
    }

    /// The limits of each table.
    pub fn limits(&self) -> TableLimits {
        self.limits
    }

    /// The table of this name, if anything was ever put into it.
    pub fn table(&self, service: &str, table: &[u8]) -> Option<Arc<Table>> {
        let tables = self.tables.read().unwrap_or_else(PoisonError::into_inner);
        tables.get(&NameRef { service, table }).cloned()
    }

    /// The table of this name, made if need be. `None` when there are [`MAX_TABLES`] already.
    pub fn table_or_create(&self, service: &str, table: &[u8]) -> Option<Arc<Table>> {
        self.table(service, table).or_else(|| self.create(service, table))
    }

    fn create(&self, service: &str, table: &[u8]) -> Option<Arc<Table>> {
        let mut tables = self.tables.write().unwrap_or_else(PoisonError::into_inner);
        let room = tables.len() < MAX_TABLES;
        let name = Name { service: service.into(), table: table.into() };
        match tables.entry(name) {
            hashbrown::hash_map::Entry::Occupied(entry) => Some(Arc::clone(entry.get())),
            hashbrown::hash_map::Entry::Vacant(entry) => room.then(|| {
                let table = Arc::new(Table::new(self.limits.entries));
                Arc::clone(entry.insert(table))
            }),
        }
    }

    /// Every table, in the order of their names.
    pub fn list(&self) -> Vec<(Name, Arc<Table>)> {
        let tables = self.tables.read().unwrap_or_else(PoisonError::into_inner);
        let mut list: Vec<_> =
            tables.iter().map(|(name, table)| (name.clone(), Arc::clone(table))).collect();
        list.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        list
    }

    /// Inserts that found their table full, of all tables.
    pub fn refused(&self) -> u64 {
        let tables = self.tables.read().unwrap_or_else(PoisonError::into_inner);
        tables.values().map(|table| table.refused()).sum()
    }

    /// Reclaims entries whose lifetime has passed, looking at about `most` of each table at most;
    /// says how many it reclaimed. Nothing depends on it but memory.
    pub fn sweep(&self, now: Duration, most: usize) -> usize {
        let tables = self.list();
        tables.iter().map(|(_, table)| table.sweep(now, most)).sum()
    }
}

/// One table. Every operation is atomic, and is as if the expired entries were gone already.
#[derive(Debug)]
pub struct Table {
    shards: Guarded,
    hasher: KeyHasher,
    capacity: usize,
    /// Places that entries hold or that [`Table::reserve`] has promised; never above `capacity`.
    taken: AtomicUsize,
    refused: AtomicU64,
}

impl Table {
    fn new(capacity: usize) -> Self {
        let hasher = KeyHasher::default();
        Self {
            shards: Guarded::new(shards(capacity), &hasher),
            hasher,
            capacity,
            taken: AtomicUsize::new(0),
            refused: AtomicU64::new(0),
        }
    }

    /// Stores a key that is not there. One that is keeps its value, and only its lifetime is reset.
    /// `false`: the table is full.
    pub fn insert(&self, key: &[u8], value: Value, lifetime: Duration, now: Duration) -> bool {
        self.insert_or_get(key, value, lifetime, now).is_some()
    }

    /// As [`Table::insert`], and says which value is there afterwards: whoever came first has won,
    /// and everyone else learns of it. `None`: the table is full.
    pub fn insert_or_get(
        &self,
        key: &[u8],
        value: Value,
        lifetime: Duration,
        now: Duration,
    ) -> Option<Value> {
        self.update(key, now, |found| match found {
            Some(found) => Some((found.value.clone(), now.saturating_add(lifetime))),
            None => Some((value, now.saturating_add(lifetime))),
        })
    }

    /// Replaces the value if it still is `old` or gone, and says which value is there afterwards.
    /// `None`: the key was gone and the table is full.
    pub fn replace(
        &self,
        key: &[u8],
        old: &Value,
        new: Value,
        lifetime: Duration,
        now: Duration,
    ) -> Option<Value> {
        self.update(key, now, |found| match found {
            Some(found) if found.value != *old => Some((found.value.clone(), found.deadline)),
            _ => Some((new, now.saturating_add(lifetime))),
        })
    }

    /// Stores the value whatever was there. `false`: the key was not there and the table is full.
    pub fn put(&self, key: &[u8], value: Value, lifetime: Duration, now: Duration) -> bool {
        let deadline = now.saturating_add(lifetime);
        self.update(key, now, |_| Some((value, deadline))).is_some()
    }

    /// What is stored under a key; its lifetime is made longer by `extension`.
    pub fn lookup(&self, key: &[u8], extension: Duration, now: Duration) -> Option<Found> {
        let key = self.hasher.key(key);
        let mut shard = self.shards.of(key);
        let entry = shard.live(key, now)?;
        entry.extend(extension);
        Some(entry.found())
    }

    /// Lets a key live for another `lifetime` from now. `false`: it is not there.
    pub fn refresh(&self, key: &[u8], lifetime: Duration, now: Duration) -> bool {
        self.expire_at(key, now.saturating_add(lifetime), now)
    }

    /// Takes a key out; says whether it was there.
    pub fn remove(&self, key: &[u8], now: Duration) -> bool {
        let key = self.hasher.key(key);
        let removed = self.shards.of(key).remove(key);
        if removed.is_some() {
            self.give_back(1);
        }
        removed.is_some_and(|found| found.deadline > now)
    }

    /// Live entries whose keys begin with `prefix`: the first `limit` in the order of the keys.
    ///
    /// Writers go on meanwhile. What is there from before the call to its end is in the list once;
    /// what comes or goes meanwhile may be in it.
    pub fn entries(&self, prefix: &[u8], limit: usize, now: Duration) -> Vec<Listed> {
        let mut entries = Vec::new();
        for shard in 0..self.shards.count() {
            // Appended when the lock is free again: the list's own growth copies all of it.
            let listed = self.shards.lock(shard).list(prefix, now);
            entries.extend(listed);
            if entries.len() / 2 > limit {
                keep_first(&mut entries, limit);
            }
        }
        keep_first(&mut entries, limit);
        entries
    }

    /// Inserts that were refused because the table was full.
    pub fn refused(&self) -> u64 {
        self.refused.load(Relaxed)
    }

    fn sweep(&self, now: Duration, most: usize) -> usize {
        let each = most.div_ceil(self.shards.count());
        let reclaim = |shard| self.shards.lock(shard).reclaim(now, each);
        let reclaimed = self.shards.due(now).map(reclaim).sum();
        self.give_back(reclaimed);
        reclaimed
    }

    /// Sets when a live key expires. `false`: it is not there.
    fn expire_at(&self, key: &[u8], deadline: Duration, now: Duration) -> bool {
        let key = self.hasher.key(key);
        self.shards.of(key).expire_at(key, deadline, now)
    }

    /// What is stored under a key, without any effect.
    fn peek(&self, key: &[u8], now: Duration) -> Option<Found> {
        self.read(key, now, |value, deadline| Found { value: value.clone(), deadline })
    }

    /// What `read` makes of what is stored under a key and of its deadline. The key's lock is held
    /// meanwhile: to copy a value's bytes takes less than to share them.
    fn read<R>(
        &self,
        key: &[u8],
        now: Duration,
        read: impl FnOnce(&Value, Duration) -> R,
    ) -> Option<R> {
        let key = self.hasher.key(key);
        let shard = self.shards.look(key);
        shard.peek(key, now).map(|entry| read(&entry.value, entry.deadline()))
    }

    fn has(&self, key: Key<'_>, now: Duration) -> bool {
        self.shards.look(key).peek(key, now).is_some()
    }

    /// Promises a place for a key that is to be stored later. `false`, counted: the table is full.
    fn reserve(&self, now: Duration) -> bool {
        let reserved = self.try_reserve() || {
            self.sweep(now, usize::MAX);
            self.try_reserve()
        };
        if !reserved {
            self.refused.fetch_add(1, Relaxed);
        }
        reserved
    }

    fn try_reserve(&self) -> bool {
        let more = |taken| (taken < self.capacity).then_some(taken + 1);
        self.taken.fetch_update(Relaxed, Relaxed, more).is_ok()
    }

    /// Gives places back that were reserved or held.
    fn give_back(&self, places: usize) {
        self.taken.fetch_sub(places, Relaxed);
    }

    /// Stores what `decide` makes of what is there, in one step. `None`: it needs a place and there
    /// is none, or `decide` wants nothing.
    fn update(
        &self,
        key: &[u8],
        now: Duration,
        decide: impl FnOnce(Option<&Found>) -> Option<(Value, Duration)>,
    ) -> Option<Value> {
        let key = self.hasher.key(key);
        // Reserved before the shard is locked, for reclaiming locks other shards in turn.
        let mut spare = !self.has(key, now) && self.reserve(now);
        let mut shard = self.shards.of(key);
        let found = shard.live(key, now).map(|entry| entry.found());
        // The key may have gone since the look above.
        let room = found.is_some() || spare || self.try_reserve();
        spare |= found.is_none() && room;
        let stored = room.then(|| decide(found.as_ref())).flatten();
        let stored = stored.map(|(value, deadline)| {
            if shard.set(key, value.clone(), deadline) == Placed::InNewPlace {
                spare = false;
            }
            value
        });
        drop(shard);
        if spare {
            self.give_back(1);
        }
        stored
    }

    /// [`Table::update`] for a key whose place is reserved already.
    fn update_reserved(
        &self,
        key: &[u8],
        now: Duration,
        decide: impl FnOnce(Option<&Found>) -> (Value, Duration),
    ) {
        let key = self.hasher.key(key);
        let mut shard = self.shards.of(key);
        let found = shard.live(key, now).map(|entry| entry.found());
        let (value, deadline) = decide(found.as_ref());
        let placed = shard.set(key, value, deadline);
        drop(shard);
        if placed == Placed::OverOld {
            self.give_back(1);
        }
    }
}

/// A power of two.
fn shards(capacity: usize) -> usize {
    capacity.div_ceil(ENTRIES_A_SHARD).next_power_of_two().clamp(LEAST_SHARDS, MOST_SHARDS)
}

fn keep_first(entries: &mut Vec<Listed>, count: usize) {
    entries.sort_unstable_by(|a, b| a.key.cmp(&b.key));
    entries.truncate(count);
}
