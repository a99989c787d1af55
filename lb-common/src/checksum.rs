//! One's complement arithmetic (RFC 1071) and its incremental form (RFC 1624).
//!
//! Words are taken from memory in the machine's own order: the sum is independent of byte order
//! (RFC 1071 §2 B), so nothing has to be swapped.

use crate::address::Protocol;

/// A one's complement sum in the making. Additions are deferred; [`Sum::fold`] brings it to 16 bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Sum(pub(crate) u32);

impl Sum {
    /// Adds one word that is in the packet.
    #[inline(always)]
    #[must_use]
    pub const fn plus(self, word: [u8; 2]) -> Self {
        Self(self.0 + u16::from_ne_bytes(word) as u32)
    }

    /// Adds the complement of a word: what taking it out of the packet does to the sum.
    #[inline(always)]
    #[must_use]
    pub const fn minus(self, word: [u8; 2]) -> Self {
        Self(self.0 + !u16::from_ne_bytes(word) as u32)
    }

    /// Adds the two words of four bytes.
    #[inline(always)]
    #[must_use]
    pub const fn plus4(self, [a, b, c, d]: [u8; 4]) -> Self {
        self.plus([a, b]).plus([c, d])
    }

    /// Adds the complements of the two words of four bytes.
    #[inline(always)]
    #[must_use]
    pub const fn minus4(self, [a, b, c, d]: [u8; 4]) -> Self {
        self.minus([a, b]).minus([c, d])
    }

    /// Adds what is left of another sum.
    #[inline(always)]
    #[must_use]
    pub const fn and(self, delta: u16) -> Self {
        Self(self.0 + delta as u32)
    }

    /// Adds a run of bytes that starts on a word boundary; an odd last byte is padded with zero.
    #[must_use]
    pub fn bytes(mut self, bytes: &[u8]) -> Self {
        let (words, rest) = bytes.as_chunks::<2>();
        for word in words {
            self = Self(self.plus(*word).fold().into());
        }
        match rest {
            [last] => self.plus([*last, 0]),
            _ => self,
        }
    }

    /// The sum in 16 bits, carries added back in.
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "both carries are folded in before")]
    pub const fn fold(self) -> u16 {
        let once = (self.0 & 0xffff) + (self.0 >> 16);
        ((once & 0xffff) + (once >> 16)) as u16
    }

    /// The checksum field that belongs to this sum.
    #[inline(always)]
    pub const fn checksum(self) -> [u8; 2] {
        (!self.fold()).to_ne_bytes()
    }
}

/// What a change of many words of 32 bits does to a sum: an addition a word.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct WideSum(u64);

impl WideSum {
    /// What it does to put `new` where `old` was.
    #[inline(always)]
    #[must_use]
    pub const fn change4(self, old: [u8; 4], new: [u8; 4]) -> Self {
        Self(self.0 + !u32::from_ne_bytes(old) as u64 + u32::from_ne_bytes(new) as u64)
    }

    /// The same of a single word.
    #[inline(always)]
    #[must_use]
    pub const fn change(self, old: [u8; 2], new: [u8; 2]) -> Self {
        Self(self.0 + !u16::from_ne_bytes(old) as u64 + u16::from_ne_bytes(new) as u64)
    }

    /// In 16 bits, carries added back in. Words of 32 bits are two of 16, for 2^16 counts as 1.
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "each step says how much is left")]
    pub const fn fold(self) -> u16 {
        // A packet has few words that change: their carries are below 2^16, and with these added
        // the upper half is 2^16 only if the lower one is small. So two halves carry once.
        let words = (self.0 & 0xffff_ffff) + (self.0 >> 32);
        add_halves((words & 0xffff) as u32 + (words >> 16) as u32)
    }
}

