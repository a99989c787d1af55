//! Values by prefix: the longest one that holds an address wins.

use std::{cmp::Reverse, collections::BTreeMap, net::IpAddr};

use hashbrown::HashMap;
use ipnet::IpNet;

/// A hash map for each prefix length in use, longest first. Routing tables use few lengths, so
/// that a lookup is a handful of probes and a change is one.
#[derive(Clone, Debug)]
pub struct Prefixes<V> {
    by_length: BTreeMap<Reverse<u8>, HashMap<IpNet, V>>,
}

impl<V> Default for Prefixes<V> {
    fn default() -> Self {
        Self { by_length: BTreeMap::new() }
    }
}

impl<V> Prefixes<V> {
    /// The value of exactly this prefix, made if there is none. Host bits are ignored.
    pub fn entry(&mut self, prefix: IpNet) -> &mut V
    where
        V: Default,
    {
        let lengths = self.by_length.entry(Reverse(prefix.prefix_len())).or_default();
        lengths.entry(prefix.trunc()).or_default()
    }

    /// The value of exactly this prefix.
    pub fn get_mut(&mut self, prefix: IpNet) -> Option<&mut V> {
        self.by_length.get_mut(&Reverse(prefix.prefix_len()))?.get_mut(&prefix.trunc())
    }

    /// Takes a prefix out.
    pub fn remove(&mut self, prefix: IpNet) -> Option<V> {
        let length = Reverse(prefix.prefix_len());
        let prefixes = self.by_length.get_mut(&length)?;
        let removed = prefixes.remove(&prefix.trunc());
        if prefixes.is_empty() {
            self.by_length.remove(&length);
        }
        removed
    }

    /// The value of the longest prefix that holds `address`.
    pub fn longest(&self, address: IpAddr) -> Option<&V> {
        self.by_length.iter().find_map(|(Reverse(length), prefixes)| {
            let prefix = IpNet::new(address, *length).ok()?;
            prefixes.get(&prefix.trunc())
        })
    }

    /// The value of the longest prefix that holds all of `prefix`; its own if it has one.
    pub fn longest_over(&self, prefix: IpNet) -> Option<&V> {
        let wider = self.by_length.range(Reverse(prefix.prefix_len())..);
        wider.into_iter().find_map(|(Reverse(length), prefixes)| {
            let wider = IpNet::new(prefix.addr(), *length).ok()?;
            prefixes.get(&wider.trunc())
        })
    }

    /// All of them, longest first.
    pub fn iter(&self) -> impl Iterator<Item = (IpNet, &V)> {
        self.by_length.values().flatten().map(|(prefix, value)| (*prefix, value))
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use proptest::prelude::*;

    use super::*;

    /// Few distinct bits, so that prefixes overlap and addresses hit them.
    fn address() -> impl Strategy<Value = IpAddr> {
        prop_oneof![
            prop::sample::select(vec![0u32, 0x0a00_0000, 0x0a00_0001, 0x0a01_0000, 0xffff_ffff])
                .prop_map(|bits| IpAddr::V4(Ipv4Addr::from(bits))),
            prop::sample::select(vec![0u128, 1, 0x2001 << 112, (0x2001 << 112) | 1, u128::MAX])
                .prop_map(|bits| IpAddr::V6(Ipv6Addr::from(bits))),
        ]
    }

    fn prefix() -> impl Strategy<Value = IpNet> {
        (address(), 0u8..=128).prop_map(|(address, length)| {
            let widest = if address.is_ipv4() { 32 } else { 128 };
            IpNet::new(address, length % (widest + 1)).unwrap().trunc()
        })
    }

    proptest! {
        #[test]
        fn the_longest_prefix_is_what_a_search_of_all_of_them_finds(
            added in prop::collection::vec((prefix(), any::<u32>()), 0..40),
            removed in prop::collection::vec(prefix(), 0..10),
            wanted in address(),
            inside in prefix(),
        ) {
            let mut prefixes = Prefixes::default();
            let mut model = std::collections::HashMap::new();
            for (prefix, value) in added {
                *prefixes.entry(prefix) = value;
                model.insert(prefix, value);
            }
            for prefix in removed {
                prop_assert_eq!(prefixes.remove(prefix), model.remove(&prefix));
            }
            let longest = |holds: &dyn Fn(&IpNet) -> bool| {
                let holding = model.iter().filter(|(prefix, _)| holds(prefix));
                holding.max_by_key(|(prefix, _)| prefix.prefix_len()).map(|(_, value)| value)
            };
            prop_assert_eq!(prefixes.longest(wanted), longest(&|prefix| prefix.contains(&wanted)));
            prop_assert_eq!(
                prefixes.longest_over(inside),
                longest(&|prefix| prefix.contains(&inside))
            );
            prop_assert_eq!(prefixes.iter().count(), model.len());
        }
    }
}
