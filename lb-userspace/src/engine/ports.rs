//! SNAT ports: which of a worker's share are in use toward each server.
//!
//! A port may be used toward every server at once; what must be unique is the server's view of
//! the flow. Workers share the configured range between them, so none has to ask another.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    ops::RangeInclusive,
};

use lb_common::address::Protocol;

/// What a port is unique for: our address, the server's, and the transport.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Toward {
    /// Our source address.
    pub source: IpAddr,
    /// The server.
    pub server: SocketAddr,
    /// The transport.
    pub protocol: Protocol,
}

/// A worker's ports.
#[derive(Debug)]
pub struct Ports {
    share: RangeInclusive<u16>,
    used: HashMap<Toward, InUse>,
}

/// The part of `range` that belongs to a worker: equal parts, in order.
pub fn share(range: &RangeInclusive<u16>, worker: u16, workers: u16) -> RangeInclusive<u16> {
    let (start, end) = (u32::from(*range.start()), u32::from(*range.end()) + 1);
    let bound = |n: u16| start + (end - start) * u32::from(n) / u32::from(workers.max(1));
    let (first, past) = (bound(worker), bound(worker + 1));
    let port = |n: u32| u16::try_from(n).unwrap_or(u16::MAX);
    if past > first {
        port(first)..=port(past - 1)
    } else {
        // Fewer ports than workers: this one gets none.
        #[expect(clippy::reversed_empty_ranges, reason = "an empty range is meant")]
        {
            1..=0
        }
    }
}

impl Ports {
    /// Nothing in use yet.
    pub fn new(share: RangeInclusive<u16>) -> Self {
        Self { share, used: HashMap::new() }
    }

    /// Takes new ports from another share from now on; those in use stay so.
    pub fn set_share(&mut self, share: RangeInclusive<u16>) {
        self.share = share;
    }

    /// A port that nobody uses, or `None` if all are in use. The search goes on where the last
    /// one ended, so a port rests as long as possible (the server may hold it in TIME_WAIT).
    pub fn take(&mut self, toward: Toward) -> Option<u16> {
        let (first, last) = (*self.share.start(), *self.share.end());
        let used = self.used.entry(toward).or_insert_with(|| InUse::starting_at(first));
        let from = if self.share.contains(&used.next) { used.next } else { first };
        let port = used
            .first_free(from, last)
            .or_else(|| used.first_free(first, from.saturating_sub(1)))?;
        used.set(port);
        used.next = port.wrapping_add(1);
        Some(port)
    }

    /// Marks a port of a flow that was adopted. False if it was marked already. The search begins
    /// beyond it: the ports that came before are those that servers may still hold in TIME_WAIT.
    pub fn adopt(&mut self, toward: Toward, port: u16) -> bool {
        let first = *self.share.start();
        let used = self.used.entry(toward).or_insert_with(|| InUse::starting_at(first));
        if self.share.contains(&port) {
            used.next = used.next.max(port.wrapping_add(1));
        }
        used.set(port)
    }

    /// Gives a port back.
    pub fn give_back(&mut self, toward: &Toward, port: u16) {
        let Some(used) = self.used.get_mut(toward) else { return };
        used.clear(port);
        if used.count == 0 && self.used.len() > 4096 {
            // A map per server that ever was would never shrink.
            self.used.remove(toward);
        }
    }

    /// Ports in use, toward all servers.
    #[cfg(test)]
    pub fn in_use(&self) -> usize {
        self.used.values().map(|used| used.count as usize).sum()
    }
}

/// A bit a port.
struct InUse {
    words: Box<[u64; 1024]>,
    next: u16,
    count: u32,
}

impl std::fmt::Debug for InUse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} in use", self.count)
    }
}

impl InUse {
    fn starting_at(next: u16) -> Self {
        Self { words: Box::new([0; 1024]), next, count: 0 }
    }

    fn set(&mut self, port: u16) -> bool {
        let (word, bit) = (&mut self.words[usize::from(port / 64)], 1 << (port % 64));
        let is_new = *word & bit == 0;
        *word |= bit;
        self.count += u32::from(is_new);
        is_new
    }

