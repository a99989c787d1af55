//! Packets that wait for a next hop's link-layer address. Bounded in number and in time.

use std::{collections::VecDeque, net::IpAddr, time::Duration};

use lb_common::next_hop::NextHopId;

/// Most packets that wait at once.
const MOST: usize = 1024;
/// Most that wait for one next hop or one client, so that a busy server that does not answer takes
/// no room from the others'. The kernel's own queue holds about as many (`unres_qlen_bytes`).
const MOST_FOR_ONE: usize = 128;
/// How long one waits: the kernel asks a neighbour three times, a second apart (`ucast_solicit`,
/// `mcast_solicit` of ip-sysctl), and a client repeats its SYN after one second (RFC 6298 §2).
const LONGEST: Duration = Duration::from_secs(3);

/// A packet, and what it waits for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Waiting {
    /// Decided and rewritten: an IPv4 packet for this next hop.
    Decided(NextHopId, Vec<u8>),
    /// Not looked at yet, for nobody knows the way back to its sender: a frame as it came.
    Undecided {
        /// The sender.
        client: IpAddr,
        /// The interface that it came in by.
        interface: u32,
        /// As it came.
        frame: Vec<u8>,
    },
}

impl Waiting {
    /// Whether both wait for the same answer.
    fn waits_like(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Decided(id, _), Self::Decided(other, _)) => id == other,
            (Self::Undecided { client, .. }, Self::Undecided { client: other, .. }) => {
                client == other
            }
            _ => false,
        }
    }
}

/// In the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Held(VecDeque<(Duration, Waiting)>);

impl Held {
    /// Keeps a packet. False if too many wait already, altogether or for the same.
    pub fn push(&mut self, now: Duration, packet: Waiting) -> bool {
        let same = self.0.iter().filter(|(_, other)| other.waits_like(&packet)).count();
        let has_room = self.0.len() < MOST && same < MOST_FOR_ONE;
        if has_room {
            self.0.push_back((now + LONGEST, packet));
        }
        has_room
    }

    /// Takes out the packets that need not wait any longer, and counts those that have waited
    /// too long.
    pub fn take_ready(
        &mut self,
        now: Duration,
        is_ready: impl Fn(&Waiting) -> bool,
    ) -> (Vec<Waiting>, usize) {
        let (mut ready, mut expired) = (Vec::new(), 0);
        self.0.retain_mut(|(deadline, packet)| {
            if is_ready(packet) {
                let nothing = Waiting::Decided(NextHopId::default(), Vec::new());
                ready.push(std::mem::replace(packet, nothing));
                return false;
            }
            expired += usize::from(*deadline <= now);
            *deadline > now
        });
        (ready, expired)
    }

    /// Whether a packet from this sender waits to be looked at.
    pub fn has_from(&self, sender: IpAddr) -> bool {
        self.has(
            |waiting| matches!(waiting, Waiting::Undecided { client, .. } if *client == sender),
        )
    }

    /// Whether a packet waits for this next hop.
    pub fn has_for(&self, next_hop: NextHopId) -> bool {
        self.has(|waiting| matches!(waiting, Waiting::Decided(id, _) if *id == next_hop))
    }

    /// Asked of each packet that is sent on; hardly ever does anything wait.
    fn has(&self, is_such: impl Fn(&Waiting) -> bool) -> bool {
        !self.is_empty() && self.0.iter().any(|(_, waiting)| is_such(waiting))
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_leave_in_order_when_ready_and_are_dropped_when_late() {
        let mut held = Held::default();
        for (at, id) in [(0, 1), (1, 2), (2, 1)] {
            let packet = Waiting::Decided(NextHopId(id), vec![at]);
            assert!(held.push(Duration::from_secs(at.into()), packet));
        }
        let for_one =
            |packet: &Waiting| matches!(packet, Waiting::Decided(id, _) if *id == NextHopId(1));
        let (ready, expired) = held.take_ready(Duration::from_secs(2), for_one);
        let bytes: Vec<_> = ready
            .into_iter()
            .map(|packet| match packet {
                Waiting::Decided(_, bytes) => bytes,
                Waiting::Undecided { .. } => Vec::new(),
            })
            .collect();
        assert_eq!((bytes, expired), (vec![vec![0], vec![2]], 0));
        let (ready, expired) = held.take_ready(Duration::from_secs(4), |_| false);
        assert_eq!((ready.len(), expired), (0, 1));
        assert!(held.is_empty());
    }

    fn undecided(client: u16) -> Waiting {
        let [a, b] = client.to_be_bytes();
        Waiting::Undecided { client: [10, 0, a, b].into(), interface: 1, frame: Vec::new() }
    }

    #[test]
    fn no_more_than_the_bound_wait() {
        let mut held = Held::default();
        for client in 0..MOST {
            assert!(held.push(Duration::ZERO, undecided(client as u16)));
        }
        assert!(!held.push(Duration::ZERO, undecided(MOST as u16)));
    }

    #[test]
    fn who_waits_for_one_takes_no_room_from_the_others() {
        let mut held = Held::default();
        for packet in [Waiting::Decided(NextHopId(1), Vec::new()), undecided(1)] {
            for _ in 0..MOST_FOR_ONE {
                assert!(held.push(Duration::ZERO, packet.clone()));
            }
            assert!(!held.push(Duration::ZERO, packet));
        }
        assert!(held.push(Duration::ZERO, Waiting::Decided(NextHopId(2), Vec::new())));
        assert!(held.push(Duration::ZERO, undecided(2)));
    }
}
