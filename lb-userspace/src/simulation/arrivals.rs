//! The `arrivals` map in memory.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError, atomic::AtomicU64},
};

use lb_common::admission::{Rate, RateKey};

/// When each client's next flow is due; see [`Rate`].
#[derive(Debug, Default)]
pub struct Arrivals(Mutex<HashMap<RateKey, AtomicU64>>);

impl Arrivals {
    /// Whether the rate lets one more flow begin now.
    pub fn is_due(&self, key: &RateKey, rate: &Rate, nanos: u64) -> bool {
        let mut due = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        rate.admits(due.entry(*key).or_default(), nanos)
    }
}
