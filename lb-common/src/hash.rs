//! The keyed hash that places flows in buckets.
//!
//! Pair-multiply-shift over the key's four 32-bit words (M. Thorup, "High Speed Hashing for
//! Integers and Strings", arXiv:1504.06804, §3): two multiplications give a 2-universal hash under a random
//! seed. Two flows meet in a bucket with the probability that chance gives and no more, whatever
//! addresses and ports an attacker picks, as long as the seed stays secret. The buckets that a
//! key may live in use independent parts of the seed.

/// Random numbers that key one hash function.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HashSeed(pub [u64; 5]);

/// The seeds of a flow table: first choice, second choice, stash.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TableSeed(pub [HashSeed; 3]);

const _: () = assert!(size_of::<TableSeed>() == 120);

impl HashSeed {
    /// 32 bits for a key of four words.
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "the upper half is the hash")]
    pub const fn hash(&self, key: [u32; 4]) -> u32 {
        let [s0, s1, s2, s3, s4] = self.0;
        let [a, b, c, d] = key;
        let left = s0.wrapping_add(b as u64).wrapping_mul(s1.wrapping_add(a as u64));
        let right = s2.wrapping_add(d as u64).wrapping_mul(s3.wrapping_add(c as u64));
        (left.wrapping_add(right).wrapping_add(s4) >> 32) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEED: HashSeed = HashSeed([
        0x9e37_79b9_7f4a_7c15,
        0xbf58_476d_1ce4_e5b9,
        0x94d0_49bb_1331_11eb,
        0x2545_f491_4f6c_dd1d,
        0xd6e8_feb8_6659_fd93,
    ]);

    #[test]
    fn neighbouring_ports_spread_over_buckets() {
        let mut load = [0u32; 1024];
        for port in 0..8192u32 {
            let key = [0x0a00_0001, 0x0a00_0002, port << 16 | 53, 17];
            load[(SEED.hash(key) & 1023) as usize] += 1;
        }
        assert!(load.iter().all(|n| *n < 40), "{:?}", load.iter().max());
        assert!(load.iter().filter(|n| **n == 0).count() < 32);
    }
}
