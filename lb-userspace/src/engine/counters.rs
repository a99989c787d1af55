//! What a worker counts.

use std::sync::atomic::{AtomicU64, Ordering};

use lb_common::event::{EVENTS, Event};

/// A counter an event, written by one worker and read by whoever asks.
#[derive(Debug)]
pub struct Counters([AtomicU64; EVENTS as usize]);

impl Default for Counters {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

impl Counters {
    /// Counts an event.
    pub fn count(&self, event: Event) {
        self.0[event as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// How often an event happened.
    pub fn get(&self, event: Event) -> u64 {
        self.0[event as usize].load(Ordering::Relaxed)
    }
}
