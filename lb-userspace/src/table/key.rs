//! Keys, hashed once for all that a table asks of them.

use std::hash::BuildHasher as _;

use hashbrown::DefaultHashBuilder;

/// A key and its hash: the bits in the middle say which shard it is in, the lowest and the highest
/// where in it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Key<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) hash: u64,
}

/// Hashes the keys of one table. Its secret is drawn at random: who chooses keys cannot choose where
/// they go.
#[derive(Clone, Debug, Default)]
pub(super) struct KeyHasher(DefaultHashBuilder);

impl KeyHasher {
    pub(super) fn key<'a>(&self, bytes: &'a [u8]) -> Key<'a> {
        Key { bytes, hash: self.0.hash_one(bytes) }
    }
}

impl Key<'_> {
    /// Its shard among so many, a power of two.
    pub(super) fn shard(&self, count: usize) -> usize {
        (self.hash >> 32) as usize & (count - 1)
    }
}
