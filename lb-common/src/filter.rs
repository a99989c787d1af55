//! Telling packets of no flow of ours apart before anything is looked up.
//!
//! A Bloom filter of one hash (Bloom, *Space/time trade-offs in hash coding with allowable
//! errors*, CACM 1970): half of its bits are for addresses that packets of flows are sent to, half
//! for addresses that only send. A packet whose addresses both miss is of no flow; one that hits
//! may be. Bits are never taken back, for flows outlive what the configuration says of their
//! addresses; they go with the map.

use core::sync::atomic::Ordering::Relaxed;

#[cfg(not(target_arch = "bpf"))]
use crate::{address::Address, service::Roles};
use crate::{atomic::AtomicU64, flow::PackedKeyV4, path::Tables};

/// Words of the `address_filter` map. One address in 32 that is not ours hits when there are 2,000
/// of either kind that are.
pub const FILTER_WORDS: u32 = 2 * HALF;

/// 65,536 bits.
const HALF: u32 = 1024;

/// Where the bit of an address is.
#[derive(Clone, Copy)]
struct Bit {
    word: u32,
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
        Self { word: (hash >> 6) as u32, mask: 1 << (hash & 63) }
    }

    /// Of an address that only sends.
    #[inline(always)]
    const fn of_source(address: u32) -> Self {
        let Self { word, mask } = Self::of_destination(address);
        Self { word: word + HALF, mask }
    }
}

/// Whether a packet with this key may be of a flow.
#[inline(always)]
pub fn may_be_ours<T: Tables>(tables: &T, key: &PackedKeyV4) -> bool {
    let [source, destination] = key.addresses();
    let holds = |Bit { word, mask }| tables.filter_word(word) & mask != 0;
    holds(Bit::of_destination(destination)) || holds(Bit::of_source(source))
}

/// The filter in memory. Control fills it; the program reads it.
#[derive(Clone, Copy, Debug)]
pub struct AddressFilter<'a>(pub &'a [AtomicU64]);

impl AddressFilter<'_> {
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
        if let Some(word) = self.0.get(word as usize) {
            word.fetch_or(mask, Relaxed);
        }
    }

    /// One of its words.
    #[inline(always)]
    pub fn word(&self, index: u32) -> u64 {
        self.0.get(index as usize).map_or(0, |word| word.load(Relaxed))
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn words() -> Vec<AtomicU64> {
        (0..FILTER_WORDS).map(|_| AtomicU64::default()).collect()
    }

    fn bits(words: &[AtomicU64]) -> u32 {
        words.iter().map(|word| word.load(Relaxed).count_ones()).sum()
    }

    fn holds(filter: AddressFilter<'_>, bit: Bit) -> bool {
        filter.word(bit.word) & bit.mask != 0
    }

    #[test]
    fn each_role_is_looked_for_on_its_side() {
        let address = [192, 0, 2, 7];
        let word = u32::from_ne_bytes(address);
        let cases = [
            (Roles::VIRTUAL_SERVICE, true, false),
            (Roles::SNAT, true, false),
            (Roles::DNAT_SERVER, false, true),
            (Roles::SNAT.and(Roles::DNAT_SERVER), true, true),
            (Roles::default(), false, false),
        ];
        for (roles, destination, source) in cases {
            let words = words();
            let filter = AddressFilter(&words);
            filter.add(&Address::v4(address), roles);
            assert_eq!(holds(filter, Bit::of_destination(word)), destination, "{roles:?}");
            assert_eq!(holds(filter, Bit::of_source(word)), source, "{roles:?}");
            filter.add(&Address::v6(&[0x20; 16]), roles);
            assert_eq!(bits(&words), u32::from(destination) + u32::from(source), "{roles:?}");
        }
    }

    /// The neighbours of a network get bits of their own, nearly all of them.
    #[test]
    fn addresses_of_one_network_are_spread() {
        let words = words();
        let filter = AddressFilter(&words);
        for host in 0..2048_u16 {
            let [c, d] = host.to_be_bytes();
            filter.add(&Address::v4([10, 1, c, d]), Roles::VIRTUAL_SERVICE);
        }
        assert!(bits(&words) > 1900, "{}", bits(&words));
        let foreign = (0..=u16::MAX).filter(|host| {
            let [c, d] = host.to_be_bytes();
            holds(filter, Bit::of_destination(u32::from_ne_bytes([172, 16, c, d])))
        });
        let hits = foreign.count();
        assert!(hits < 65_536 / 24, "{hits} of 65,536 foreign addresses");
    }

    proptest! {
        #[test]
        fn every_address_has_a_place(address: u32) {
            for bit in [Bit::of_destination(address), Bit::of_source(address)] {
                prop_assert!(bit.word < FILTER_WORDS && bit.mask.count_ones() == 1);
            }
        }
    }
}
