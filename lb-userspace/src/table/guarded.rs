//! A table's shards, each behind its lock.

use std::{
    ops::{Deref, DerefMut},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use super::{
    key::{Key, KeyHasher},
    shard::Shard,
};

/// Shards, and when each may have something to reclaim: who needs room in a full table finds out
/// without a lock, or every packet of a flood would take all of them.
#[derive(Debug)]
pub(super) struct Guarded {
    shards: Box<[Mutex<Shard>]>,
    /// In nanoseconds; written under the shard's lock.
    due: Box<[AtomicU64]>,
}

/// A shard, locked. When it is let go, everyone is told when something in it is due next.
pub(super) struct Locked<'a> {
    shard: MutexGuard<'a, Shard>,
    due: &'a AtomicU64,
}

impl Guarded {
    /// So many shards, a power of two.
    pub(super) fn new(count: usize, hasher: &KeyHasher) -> Self {
        let shard = |_| Mutex::new(Shard::new(hasher.clone()));
        Self {
            shards: (0..count).map(shard).collect(),
            due: (0..count).map(|_| AtomicU64::new(u64::MAX)).collect(),
        }
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.shards.len()
    }

    /// A panic while a lock is held leaves a shard whole: each of its steps is complete in itself.
    pub(super) fn lock(&self, shard: usize) -> Locked<'_> {
        let due = &self.due[shard];
        Locked { shard: self.shards[shard].lock().unwrap_or_else(PoisonError::into_inner), due }
    }

    /// Locks the shard that a key is in.
    pub(super) fn of(&self, key: Key<'_>) -> Locked<'_> {
        self.lock(key.shard(self.count()))
    }

    /// As [`Guarded::of`], to look at what is there and leave it as it is: nothing is due sooner or
    /// later for that.
    pub(super) fn look(&self, key: Key<'_>) -> impl Deref<Target = Shard> {
        self.shards[key.shard(self.count())].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The shards that may have something to reclaim.
    pub(super) fn due(&self, now: Duration) -> impl Iterator<Item = usize> {
        let now = nanos(now);
        let is_due =
            move |(shard, due): (usize, &AtomicU64)| (due.load(Relaxed) <= now).then_some(shard);
        self.due.iter().enumerate().filter_map(is_due)
    }
}

impl Deref for Locked<'_> {
    type Target = Shard;

    fn deref(&self) -> &Shard {
        &self.shard
    }
}

impl DerefMut for Locked<'_> {
    fn deref_mut(&mut self) -> &mut Shard {
        &mut self.shard
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        let due = self.shard.due().map_or(u64::MAX, nanos);
        // Most changes leave it as it was, and the line that it is in is everyone's.
        if self.due.load(Relaxed) != due {
            self.due.store(due, Relaxed);
        }
    }
}

/// What does not fit is never due.
fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
