//! Telling packets of no flow of ours apart without looking for more than one bucket.
//!
//! A Bloom filter of one hash (Bloom, *Space/time trade-offs in hash coding with allowable
//! errors*, CACM 1970): half of its bits are for addresses that packets of flows are sent to, half
//! for addresses that only send. A packet whose addresses both miss is of no flow; one that hits
//! may be. Bits are never taken back, for flows outlive what the configuration says of their
//! addresses; they go with the map.

use core::sync::atomic::Ordering::Relaxed;

#[cfg(not(target_arch = "bpf"))]
use crate::{address::Address, service::Roles};
use crate::{atomic::AtomicU64, flow::PackedKeyV4};

/// Words of each half. One address in 32 that is not ours hits when there are 2,000 that are.
const HALF: usize = 1024;

/// The value of the one-element `address_filter` map. Control fills it, through mapped memory; the
/// program reads it.
#[derive(Debug)]
#[repr(transparent)]
pub struct AddressFilter([AtomicU64; 2 * HALF]);

#[cfg(not(loom))]
const _: () = assert!(size_of::<AddressFilter>() == 16_384);

/// Where the bit of an address is.
#[derive(Clone, Copy)]
struct Bit {
    word: usize,
    mask: u64,
}

impl Bit {
    /// Of an address that is sent to, given as a word of its four bytes in memory.
    #[inline(always)]
    const fn of_destination(address: u32) -> Self {
        // Multiplication by the golden ratio spreads neighbours, of the product best the topmost
        // bits (Knuth, TAOCP 3, 6.4); once is too little for the hosts of a /16.
        const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
        let product = (address as u64).wrapping_mul(GOLDEN);
        let hash = (product ^ product >> 32).wrapping_mul(GOLDEN) >> 48;
        Self { word: (hash >> 6) as usize, mask: 1 << (hash & 63) }
    }

    /// Of an address that only sends.
    #[inline(always)]
    const fn of_source(address: u32) -> Self {
        let Self { word, mask } = Self::of_destination(address);
        Self { word: HALF + word, mask }
    }
}

impl AddressFilter {
    /// Whether a packet with this key may be of a flow.
    #[inline(always)]
    pub fn may_hold(&self, key: &PackedKeyV4) -> bool {
        let [source, destination] = key.addresses();
        // Both at once: a branch between them would have the verifier look at all that follows
        // twice.
        self.bit(Bit::of_destination(destination)) | self.bit(Bit::of_source(source)) != 0
    }

    #[inline(always)]
    fn bit(&self, Bit { word, mask }: Bit) -> u64 {
        self.0[word & (2 * HALF - 1)].load(Relaxed) & mask
    }

    /// Has packets to or from an address looked up, by what it is to this instance. One that has
    /// no part in flows, or is no IPv4 address, leaves the filter as it is.
    #[cfg(not(target_arch = "bpf"))]
    pub fn add(&self, address: &Address, roles: Roles) {
        let core::net::IpAddr::V4(address) = address.ip() else { return };
        let address = u32::from_ne_bytes(address.octets());
        if roles.any(Roles::VIRTUAL_SERVICE.and(Roles::SNAT)) {
            self.set(Bit::of_destination(address));
        }
        if roles.any(Roles::DNAT_SERVER) {
            self.set(Bit::of_source(address));
        }
    }

    #[cfg(not(target_arch = "bpf"))]
    fn set(&self, Bit { word, mask }: Bit) {
        self.0[word & (2 * HALF - 1)].fetch_or(mask, Relaxed);
    }
}

#[cfg(not(target_arch = "bpf"))]
impl Default for AddressFilter {
    /// Which holds nothing.
    fn default() -> Self {
        Self(core::array::from_fn(|_| AtomicU64::new(0)))
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn bits(filter: &AddressFilter) -> u32 {
        filter.0.iter().map(|word| word.load(Relaxed).count_ones()).sum()
    }

    fn key(source: [u8; 4], destination: [u8; 4]) -> PackedKeyV4 {
        let ([a, b, c, d], [e, f, g, h]) = (source, destination);
        PackedKeyV4::new([a, b, c, d, e, f, g, h], [1, 2, 3, 4], 6)
    }

    #[test]
    fn each_role_is_looked_for_on_its_side() {
        let (ours, foreign) = ([192, 0, 2, 7], [198, 51, 100, 9]);
        let cases = [
            (Roles::VIRTUAL_SERVICE, true, false),
            (Roles::SNAT, true, false),
            (Roles::DNAT_SERVER, false, true),
            (Roles::SNAT.and(Roles::DNAT_SERVER), true, true),
            (Roles::default(), false, false),
        ];
        for (roles, to, from) in cases {
            let filter = AddressFilter::default();
            filter.add(&Address::v4(ours), roles);
            assert_eq!(filter.may_hold(&key(foreign, ours)), to, "{roles:?}");
            assert_eq!(filter.may_hold(&key(ours, foreign)), from, "{roles:?}");
            assert!(!filter.may_hold(&key(foreign, foreign)), "{roles:?}");
            filter.add(&Address::v6(&[0x20; 16]), roles);
            assert_eq!(bits(&filter), u32::from(to) + u32::from(from), "{roles:?}");
        }
    }

    /// The neighbours of a network get bits of their own, nearly all of them.
    #[test]
    fn addresses_of_one_network_are_spread() {
        let filter = AddressFilter::default();
        for host in 0..2048_u16 {
            let [c, d] = host.to_be_bytes();
            filter.add(&Address::v4([10, 1, c, d]), Roles::VIRTUAL_SERVICE);
        }
        assert!(bits(&filter) > 1900, "{}", bits(&filter));
        let is_hit = |host: &u16| {
            let [c, d] = host.to_be_bytes();
            filter.may_hold(&key([10, 1, 0, 1], [172, 16, c, d]))
        };
        let hits = (0..=u16::MAX).filter(is_hit).count();
        assert!(hits < 65_536 / 24, "{hits} of 65,536 foreign addresses");
    }
}
