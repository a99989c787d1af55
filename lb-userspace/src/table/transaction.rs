//! What one run of a script does to the tables of its virtual service, all or nothing.

use std::{mem, sync::Arc, time::Duration};

use hashbrown::{HashMap, hash_map::Entry};

use super::{
    Table, Tables,
    entry::{Found, Value},
};

/// Effects that wait for [`Transaction::commit`]. Reads see them; other workers do not. Dropped, it
/// leaves nothing behind.
///
/// Where another worker changed the same key meanwhile, the effects are applied as if the run had
/// begun only then: an insert finds the other's value and only resets its lifetime.
#[derive(Debug)]
pub struct Transaction {
    tables: Arc<Tables>,
    service: Arc<str>,
    now: Duration,
    /// Whether tables that do not exist are made for everyone or only for this run.
    rehearsal: bool,
    opened: Vec<(Box<[u8]>, Arc<Table>)>,
    changes: Changes,
    /// What the changes were at the last mark.
    marked: Changes,
}

/// By table and key.
type Changes = HashMap<(usize, Box<[u8]>), Changed>;

/// Tables and keys that there is room for from run to run.
const KEPT: usize = 8;

/// What the run made of one key.
#[derive(Clone, Debug)]
struct Changed {
    /// What the run sees.
    seen: Option<Found>,
    /// Whether it was there before: then it has a place already.
    there: bool,
    /// What commit will do.
    change: Change,
    /// By how much the lifetime was extended, as long as it was not set: others may extend it too.
    extended: Option<Duration>,
}

#[derive(Clone, Debug)]
enum Change {
    /// Set or extend the lifetime if it is there.
    Touch,
    /// Store this if nothing is there, set the deadline in any case. Whether a place is reserved.
    Insert(Value, bool),
    /// Take it out.
    Remove,
    /// Store what is seen, whatever is there. Whether a place is reserved.
    Put(bool),
}

impl Transaction {
    /// Begins. All of the run happens at `now`.
    pub fn new(tables: Arc<Tables>, service: Arc<str>, now: Duration) -> Self {
        let (opened, changes, marked) = (Vec::new(), HashMap::new(), HashMap::new());
        Self { tables, service, now, rehearsal: false, opened, changes, marked }
    }

    /// Begins one that is never to be committed: it leaves not even an empty table behind.
    pub fn rehearsal(tables: Arc<Tables>, service: Arc<str>, now: Duration) -> Self {
        let mut transaction = Self::new(tables, service, now);
        transaction.rehearsal = true;
        transaction
    }

    /// Begins anew, for another run: what is kept is memory, and tables that are open already.
    pub fn begin(&mut self, service: &Arc<str>, now: Duration) {
        self.abandon();
        self.now = now;
        if !Arc::ptr_eq(&self.service, service) {
            self.service = Arc::clone(service);
            self.opened.clear();
        }
        // A script may compute names and keys: the next one need not go through them.
        self.opened.truncate(KEPT);
        self.changes.shrink_to(KEPT);
    }

    /// When the run happens.
    pub fn now(&self) -> Duration {
        self.now
    }

    /// See [`Table::insert`].
    pub fn insert(&mut self, table: &[u8], key: &[u8], value: Value, lifetime: Duration) -> bool {
        let Some(table) = self.open(table, true) else {
            return false;
        };
        let now = self.now;
        let (target, changed) = self.changed(table, key);
        let deadline = now.saturating_add(lifetime);
        if let Some(seen) = &mut changed.seen {
            seen.deadline = deadline;
            changed.extended = None;
            if matches!(changed.change, Change::Touch) {
                // Should it be gone by the time of the commit, this value is stored.
                changed.change = Change::Insert(value, false);
            }
            return true;
        }
        // To replace a value, scripts remove the key and insert it: that must work in a full table.
        let reserved = !changed.there && target.reserve(now);
        if !changed.there && !reserved {
            return false;
        }
        changed.seen = Some(Found { value: value.clone(), deadline });
        changed.change = match changed.change {
            Change::Remove => Change::Put(reserved),
            _ => Change::Insert(value, reserved),
        };
        true
    }

    /// See [`Table::lookup`].
    pub fn lookup(&mut self, table: &[u8], key: &[u8], extension: Duration) -> Option<Found> {
        self.read(table, key, extension, |value, deadline| Found { value: value.clone(), deadline })
    }

    /// As [`Transaction::lookup`]: what `read` makes of value and deadline. Meanwhile a lock may be
    /// held, that of others in the same part of the table.
    pub fn read<R>(
        &mut self,
        table: &[u8],
        key: &[u8],
        extension: Duration,
        read: impl FnOnce(&Value, Duration) -> R,
    ) -> Option<R> {
        let table = self.open(table, false)?;
        if extension.is_zero() && !self.has_changed(table, key) {
            return self.opened[table].1.read(key, self.now, read);
        }
        let (_, changed) = self.changed(table, key);
        let seen = changed.seen.as_mut()?;
        seen.deadline = seen.deadline.saturating_add(extension);
        changed.extended = changed.extended.map(|sum| sum.saturating_add(extension));
        Some(read(&seen.value, seen.deadline))
    }

    /// What a key holds as the run sees it, without any effect.
    pub fn peek(&mut self, table: &[u8], key: &[u8]) -> Option<Found> {
        let table = self.open(table, false)?;
        match self.changes.get(&KeyRef(table, key)) {
            Some(changed) => changed.seen.clone(),
            None => self.opened[table].1.peek(key, self.now),
        }
    }