/// The checksum of a TCP segment over IPv4, with the pseudo-header (RFC 9293 §3.1): what belongs into
/// its field if that is zero, and zero if the right one is there. A packet holds no segment whose
/// length takes more than 16 bits.
pub fn of_tcp(source: [u8; 4], destination: [u8; 4], segment: &[u8]) -> [u8; 2] {
    let length = u16::try_from(segment.len()).unwrap_or(u16::MAX).to_be_bytes();
    let addresses = Sum::default().plus4(source).plus4(destination);
    addresses.plus([0, Protocol::Tcp.number()]).plus(length).bytes(segment).checksum()
}

/// The checksum after a change of the data that it covers (RFC 1624 equation 3).
///
/// `delta` is the folded [`Sum`] of the new words and the complements of the old.
#[inline(always)]
pub const fn update(checksum: [u8; 2], delta: u16) -> [u8; 2] {
    (!add(!u16::from_ne_bytes(checksum), delta)).to_ne_bytes()
}

/// Two folded sums in one.
#[inline(always)]
pub const fn add(a: u16, b: u16) -> u16 {
    add_halves(a as u32 + b as u32)
}

/// The sum of two words of 16 bits in 16 bits: it carries once, and with that added not again.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "the carry has been added")]
const fn add_halves(sum: u32) -> u16 {
    (sum + (sum >> 16)) as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_example_of_rfc_1624() {
        // §4: checksum 0xdd2f, word 0x5555 becomes 0x3285; the right answer is 0x0000.
        let delta =
            Sum::default().minus(0x5555u16.to_be_bytes()).plus(0x3285u16.to_be_bytes()).fold();
        assert_eq!(update(0xdd2fu16.to_be_bytes(), delta), [0, 0]);
    }

    #[test]
    fn a_segment_with_its_checksum_sums_up_to_nothing() {
        // A SYN from 192.0.2.1 to 192.0.2.2, computed by hand.
        let mut syn = [0; 20];
        (syn[1], syn[3], syn[12], syn[13]) = (7, 80, 5 << 4, 2);
        let (from, to) = ([192, 0, 2, 1], [192, 0, 2, 2]);
        let sum: u32 = 2 * (0xc000 + 0x0200) + 1 + 2 + 6 + 20 + 7 + 80 + 0x5002;
        let expected = !(u16::try_from(sum & 0xffff).unwrap() + u16::try_from(sum >> 16).unwrap());
        assert_eq!(of_tcp(from, to, &syn), expected.to_be_bytes());
        syn[16..18].copy_from_slice(&expected.to_be_bytes());
        assert_eq!(of_tcp(from, to, &syn), [0, 0]);
        assert_ne!(of_tcp(from, [192, 0, 2, 3], &syn), [0, 0]);
    }

    proptest! {
        #[test]
        fn a_wide_sum_is_the_sum(
            words in prop::collection::vec(any::<([u8; 4], [u8; 4])>(), 0..100),
            (old, new) in any::<([u8; 2], [u8; 2])>(),
        ) {
            let mut wide = WideSum::default().change(old, new);
            let mut sum = Sum::default().minus(old).plus(new);
            for (old, new) in words {
                wide = wide.change4(old, new);
                sum = sum.minus4(old).plus4(new);
            }
            prop_assert_eq!(wide.fold(), sum.fold());
        }

        #[test]
        fn an_update_equals_a_recomputation(
            mut data in prop::collection::vec(any::<u8>(), 12..80),
            at in 0usize..5,
            new: [u8; 4],
        ) {
            // A packet's sum is never zero: the version or protocol field is not.
            data[11] |= 1;
            let before = Sum::default().bytes(&data).checksum();
            let old: [u8; 4] = data[2 * at..2 * at + 4].try_into().unwrap();
            data[2 * at..2 * at + 4].copy_from_slice(&new);
            let delta = Sum::default().minus4(old).plus4(new).fold();
            prop_assume!(data.iter().any(|byte| *byte != 0));
            prop_assert_eq!(update(before, delta), Sum::default().bytes(&data).checksum());
        }
    }
}
