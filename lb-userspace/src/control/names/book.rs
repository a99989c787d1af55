//! What is known of every name.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use tokio::sync::watch;
use tracing::{info, warn};

use super::{Asked, memory::Heard, pace};
use crate::config::Resolution;

/// What is known of every name that is followed. The tasks that ask write it, the daemon reads it,
/// both on one thread: nobody waits for it.
#[derive(Debug)]
pub struct Book {
    entries: Mutex<BTreeMap<Arc<str>, Entry>>,
    remembered: BTreeMap<String, Heard>,
    progress: watch::Sender<Progress>,
}

/// What those wait for who wait for names.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Progress {
    /// How often addresses have come or gone.
    pub changes: u64,
    /// Names that have not been asked for yet.
    pub unasked: usize,
}

/// What is known of one.
#[derive(Clone, Debug, Default)]
pub struct Entry {
    /// Its addresses, sorted.
    pub addresses: Vec<Ipv4Addr>,
    /// When they were last heard.
    pub resolved: Option<SystemTime>,
    /// Why they were not since.
    pub failure: Option<Failure>,
    /// When it is asked for again.
    pub next: Option<SystemTime>,
    /// How often it was asked for.
    pub asked: u64,
}

/// Why a name cannot be resolved.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    /// In words.
    pub why: String,
    /// When that began.
    pub since: SystemTime,
    /// How often in a row.
    pub times: u32,
}

impl Book {
    /// Empty, with what an earlier daemon has heard: it holds until something else is.
    pub fn remembering(remembered: BTreeMap<String, Heard>) -> Self {
        let progress = watch::Sender::new(Progress::default());
        Self { entries: Mutex::default(), remembered, progress }
    }

    /// Forgets all names but these. Those that are new are unasked.
    pub fn keep(&self, names: &BTreeSet<Arc<str>>) {
        let mut entries = self.lock();
        entries.retain(|name, _| names.contains(name));
        for name in names {
            entries.entry(Arc::clone(name)).or_insert_with(|| {
                self.remembered.get(&**name).map_or_else(Entry::default, Entry::remembered)
            });
        }
        self.publish(&entries, false);
    }

    /// Writes down what came of asking for a name, and says after how long it is to be asked for
    /// again. One that is not followed any more is not written down.
    pub fn record(&self, name: &str, asked: Asked, now: SystemTime) -> Duration {
        let mut entries = self.lock();
        let Some(entry) = entries.get_mut(name) else { return pace::MOST };
        entry.asked += 1;
        let (changed, delay) = match asked {
            Ok(answer) => {
                let changed = entry.hear(name, answer.addresses, now);
                (changed, pace::after_answer(answer.ttl, name, entry.asked))
            }
            Err(why) => {
                let times = entry.fail(name, why, now);
                (false, pace::after_failure(times, name, entry.asked))
            }
        };
        entry.next = now.checked_add(delay);
        self.publish(&entries, changed);
        delay
    }

    /// All addresses that are known.
    pub fn resolution(&self) -> Resolution {
        let entries = self.lock();
        entries.iter().map(|(name, entry)| (Arc::clone(name), entry.addresses.clone())).collect()
    }

    /// All names that were ever resolved.
    pub fn heard(&self) -> BTreeMap<String, Heard> {
        let entries = self.lock();
        let heard = entries.iter().filter_map(|(name, entry)| {
            Some((name.to_string(), (entry.addresses.clone(), entry.resolved?)))
        });
        heard.collect()
    }

    /// What is known of a name.
    pub fn entry(&self, name: &str) -> Option<Entry> {
        self.lock().get(name).cloned()
    }

    /// Follows the progress.
    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    fn publish(&self, entries: &BTreeMap<Arc<str>, Entry>, changed: bool) {
        let unasked = entries.values().filter(|entry| entry.asked == 0).count();
        self.progress.send_modify(|progress| {
            progress.unasked = unasked;
            progress.changes += u64::from(changed);
        });
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    fn remembered((addresses, resolved): &Heard) -> Self {
        Self { addresses: addresses.clone(), resolved: Some(*resolved), ..Self::default() }
    }

    /// Whether the addresses are others than before.
    fn hear(&mut self, name: &str, mut addresses: Vec<Ipv4Addr>, now: SystemTime) -> bool {
        addresses.sort_unstable();
        addresses.dedup();
        self.resolved = Some(now);
        if self.failure.take().is_some() {
            info!(name, "the name is resolved again");
        }
        if self.addresses == addresses {
            return false;
        }
        info!(name, ?addresses, "the name has other addresses");
        self.addresses = addresses;
        true
    }

    /// How often that was in a row.
    fn fail(&mut self, name: &str, why: String, now: SystemTime) -> u32 {
        if self.failure.as_ref().is_none_or(|failure| failure.why != why) {
            warn!(name, kept = self.addresses.len(), "the name cannot be resolved: {why}");
        }
        let before = self.failure.take();
        let since = before.as_ref().map_or(now, |failure| failure.since);
        let times = before.map_or(0, |failure| failure.times).saturating_add(1);
        self.failure = Some(Failure { why, since, times });
        times
    }
}
