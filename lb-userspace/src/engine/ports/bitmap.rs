//! Sixty-five thousand bits, of which a clear one is found in a few steps.

use std::ops::RangeInclusive;

/// A bit a port; above it one for each word that has no clear bit left, so that the cost of a
/// search does not grow with the ports that are taken.
pub(super) struct Bitmap {
    words: [u64; 1024],
    full: [u64; 16],
}

impl Bitmap {
    pub fn new() -> Box<Self> {
        Box::new(Self { words: [0; 1024], full: [0; 16] })
    }

    pub fn contains(&self, port: u16) -> bool {
        self.words[usize::from(port / 64)] & bit(port) != 0
    }

    /// Sets a bit. False if it was set already.
    pub fn insert(&mut self, port: u16) -> bool {
        let is_new = !self.contains(port);
        let word = &mut self.words[usize::from(port / 64)];
        *word |= bit(port);
        if *word == u64::MAX {
            self.full[usize::from(port / 4096)] |= bit(port / 64);
        }
        is_new
    }

    /// Clears a bit. False if it was clear already.
    pub fn remove(&mut self, port: u16) -> bool {
        let was_set = self.contains(port);
        self.words[usize::from(port / 64)] &= !bit(port);
        self.full[usize::from(port / 4096)] &= !bit(port / 64);
        was_set
    }

    /// The first clear bit from `first` to `last`.
    pub fn first_clear(&self, first: u16, last: u16) -> Option<u16> {
        if first > last {
            return None;
        }
        let clear = self.clear_in(first / 64, first % 64);
        let port = clear.or_else(|| self.clear_in(self.open_word(first / 64 + 1)?, 0))?;
        (port <= last).then_some(port)
    }

    /// How many bits of a range are set.
    pub fn count(&self, range: &RangeInclusive<u16>) -> u32 {
        if range.is_empty() {
            return 0;
        }
        let (first, last) = (*range.start(), *range.end());
        (first / 64..=last / 64)
            .map(|word| {
                let low = if word == first / 64 { u64::MAX << (first % 64) } else { u64::MAX };
                let high = if word == last / 64 { u64::MAX >> (63 - last % 64) } else { u64::MAX };
                (self.words[usize::from(word)] & low & high).count_ones()
            })
            .sum()
    }

    /// The first clear bit of a word, not before the bit `from`.
    fn clear_in(&self, word: u16, from: u16) -> Option<u16> {
        Some(word * 64 + first_zero(self.words[usize::from(word)] | below(from))?)
    }

    /// The first word from `from` on that has a clear bit.
    fn open_word(&self, from: u16) -> Option<u16> {
        (from / 64..16).find_map(|group| {
            let skipped = if group == from / 64 { below(from % 64) } else { 0 };
            Some(group * 64 + first_zero(self.full[usize::from(group)] | skipped)?)
        })
    }
}

fn bit(number: u16) -> u64 {
    1 << (number % 64)
}

/// The bits below this one.
fn below(bit: u16) -> u64 {
    (1 << bit) - 1
}

fn first_zero(word: u64) -> Option<u16> {
    u16::try_from((!word).trailing_zeros()).ok().filter(|bit| *bit < 64)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_finds_and_counts_what_a_set_does(
            ranges in prop::collection::vec((any::<bool>(), any::<u16>(), 0u16..9000), 1..12),
            asked in prop::collection::vec((any::<u16>(), any::<u16>()), 1..20),
        ) {
            let (mut bitmap, mut model) = (Bitmap::new(), BTreeSet::new());
            for (inserts, first, length) in ranges {
                for port in first..=first.saturating_add(length) {
                    if inserts {
                        prop_assert_eq!(bitmap.insert(port), model.insert(port));
                    } else {
                        prop_assert_eq!(bitmap.remove(port), model.remove(&port));
                    }
                }
            }
            for (first, last) in asked {
                let clear = (first..=last).find(|port| !model.contains(port));
                prop_assert_eq!(bitmap.first_clear(first, last), clear);
                let set = if first > last { 0 } else { model.range(first..=last).count() };
                prop_assert_eq!(bitmap.count(&(first..=last)) as usize, set);
            }
        }
    }
}
