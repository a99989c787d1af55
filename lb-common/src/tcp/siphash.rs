//! SipHash-2-4 (J.-P. Aumasson, D. J. Bernstein, "SipHash: a fast short-input PRF"), of messages
//! whose length is known when the program is compiled: nothing is looped over and nothing can
//! panic, which is what the packet program needs. Others use the `siphasher` crate.

/// A hash in the making.
#[derive(Clone, Copy, Debug)]
pub struct SipHash {
    v: [u64; 4],
    length: u8,
}

impl SipHash {
    /// Of nothing yet, under a key.
    #[inline(always)]
    #[must_use]
    pub const fn new([k0, k1]: [u64; 2]) -> Self {
        let v = [
            k0 ^ 0x736f_6d65_7073_6575,
            k1 ^ 0x646f_7261_6e64_6f6d,
            k0 ^ 0x6c79_6765_6e65_7261,
            k1 ^ 0x7465_6462_7974_6573,
        ];
        Self { v, length: 0 }
    }

    /// Eight more bytes of the message, in little-endian order.
    #[inline(always)]
    #[must_use]
    pub const fn word(self, word: u64) -> Self {
        let [v0, v1, v2, v3] = self.v;
        let [v0, v1, v2, v3] = round(round([v0, v1, v2, v3 ^ word]));
        Self { v: [v0 ^ word, v1, v2, v3], length: self.length.wrapping_add(8) }
    }

    /// The hash of a message that ends with seven more bytes: the lower ones of `last`.
    #[inline(always)]
    #[must_use]
    pub const fn finish(self, last: u64) -> u64 {
        let length = self.length.wrapping_add(7) as u64;
        let [v0, v1, v2, v3] = self.word(last & (u64::MAX >> 8) | length << 56).v;
        let [v0, v1, v2, v3] = round(round(round(round([v0, v1, v2 ^ 0xff, v3]))));
        v0 ^ v1 ^ v2 ^ v3
    }
}

#[inline(always)]
const fn round([v0, v1, v2, v3]: [u64; 4]) -> [u64; 4] {
    let v0 = v0.wrapping_add(v1);
    let v1 = v1.rotate_left(13) ^ v0;
    let v0 = v0.rotate_left(32);
    let v2 = v2.wrapping_add(v3);
    let v3 = v3.rotate_left(16) ^ v2;
    let v0 = v0.wrapping_add(v3);
    let v3 = v3.rotate_left(21) ^ v0;
    let v2 = v2.wrapping_add(v1);
    let v1 = v1.rotate_left(17) ^ v2;
    let v2 = v2.rotate_left(32);
    [v0, v1, v2, v3]
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::hash::Hasher as _;
    use proptest::prelude::*;
    use siphasher::sip::SipHasher24;

    const KEY: [u64; 2] = [0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908];

    #[test]
    fn the_example_of_the_paper() {
        // Appendix A: key 00 01 … 0f, message 00 01 … 0e.
        let hash = SipHash::new(KEY).word(0x0706_0504_0302_0100).finish(0x000e_0d0c_0b0a_0908);
        assert_eq!(hash, 0xa129_ca61_49be_45e5);
    }

    #[test]
    fn vectors_of_the_reference_implementation() {
        // vectors.h of the authors' code, `vectors_sip64`: messages of 7, 15 and 23 bytes.
        assert_eq!(
            SipHash::new(KEY).finish(0x0006_0504_0302_0100).to_le_bytes(),
            [0x37, 0xd1, 0x01, 0x8b, 0xf5, 0x00, 0x02, 0xab]
        );
        let first = SipHash::new(KEY).word(0x0706_0504_0302_0100);
        let hash = first.word(0x0f0e_0d0c_0b0a_0908).finish(0x0016_1514_1312_1110);
        assert_eq!(hash.to_le_bytes(), [0xc8, 0xce, 0x5c, 0xcd, 0x8c, 0x03, 0x0c, 0xa8]);
    }

    proptest! {
        #[test]
        fn any_message_hashes_as_by_the_crate_that_others_use(
            key: [u64; 2], words: [u64; 3], last: u64,
        ) {
            let mut other = SipHasher24::new_with_keys(key[0], key[1]);
            words.iter().for_each(|word| other.write(&word.to_le_bytes()));
            other.write(&last.to_le_bytes()[..7]);
            let begun = words.iter().fold(SipHash::new(key), |hash, word| hash.word(*word));
            prop_assert_eq!(begun.finish(last), other.finish());
        }
    }
}
