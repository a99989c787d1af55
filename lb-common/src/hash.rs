//! The keyed hash that places flows in buckets.
//!
//! Two steps. Pair-multiply-shift over the key's four 32-bit words (M. Thorup, "High Speed
//! Hashing for Integers and Strings", arXiv:1504.06804, §3) turns the key into 64 bits under a
//! random seed: distinct keys stay distinct but for a chance of about 2^-32, whatever addresses
//! and ports an attacker picks, as long as the seed stays secret. That alone keeps arithmetic
//! progressions (ports that count up) in progression, and these crowd into few buckets under an
//! unlucky seed; so a finalizer that is a bijection (D. Stafford's Mix13 of the MurmurHash3
//! finalizer) scatters them. Its upper and lower half choose the two buckets of a key.

/// Random numbers that key the hash.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HashSeed(pub [u64; 5]);

const _: () = assert!(size_of::<HashSeed>() == 40);

impl HashSeed {
    /// 64 bits for a key of four words of 32 bits, two in each of these.
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "a word is split into its halves")]
    pub const fn hash(&self, key: [u64; 2]) -> u64 {
        let [s0, s1, s2, s3, s4] = self.0;
        let [a, b] = [key[0] as u32, (key[0] >> 32) as u32];
        let [c, d] = [key[1] as u32, (key[1] >> 32) as u32];
        let left = s0.wrapping_add(b as u64).wrapping_mul(s1.wrapping_add(a as u64));
        let right = s2.wrapping_add(d as u64).wrapping_mul(s3.wrapping_add(c as u64));
        mix(left.wrapping_add(right).wrapping_add(s4))
    }
}

/// The finalizer alone: a bijection that scatters what is regular.
#[inline(always)]
pub const fn mix(mut word: u64) -> u64 {
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Most entries in one of 1,024 buckets for 4,096 keys in a pattern that real traffic has.
    fn heaviest(seed: HashSeed, key: impl Fn(u32) -> [u32; 4]) -> u32 {
        let mut load = [0u32; 1024];
        for number in 0..4096 {
            load[(seed.hash(joined(key(number))) & 1023) as usize] += 1;
        }
        load.into_iter().max().unwrap_or_default()
    }

    fn joined([a, b, c, d]: [u32; 4]) -> [u64; 2] {
        [u64::from(b) << 32 | u64::from(a), u64::from(d) << 32 | u64::from(c)]
    }

    #[test]
    fn patterns_spread_under_every_seed() {
        for seed in 0..200u64 {
            let seed = HashSeed(core::array::from_fn(|i| mix(seed * 8 + i as u64 + 1)));
            let patterns: [fn(u32) -> [u32; 4]; 4] = [
                |n| [0x0a00_0001, 0xc000_020a, n << 16 | 80, 6],
                |n| [0x0a00_0000 | n, 0xc000_020a, 1 << 16 | 80, 6],
                |n| [n.rotate_left(24), 0xc000_020a, 1 << 16 | 80, 6],
                |n| [n << 8, n << 8, n << 16 | n, 17],
            ];
            for pattern in patterns {
                // Random placement gives 4 on average, and above 18 once in ten million tries.
                assert!(heaviest(seed, pattern) <= 18);
            }
        }
    }
}