    fn clear(&mut self, port: u16) {
        let (word, bit) = (&mut self.words[usize::from(port / 64)], 1 << (port % 64));
        self.count -= u32::from(*word & bit != 0);
        *word &= !bit;
    }

    /// The first free port from `first` to `last`, a word of 64 at a time.
    fn first_free(&self, first: u16, last: u16) -> Option<u16> {
        if first > last {
            return None;
        }
        (first / 64..=last / 64).find_map(|index| {
            let below_first = if index == first / 64 { (1u64 << (first % 64)) - 1 } else { 0 };
            let taken = self.words[usize::from(index)] | below_first;
            let bit = u16::try_from((!taken).trailing_zeros()).unwrap_or(64);
            (bit < 64).then(|| index * 64 + bit).filter(|port| *port <= last)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use proptest::prelude::*;

    fn toward(host: u8) -> Toward {
        Toward {
            source: IpAddr::from([192, 0, 2, 9]),
            server: SocketAddr::from(([10, 0, 0, host], 80)),
            protocol: Protocol::Tcp,
        }
    }

    #[test]
    fn shares_cover_the_range_and_do_not_overlap() {
        for workers in 1..9u16 {
            let all: Vec<u16> =
                (0..workers).flat_map(|worker| share(&(1024..=65_535), worker, workers)).collect();
            assert_eq!(all, (1024..=65_535).collect::<Vec<_>>());
        }
        assert_eq!(
            (0..4).flat_map(|worker| share(&(7..=8), worker, 4)).collect::<Vec<_>>(),
            [7, 8]
        );
    }

    #[test]
    fn every_port_is_given_once_and_then_none() {
        let mut ports = Ports::new(1000..=1999);
        let given: HashSet<u16> = std::iter::from_fn(|| ports.take(toward(1))).collect();
        assert_eq!(given, (1000..=1999).collect());
        assert_eq!(ports.take(toward(2)), Some(1000), "another server has all of them");
        ports.give_back(&toward(1), 1500);
        assert_eq!(ports.take(toward(1)), Some(1500));
    }

    #[test]
    fn a_port_given_back_rests_while_others_are_free() {
        let mut ports = Ports::new(1000..=1009);
        let first = ports.take(toward(1)).unwrap();
        ports.give_back(&toward(1), first);
        for _ in 0..9 {
            assert_ne!(ports.take(toward(1)), Some(first));
        }
        assert_eq!(ports.take(toward(1)), Some(first));
    }

    #[test]
    fn an_adopted_port_rests_too_when_its_flow_has_ended() {
        let mut ports = Ports::new(1000..=1009);
        for port in [1004, 1002, 999] {
            assert!(ports.adopt(toward(1), port));
            ports.give_back(&toward(1), port);
        }
        assert_eq!(ports.take(toward(1)), Some(1005));
    }

    #[test]
    fn the_highest_port_is_one_of_them() {
        let mut ports = Ports::new(65_534..=65_535);
        let given: Vec<_> = std::iter::from_fn(|| ports.take(toward(1))).collect();
        assert_eq!(given, [65_534, 65_535]);
        ports.give_back(&toward(1), 65_534);
        assert_eq!(ports.take(toward(1)), Some(65_534));
    }

    proptest! {
        #[test]
        fn a_port_is_never_given_out_twice(
            steps in prop::collection::vec((any::<bool>(), 0u8..3, 0usize..64), 1..400),
        ) {
            let mut ports = Ports::new(2000..=2063);
            let mut held: Vec<(u8, u16)> = Vec::new();
            for (take, host, which) in steps {
                if take {
                    match ports.take(toward(host)) {
                        Some(port) => {
                            prop_assert!(!held.contains(&(host, port)));
                            held.push((host, port));
                        }
                        None => prop_assert_eq!(held.iter().filter(|h| h.0 == host).count(), 64),
                    }
                } else if !held.is_empty() {
                    let (host, port) = held.swap_remove(which % held.len());
                    ports.give_back(&toward(host), port);
                }
                prop_assert_eq!(ports.in_use(), held.len());
            }
        }
    }
}
