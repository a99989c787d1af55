//! The part of a table that one lock guards.

use std::{cmp::Reverse, collections::BinaryHeap, time::Duration};

use hashbrown::HashTable;

use super::{
    bytes::Bytes,
    entry::{Found, Listed, Value, remaining},
    key::{Key, KeyHasher},
};

/// Entries, and the order in which they may have expired.
#[derive(Debug)]
pub(super) struct Shard {
    hasher: KeyHasher,
    slots: HashTable<Slot>,
    /// Each entry is in here once under its `queued`; what else is in here is stale. An extension
    /// does not touch the queue: the entry is queued again when its turn comes.
    queue: BinaryHeap<Reverse<(Moment, Bytes)>>,
}

/// An entry side by side with its key, in one line of a processor's cache: a lookup waits for
/// memory once for both.
#[derive(Debug)]
#[repr(align(64))]
struct Slot {
    key: Bytes,
    entry: Entry,
}

const _: () = assert!(size_of::<Slot>() == 64);

/// What is stored under a key.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) value: Value,
    deadline: Moment,
    /// Never after `deadline`.
    queued: Moment,
}

/// A time in nanoseconds; one that is further than these reach, after 584 years, is never.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Moment(u64);

impl From<Duration> for Moment {
    fn from(time: Duration) -> Self {
        Self(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
    }
}

impl From<Moment> for Duration {
    fn from(moment: Moment) -> Self {
        Self::from_nanos(moment.0)
    }
}

impl Entry {
    pub(super) fn found(&self) -> Found {
        Found { value: self.value.clone(), deadline: self.deadline() }
    }

    /// When it expires.
    pub(super) fn deadline(&self) -> Duration {
        self.deadline.into()
    }

    /// Lets it live longer.
    pub(super) fn extend(&mut self, extension: Duration) {
        self.deadline = self.deadline().saturating_add(extension).into();
    }

    fn is_live(&self, now: Duration) -> bool {
        self.deadline > now.into()
    }
}

/// Where [`Shard::set`] put an entry.
#[derive(PartialEq, Debug)]
pub(super) enum Placed {
    /// The shard has one more entry.
    InNewPlace,
    /// An entry of this key was there, live or expired.
    OverOld,
}

impl Shard {
    /// Of a table whose keys are hashed like this.
    pub(super) fn new(hasher: KeyHasher) -> Self {
        Self { hasher, slots: HashTable::new(), queue: BinaryHeap::new() }
    }

    /// The entry of a key, to look at, unless it has expired.
    pub(super) fn peek(&self, key: Key<'_>, now: Duration) -> Option<&Entry> {
        let slot = self.slots.find(key.hash, is(key))?;
        Some(&slot.entry).filter(|entry| entry.is_live(now))
    }

    /// The entry of a key, unless it has expired.
    pub(super) fn live(&mut self, key: Key<'_>, now: Duration) -> Option<&mut Entry> {
        self.entry(key).filter(|entry| entry.is_live(now))
    }

    fn entry(&mut self, key: Key<'_>) -> Option<&mut Entry> {
        self.slots.find_mut(key.hash, is(key)).map(|slot| &mut slot.entry)
    }

    /// Stores a value.
    pub(super) fn set(&mut self, key: Key<'_>, value: Value, deadline: Duration) -> Placed {
        if let Some(entry) = self.entry(key) {
            entry.value = value;
            self.requeue(key, deadline);
            return Placed::OverOld;
        }
        let moment = Moment::from(deadline);
        let entry = Entry { value, deadline: moment, queued: moment };
        let slot = Slot { key: key.bytes.into(), entry };
        let hash = |slot: &Slot| self.hasher.key(&slot.key).hash;
        self.slots.insert_unique(key.hash, slot, hash);
        self.enqueue(moment, key.bytes.into());
        Placed::InNewPlace
    }

    /// Sets when a live key expires; `false` if there is none.
    pub(super) fn expire_at(&mut self, key: Key<'_>, deadline: Duration, now: Duration) -> bool {
        let live = self.live(key, now).is_some();
        if live {
            self.requeue(key, deadline);
        }
        live
    }

    /// Takes an entry out, live or expired.
    pub(super) fn remove(&mut self, key: Key<'_>) -> Option<Found> {
        let (slot, _) = self.slots.find_entry(key.hash, is(key)).ok()?.remove();
        Some(slot.entry.found())
    }

    /// The live entries whose keys begin with `prefix`.
    pub(super) fn list(&self, prefix: &[u8], now: Duration) -> Vec<Listed> {
        let wanted = |slot: &&Slot| slot.entry.is_live(now) && slot.key.starts_with(prefix);
        let listed = |slot: &Slot| Listed {
            key: slot.key.clone(),
            value: slot.entry.value.clone(),
            remaining: remaining(slot.entry.deadline(), now),
        };
        self.slots.iter().filter(wanted).map(listed).collect()
    }

    /// Before this, nothing is to be reclaimed.
    pub(super) fn due(&self) -> Option<Duration> {
        self.queue.peek().map(|Reverse((due, _))| (*due).into())
    }

    /// Reclaims expired entries, taking `most` from the queue; says how many entries went.
    pub(super) fn reclaim(&mut self, now: Duration, most: usize) -> usize {
        let (before, now) = (self.slots.len(), now.into());
        for _ in 0..most {
            let due = self.queue.peek().is_some_and(|Reverse((due, _))| *due <= now);
            let Some(Reverse((due, key))) = due.then(|| self.queue.pop()).flatten() else {
                break;
            };
            self.reclaim_one(due, key, now);
        }
        before - self.slots.len()
    }

    fn reclaim_one(&mut self, due: Moment, bytes: Bytes, now: Moment) {
        let key = self.hasher.key(&bytes);
        let Some(entry) = self.entry(key) else {
            return;
        };
        if entry.deadline <= now {
            self.remove(key);
        } else if entry.queued == due {
            entry.queued = entry.deadline;
            let deadline = entry.deadline;
            self.enqueue(deadline, bytes);
        }
    }

    /// Changes an entry's deadline. Only a nearer one must be queued at once.
    fn requeue(&mut self, key: Key<'_>, deadline: Duration) {
        let Some(entry) = self.entry(key) else {
            return;
        };
        let deadline = deadline.into();
        entry.deadline = deadline;
        if deadline < entry.queued {
            entry.queued = deadline;
            self.enqueue(deadline, key.bytes.into());
        }
    }

    /// Queues a key; when most of the queue is stale, builds it anew.
    fn enqueue(&mut self, due: Moment, key: Bytes) {
        self.queue.push(Reverse((due, key)));
        if self.queue.len() > 2 * self.slots.len() + 64 {
            let queued = |slot: &Slot| Reverse((slot.entry.queued, slot.key.clone()));
            self.queue = self.slots.iter().map(queued).collect();
        }
    }

    #[cfg(test)]
    pub(super) fn queue_len(&self) -> usize {
        self.queue.len()
    }
}

/// Whether a slot is a key's.
fn is(key: Key<'_>) -> impl Fn(&Slot) -> bool {
    move |slot| *slot.key == *key.bytes
}
