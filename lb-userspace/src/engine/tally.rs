//! How many servers of a pool are up: counted again only after that may have changed.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What was counted last, in the low half, and at which turnover, in the high half. Workers that
/// count at once count the same.
#[derive(Debug, Default)]
pub(super) struct Tally(AtomicU64);

impl Tally {
    /// What was counted at this turnover, which is not 0; else what `count` says.
    pub fn get(&self, turnover: u32, count: impl FnOnce() -> usize) -> usize {
        let known = self.0.load(Relaxed);
        if known >> 32 == u64::from(turnover) {
            return (known & u64::from(u32::MAX)) as usize;
        }
        let counted = count();
        // A pool has fewer servers than the catalog has numbers.
        let low = u32::try_from(counted).unwrap_or(u32::MAX);
        self.0.store(u64::from(turnover) << 32 | u64::from(low), Relaxed);
        counted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_counted_once_a_turnover() {
        let tally = Tally::default();
        let steps =
            [(1, 5, 5), (1, 6, 5), (2, 7, 7), (1, 8, 8), (u32::MAX, 0, 0), (u32::MAX, 9, 0)];
        for (turnover, there_are, expected) in steps {
            assert_eq!(tally.get(turnover, || there_are), expected, "{turnover}");
        }
    }
}
