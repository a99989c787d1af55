//! What identifies a flow, and where it may live.

use super::{BUCKET_SLOTS, STASH_SHARE};
use crate::{
    address::{Port, Protocol},
    hash::HashSeed,
    rewrite::EndpointsV4,
};

/// What identifies one direction of a flow: the packet's own addresses, ports and protocol.
#[repr(C, align(8))]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct FlowKeyV4 {
    /// Source address.
    pub source: [u8; 4],
    /// Destination address.
    pub destination: [u8; 4],
    /// Source port, network order.
    pub source_port: [u8; 2],
    /// Destination port, network order.
    pub destination_port: [u8; 2],
    /// IANA protocol number; never 0 in a key, so that a slot of zeros matches nothing.
    pub protocol: u8,
    #[doc(hidden)]
    pub reserved: [u8; 3],
}

const _: () = assert!(size_of::<FlowKeyV4>() == 16);

impl FlowKeyV4 {
    /// The key of packets with these endpoints.
    #[inline(always)]
    pub const fn new(endpoints: &EndpointsV4, protocol: Protocol) -> Self {
        Self {
            source: endpoints.source,
            destination: endpoints.destination,
            source_port: endpoints.source_port.0,
            destination_port: endpoints.destination_port.0,
            protocol: protocol.number(),
            reserved: [0; 3],
        }
    }

    /// Addresses and ports, without the protocol.
    pub const fn endpoints(&self) -> EndpointsV4 {
        EndpointsV4 {
            source: self.source,
            destination: self.destination,
            source_port: Port(self.source_port),
            destination_port: Port(self.destination_port),
        }
    }

    /// In the form that is hashed and compared.
    #[inline(always)]
    pub const fn packed(&self) -> PackedKeyV4 {
        let ([a, b, c, d], [e, f, g, h]) = (self.source, self.destination);
        let ([i, j], [k, l]) = (self.source_port, self.destination_port);
        PackedKeyV4::new([a, b, c, d, e, f, g, h], [i, j, k, l], self.protocol)
    }

    #[cfg(not(target_arch = "bpf"))]
    pub(super) const fn unpacked(PackedKeyV4([first, second]): PackedKeyV4) -> Self {
        let [a, b, c, d, e, f, g, h] = first.to_ne_bytes();
        let [i, j, k, l, protocol, m, n, o] = second.to_ne_bytes();
        Self {
            source: [a, b, c, d],
            destination: [e, f, g, h],
            source_port: [i, j],
            destination_port: [k, l],
            protocol,
            reserved: [m, n, o],
        }
    }
}

/// A [`FlowKeyV4`] as two words, which is how slots hold it: addresses; ports, protocol, zeros.
///
/// Addresses and ports stand in a packet in this very order, so the program loads them as they
/// are.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct PackedKeyV4(pub [u64; 2]);

impl PackedKeyV4 {
    /// From both addresses and both ports as a packet has them.
    #[inline(always)]
    pub const fn new(addresses: [u8; 8], ports: [u8; 4], protocol: u8) -> Self {
        // As if from the bytes of ports, protocol, zeros; put so that the ports stay one load.
        let (ports, protocol) = (u32::from_ne_bytes(ports) as u64, protocol as u64);
        let second = if cfg!(target_endian = "little") {
            ports | protocol << 32
        } else {
            ports << 32 | protocol << 24
        };
        Self([u64::from_ne_bytes(addresses), second])
    }

    /// Source and destination, each as a word of its bytes as they lie in memory.
    #[inline(always)]
    pub const fn addresses(&self) -> [u32; 2] {
        let word = self.0[0];
        let (low, high) = (word as u32, (word >> 32) as u32);
        if cfg!(target_endian = "little") { [low, high] } else { [high, low] }
    }
}

/// The buckets that a key may live in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Geometry {
    /// Buckets that keys hash into: a power of two.
    pub buckets: u32,
    /// The hash's key.
    pub seed: HashSeed,
}

impl Geometry {
    /// Buckets for this many flows of two entries each, at a load of one half or less.
    pub const fn buckets_for(flows: u32) -> u32 {
        let slots = flows as u64 * 2 * 2;
        let buckets = slots.div_ceil(BUCKET_SLOTS as u64).next_power_of_two();
        #[expect(clippy::cast_possible_truncation, reason = "bounded just before")]
        let bounded = if buckets > 1 << 24 { 1 << 24 } else { buckets as u32 };
        if bounded < STASH_SHARE { STASH_SHARE } else { bounded }
    }

    /// Buckets of the stash, which follow the others.
    #[inline(always)]
    pub const fn stash(&self) -> u32 {
        self.buckets / STASH_SHARE
    }

    /// Buckets in all: the size of the map.
    pub const fn total(&self) -> u32 {
        self.buckets + self.stash()
    }

    /// The buckets that a key may live in.
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "halves of the hash")]
    pub const fn choices(&self, key: &PackedKeyV4) -> Choices {
        let hash = self.seed.hash(key.0);
        Choices {
            first: hash as u32 & (self.buckets - 1),
            second: (hash >> 32) as u32 & (self.buckets - 1),
            // Bits that neither choice uses on its own, for tables of up to 2^24 buckets.
            stashed: self.buckets + ((hash >> 24) as u32 & (self.stash() - 1)),
            home: (hash >> 62) as u32,
        }
    }
}

/// The buckets that a key may live in, by preference.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Choices {
    /// Most keys live here.
    pub first: u32,
    /// Keys that found their first choice full.
    pub second: u32,
    /// Keys that found both full.
    pub stashed: u32,
    /// The slot of each bucket that is the first to be taken, and to be looked at: below four.
    pub home: u32,
}

impl Choices {
    /// Places of a bucket's slots, in the order in which they are taken and looked at.
    ///
    /// Each key has a home there. A table that is half full has it free for three keys of four,
    /// so most packets touch one cache line, and the branch behind it is foreseen. Next is the
    /// line that processors fetch together with it.
    #[inline(always)]
    pub const fn places(&self) -> [usize; BUCKET_SLOTS] {
        let home = self.home as usize;
        [home & 3, (home ^ 1) & 3, (home ^ 2) & 3, (home ^ 3) & 3]
    }
}