    /// See [`Table::refresh`].
    pub fn refresh(&mut self, table: &[u8], key: &[u8], lifetime: Duration) -> bool {
        let Some(table) = self.open(table, false) else {
            return false;
        };
        let deadline = self.now.saturating_add(lifetime);
        let (_, changed) = self.changed(table, key);
        if let Some(seen) = &mut changed.seen {
            seen.deadline = deadline;
            changed.extended = None;
        }
        changed.seen.is_some()
    }

    /// See [`Table::remove`].
    pub fn remove(&mut self, table: &[u8], key: &[u8]) {
        let Some(table) = self.open(table, false) else {
            return;
        };
        let (target, changed) = self.changed(table, key);
        changed.seen = None;
        if mem::replace(&mut changed.change, Change::Remove).holds_a_place() {
            target.give_back(1);
        }
    }

    /// The effects so far stay if those that follow are given up by [`Transaction::back`].
    pub fn mark(&mut self) {
        if !self.changes.is_empty() {
            self.marked.clone_from(&self.changes);
        }
    }

    /// Gives up the effects since the last mark; all of them if there is none.
    pub fn back(&mut self) {
        let undone = mem::replace(&mut self.changes, self.marked.clone());
        let holds = |changed: &Changed| changed.change.holds_a_place();
        for (key, changed) in &undone {
            if holds(changed) && !self.changes.get(key).is_some_and(holds) {
                self.opened[key.0].1.give_back(1);
            }
        }
        for (key, kept) in &mut self.changes {
            // One that was removed since has given its place back.
            let lost = !undone.get(key).is_some_and(holds);
            if let (true, Change::Insert(_, place @ true) | Change::Put(place @ true)) =
                (lost, &mut kept.change)
            {
                *place = self.opened[key.0].1.reserve(self.now);
            }
        }
    }

    /// Makes the effects visible to everyone; the next ones begin anew.
    pub fn commit(&mut self, now: Duration) {
        // Most runs only read.
        if self.changes.is_empty() && self.marked.is_empty() {
            return;
        }
        self.marked.clear();
        for ((table, key), changed) in self.changes.drain() {
            apply(&self.opened[table].1, &key, changed, now);
        }
    }

    /// Gives the effects up.
    pub fn abandon(&mut self) {
        if self.changes.is_empty() && self.marked.is_empty() {
            return;
        }
        self.marked.clear();
        for ((table, _), changed) in self.changes.drain() {
            if changed.change.holds_a_place() {
                self.opened[table].1.give_back(1);
            }
        }
    }

    /// The table's place in `opened`. `None`: it does not exist, or cannot be made.
    fn open(&mut self, name: &[u8], create: bool) -> Option<usize> {
        if let Some(open) = self.opened.iter().position(|(open, _)| **open == *name) {
            return Some(open);
        }
        let there = self.tables.table(&self.service, name);
        let table = there.or_else(|| match (create, self.rehearsal) {
            (false, _) => None,
            (true, false) => self.tables.table_or_create(&self.service, name),
            (true, true) => Some(Arc::new(Table::new(self.tables.limits().entries))),
        });
        self.opened.push((name.into(), table?));
        Some(self.opened.len() - 1)
    }

    fn has_changed(&self, table: usize, key: &[u8]) -> bool {
        !self.changes.is_empty() && self.changes.contains_key(&KeyRef(table, key))
    }

    fn changed(&mut self, table: usize, key: &[u8]) -> (&Table, &mut Changed) {
        let target = &self.opened[table].1;
        let changed = match self.changes.entry((table, key.into())) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                let seen = target.peek(key, self.now);
                let (change, extended) = (Change::Touch, Some(Duration::ZERO));
                entry.insert(Changed { there: seen.is_some(), seen, change, extended })
            }
        };
        (target, changed)
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        self.abandon();
    }
}

impl Change {
    fn holds_a_place(&self) -> bool {
        matches!(self, Self::Insert(_, true) | Self::Put(true))
    }
}

/// A key of [`Transaction::changes`], borrowed.
#[derive(Hash)]
struct KeyRef<'a>(usize, &'a [u8]);

impl hashbrown::Equivalent<(usize, Box<[u8]>)> for KeyRef<'_> {
    fn equivalent(&self, key: &(usize, Box<[u8]>)) -> bool {
        self.0 == key.0 && *self.1 == *key.1
    }
}

fn apply(table: &Table, key: &[u8], changed: Changed, now: Duration) {
    let Changed { seen, change, extended, .. } = changed;
    match (change, seen) {
        (Change::Remove, _) => {
            table.remove(key, now);
        }
        (Change::Touch, Some(seen)) => match extended {
            Some(extension) => _ = table.lookup(key, extension, now),
            None => _ = table.expire_at(key, seen.deadline, now),
        },
        (Change::Insert(value, reserved), Some(seen)) => {
            let decide = |found: Option<&Found>| {
                let value = found.map_or(value, |found| found.value.clone());
                (value, seen.deadline)
            };
            store(table, key, now, reserved, decide);
        }
        (Change::Put(reserved), Some(seen)) => {
            store(table, key, now, reserved, |_| (seen.value, seen.deadline));
        }
        // A key that was not there and was only asked for.
        (Change::Touch | Change::Insert(..) | Change::Put(_), None) => {}
    }
}

fn store(
    table: &Table,
    key: &[u8],
    now: Duration,
    reserved: bool,
    decide: impl FnOnce(Option<&Found>) -> (Value, Duration),
) {
    if reserved {
        table.update_reserved(key, now, decide);
    } else {
        table.update(key, now, |found| Some(decide(found)));
    }
}
