//! Consistent hashing: the Maglev table of a pool.
//!
//! Every worker and every instance with the same servers gives the same answer, whatever order
//! they are written in: servers are identified by address and port, tables are made of the
//! sorted servers, and the hash has a fixed key. That key is public, so a client with many
//! addresses can choose its server; who must not, gets round robin.

use std::net::SocketAddr;

use lb_common::{
    address::Address,
    maglev::{self, Backend},
};
use siphasher::{sip, sip128};

use super::{HashKey, dice::fraction};
use crate::config::{Pool, Server};

/// The key of all hashes here. To change it is to move every client to another server.
const KEY: &[u8; 16] = b"firstpacket pool";

/// Lengths of tables: the primes after powers of two. A table has at least
/// [`ENTRIES_PER_SERVER`] entries a server, up to [`Pool::MOST_SERVERS`].
const LENGTHS: [usize; 6] = [65_537, 131_101, 262_147, 524_309, 1_048_583, 2_097_169];

/// The paper's rule (§3.4): a hundred entries a server keep the load within one percent.
const ENTRIES_PER_SERVER: usize = 100;

const _: () = assert!(LENGTHS[LENGTHS.len() - 1] >= Pool::MOST_SERVERS * ENTRIES_PER_SERVER);

/// How often a key is hashed anew before the servers are gone through in order. With half of the
/// servers down, one key in 65,536 gets that far.
const ATTEMPTS: u64 = 16;

/// The table, whose entries are positions in the pool's `servers`.
#[derive(Debug)]
pub(super) struct Maglev {
    table: Vec<u16>,
    /// The servers' positions, sorted by address and port.
    sorted: Vec<u16>,
}

impl Maglev {
    /// The table also holds servers that are disabled: to enable one again moves only its own
    /// clients back. Ratios become Maglev weights, see [`lb_common::maglev`].
    pub fn new(servers: &[Server]) -> Self {
        let mut sorted: Vec<u16> = (0..=u16::MAX).take(servers.len()).collect();
        sorted.sort_by_key(|position| servers[usize::from(*position)].address);
        let mut backends: Vec<_> =
            sorted.iter().map(|position| backend(&servers[usize::from(*position)])).collect();
        if servers.is_empty() {
            return Self { table: Vec::new(), sorted };
        }
        let mut table = vec![0; length(servers.len())];
        maglev::populate(&mut table, &mut backends)
            .expect("there are servers, none of ratio 0, and fewer than the prime length");
        for entry in &mut table {
            *entry = sorted[usize::from(*entry)];
        }
        Self { table, sorted }
    }

    /// The server of a key.
    ///
    /// If it is not usable, the key is hashed anew with the number of the attempt, so its keys
    /// spread over all others as their ratios say, and other servers' keys stay where they are.
    /// After [`ATTEMPTS`] the servers are gone through in their sorted order, from a position
    /// that the key gives.
    pub fn pick(&self, key: HashKey<'_>, usable: impl Fn(usize) -> bool) -> Option<usize> {
        let hash = hash(key);
        (0..ATTEMPTS)
            .filter_map(|attempt| maglev::lookup(&self.table, rehash(hash, attempt)))
            .chain(self.in_order(hash))
            .map(usize::from)
            .find(|server| usable(*server))
    }

    /// How many entries each server has.
    #[cfg(test)]
    pub fn entries(&self, servers: usize) -> Vec<usize> {
        let mut entries = vec![0; servers];
        for server in &self.table {
            entries[usize::from(*server)] += 1;
        }
        entries
    }

    fn in_order(&self, hash: u64) -> impl Iterator<Item = u16> {
        let (before, from) = self.sorted.split_at(hash as usize % self.sorted.len().max(1));
        from.iter().chain(before).copied()
    }
}

fn length(servers: usize) -> usize {
    let [.., longest] = LENGTHS;
    let needed = servers * ENTRIES_PER_SERVER;
    LENGTHS.into_iter().find(|length| *length >= needed).unwrap_or(longest)
}

fn backend(server: &Server) -> Backend {
    let hasher = sip128::SipHasher13::new_with_key(KEY);
    let (offset, skip) = hasher.hash(&identity(server.address)).as_u64();
    Backend::new(offset, skip, server.ratio)
}

/// Address, as the maps hold it, and port.
fn identity(socket: SocketAddr) -> [u8; 18] {
    let mut bytes = [0; 18];
    bytes[..16].copy_from_slice(&Address::from(socket.ip()).octets());
    bytes[16..].copy_from_slice(&socket.port().to_be_bytes());
    bytes
}

/// SipHash-1-3 (Aumasson and Bernstein, INDOCRYPT 2012) of the address, as the maps hold it, with
/// the port if that counts; or of the bytes.
fn hash(key: HashKey<'_>) -> u64 {
    let hasher = sip::SipHasher13::new_with_key(KEY);
    match key {
        HashKey::Address(address) => hasher.hash(&Address::from(address).octets()),
        HashKey::Socket(socket) => hasher.hash(&identity(socket)),
        HashKey::Custom(bytes) => hasher.hash(bytes),
    }
}

/// A number below 1 that a key always gets, whatever else depends on its hash.
pub(super) fn dice(key: HashKey<'_>) -> f32 {
    fraction((rehash(hash(key), ATTEMPTS) >> 32) as u32)
}

/// The hash itself at first, then what SplitMix64 (Steele et al., OOPSLA 2014) makes of it.
const fn rehash(hash: u64, attempt: u64) -> u64 {
    if attempt == 0 {
        return hash;
    }
    let mut z = hash.wrapping_add(attempt.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_have_a_prime_length_and_a_hundred_entries_a_server() {
        assert!(LENGTHS.into_iter().all(maglev::is_prime));
        for (servers, expected) in [
            (1, 65_537),
            (655, 65_537),
            (656, 131_101),
            (5_000, 524_309),
            (Pool::MOST_SERVERS, 2_097_169),
        ] {
            assert_eq!(length(servers), expected, "{servers} servers");
            assert!(expected >= servers * ENTRIES_PER_SERVER);
        }
    }

    #[test]
    fn hashes_are_the_same_on_every_machine_and_in_every_version() {
        let address = HashKey::Address("192.0.2.1".parse().unwrap());
        assert_eq!(hash(address), 0x85c1_0799_26ef_3c96);
        assert_eq!(hash(HashKey::Custom(b"session")), 0x7a16_8ed6_0074_0931);
        assert_eq!(rehash(0, 1), 0xe220_a839_7b1d_cdaf);
    }
}
