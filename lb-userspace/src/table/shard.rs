//! The part of a table that one lock guards.

use std::{cmp::Reverse, collections::BinaryHeap, sync::Arc, time::Duration};

use hashbrown::HashMap;

use super::entry::{Found, Listed, Value, remaining};

/// Entries, and the order in which they may have expired.
#[derive(Debug, Default)]
pub(super) struct Shard {
    entries: HashMap<Arc<[u8]>, Entry>,
    /// Each entry is in here once under its `queued`; what else is in here is stale. An extension
    /// does not touch the queue: the entry is queued again when its turn comes.
    queue: BinaryHeap<Reverse<(Duration, Arc<[u8]>)>>,
}

/// What is stored under a key.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) value: Value,
    pub(super) deadline: Duration,
    /// Never after `deadline`.
    queued: Duration,
}

impl Entry {
    pub(super) fn found(&self) -> Found {
        Found { value: self.value.clone(), deadline: self.deadline }
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
    /// The entry of a key, to look at, unless it has expired.
    pub(super) fn peek(&self, key: &[u8], now: Duration) -> Option<&Entry> {
        self.entries.get(key).filter(|entry| entry.deadline > now)
    }

    /// The entry of a key, unless it has expired.
    pub(super) fn live(&mut self, key: &[u8], now: Duration) -> Option<&mut Entry> {
        self.entries.get_mut(key).filter(|entry| entry.deadline > now)
    }

    /// Stores a value.
    pub(super) fn set(&mut self, key: &[u8], value: Value, deadline: Duration) -> Placed {
        if let Some(entry) = self.entries.get_mut(key) {
            entry.value = value;
            self.requeue(key, deadline);
            return Placed::OverOld;
        }
        let key: Arc<[u8]> = key.into();
        let entry = Entry { value, deadline, queued: deadline };
        self.entries.insert(Arc::clone(&key), entry);
        self.enqueue(deadline, key);
        Placed::InNewPlace
    }

    /// Sets when a live key expires; `false` if there is none.
    pub(super) fn expire_at(&mut self, key: &[u8], deadline: Duration, now: Duration) -> bool {
        let live = self.live(key, now).is_some();
        if live {
            self.requeue(key, deadline);
        }
        live
    }

    /// Takes an entry out, live or expired.
    pub(super) fn remove(&mut self, key: &[u8]) -> Option<Found> {
        self.entries.remove(key).map(|entry| entry.found())
    }

    /// The live entries whose keys begin with `prefix`.
    pub(super) fn list(&self, prefix: &[u8], now: Duration) -> Vec<Listed> {
        let wanted =
            |(key, entry): &(&Arc<[u8]>, &Entry)| entry.deadline > now && key.starts_with(prefix);
        let listed = |(key, entry): (&Arc<[u8]>, &Entry)| Listed {
            key: Arc::clone(key),
            value: entry.value.clone(),
            remaining: remaining(entry.deadline, now),
        };
        self.entries.iter().filter(wanted).map(listed).collect()
    }

    /// Before this, nothing is to be reclaimed.
    pub(super) fn due(&self) -> Option<Duration> {
        self.queue.peek().map(|Reverse((due, _))| *due)
    }

    /// Reclaims expired entries, taking `most` from the queue; says how many entries went.
    pub(super) fn reclaim(&mut self, now: Duration, most: usize) -> usize {
        let before = self.entries.len();
        for _ in 0..most {
            let due = self.queue.peek().is_some_and(|Reverse((due, _))| *due <= now);
            let Some(Reverse((due, key))) = due.then(|| self.queue.pop()).flatten() else {
                break;
            };
            self.reclaim_one(due, key, now);
        }
        before - self.entries.len()
    }

    fn reclaim_one(&mut self, due: Duration, key: Arc<[u8]>, now: Duration) {
        let Some(entry) = self.entries.get_mut(&key) else {
            return;
        };
        if entry.deadline <= now {
            self.entries.remove(&key);
        } else if entry.queued == due {
            entry.queued = entry.deadline;
            let deadline = entry.deadline;
            self.enqueue(deadline, key);
        }
    }

    /// Changes an entry's deadline. Only a nearer one must be queued at once.
    fn requeue(&mut self, key: &[u8], deadline: Duration) {
        let Some((key, _)) = self.entries.get_key_value(key) else {
            return;
        };
        let key = Arc::clone(key);
        let Some(entry) = self.entries.get_mut(&key) else {
            return;
        };
        entry.deadline = deadline;
        if deadline < entry.queued {
            entry.queued = deadline;
            self.enqueue(deadline, key);
        }
    }

    /// Queues a key; when most of the queue is stale, builds it anew.
    fn enqueue(&mut self, due: Duration, key: Arc<[u8]>) {
        self.queue.push(Reverse((due, key)));
        if self.queue.len() > 2 * self.entries.len() + 64 {
            let queued =
                |(key, entry): (&Arc<[u8]>, &Entry)| Reverse((entry.queued, Arc::clone(key)));
            self.queue = self.entries.iter().map(queued).collect();
        }
    }

    #[cfg(test)]
    pub(super) fn queue_len(&self) -> usize {
        self.queue.len()
    }
}
