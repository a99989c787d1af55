//! When a retired slot may be used again.
//!
//! A run of a packet program that found a slot just before it was retired may still write its
//! counters. Runs are read-side critical sections of the kernel's RCU: once a grace period that
//! began after the retirement has ended, no such run is left. One thread waits for grace periods
//! (`datapath::grace`), every worker asks here whether its own is over.

use std::sync::atomic::{AtomicU64, Ordering};

/// Numbers grace periods: which have begun, which are over.
#[derive(Debug, Default)]
pub struct Grace {
    begun: AtomicU64,
    over: AtomicU64,
}

/// The grace period that a retirement has to wait for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Ticket(u64);

impl Grace {
    /// For what was retired just now: the next period to begin. One that has begun already may
    /// have begun too early.
    pub fn ticket(&self) -> Ticket {
        Ticket(self.begun.load(Ordering::SeqCst) + 1)
    }

    /// Whether the ticket's period is over.
    pub fn is_over(&self, ticket: Ticket) -> bool {
        self.over.load(Ordering::Acquire) >= ticket.0
    }

    /// Runs `wait`, which returns once a grace period that began after its call has ended.
    pub fn pass(&self, wait: impl FnOnce()) {
        let period = self.begun.fetch_add(1, Ordering::SeqCst) + 1;
        wait();
        self.over.fetch_max(period, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_period_under_way_does_not_serve_what_is_retired_during_it() {
        let grace = Grace::default();
        let before = grace.ticket();
        let mut during = None;
        grace.pass(|| during = Some(grace.ticket()));
        let during = during.expect("the closure ran");
        assert!(grace.is_over(before));
        assert!(!grace.is_over(during));
        grace.pass(|| ());
        assert!(grace.is_over(during));
    }
}
