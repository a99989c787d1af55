//! Who may begin a flow, and how often: steps 1 and 2 of the order of evaluation.
//!
//! Both are asked of packets that belong to no flow, and only for services that want it: a flow
//! that was let in goes on.

use crate::{address::Address, atomic::AtomicU64, path::Tables, service::Service};
use core::sync::atomic::Ordering::Relaxed;

/// Most prefixes that the network security policies of an instance can have.
pub const CLIENT_PREFIXES: u32 = 131_072;
/// Most clients and services whose rate is known at once; the ones not seen for longest go first.
pub const ARRIVALS: u32 = 131_072;

/// What the prefixes of the `client_prefixes` map are of. The policy always counts as a whole, so
/// a prefix has [`PolicyClient::POLICY_BITS`] more bits than the client's.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct PolicyClient {
    /// The policy's number in this instance.
    pub policy: u32,
    /// The client's address, as on the wire.
    pub client: [u8; 16],
}

const _: () = assert!(size_of::<PolicyClient>() == 20);

impl PolicyClient {
    /// Bits of the policy's number.
    pub const POLICY_BITS: u32 = 32;

    /// A client under a policy.
    #[inline(always)]
    pub const fn new(policy: u32, client: Address) -> Self {
        Self { policy, client: client.octets() }
    }

    /// The client's address.
    pub const fn address(&self) -> Address {
        Address::v6(&self.client)
    }
}

/// The value of the `client_prefixes` map: whether clients of this prefix may begin flows.
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Admission(pub u32);

impl Admission {
    /// They may.
    pub const ALLOW: Self = Self(1);
    /// They may not.
    pub const DENY: Self = Self(2);
}

/// An entry of the `client_prefixes` map.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ClientPrefix {
    /// Bits of the client's address that count.
    pub bits: u32,
    /// Whose policy, and which clients.
    pub of: PolicyClient,
    /// What the policy says of them.
    pub admission: Admission,
}

/// The key of the `arrivals` map: whose rate is limited.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct RateKey {
    /// The virtual service's number.
    pub service: u32,
    #[doc(hidden)]
    pub reserved: u32,
    /// The client, or [`RateKey::EVERYONE`].
    pub client: Address,
}

const _: () = assert!(size_of::<RateKey>() == 24);

impl RateKey {
    /// All clients of the service together: the unspecified address is nobody's.
    pub const EVERYONE: Address = Address::UNSPECIFIED;

    /// A client's flows to a service.
    #[inline(always)]
    pub const fn new(service: u32, client: Address) -> Self {
        Self { service, reserved: 0, client }
    }
}

/// How many flows may begin in a second: the generic cell rate algorithm (ITU-T I.371), which
/// needs one word a limit, the time at which the next flow is due if flows come evenly.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Rate {
    /// Nanoseconds between two flows that come evenly; 0 for no limit.
    pub interval: u32,
    /// Flows that may come at once after a quiet time.
    pub burst: u32,
}

const _: () = assert!(size_of::<Rate>() == 8);

impl Rate {
    /// So many a second, of which all may come at once. 0 is no limit.
    pub const fn per_second(flows: u32) -> Self {
        match 1_000_000_000u32.checked_div(flows) {
            None => Self { interval: 0, burst: 0 },
            Some(0) => Self { interval: 1, burst: flows },
            Some(interval) => Self { interval, burst: flows },
        }
    }

    /// Whether one more may begin. Two CPUs that ask at the very same time may both be told so:
    /// the word is read and written, not exchanged.
    #[inline(always)]
    pub fn admits(&self, due: &AtomicU64, now: u64) -> bool {
        let (from, is_due) = self.look(due, now);
        if is_due {
            due.store(from + u64::from(self.interval), Relaxed);
        }
        is_due
    }

    /// Whether one more might begin; nothing changes by asking.
    #[inline(always)]
    pub fn is_due(&self, due: &AtomicU64, now: u64) -> bool {
        self.look(due, now).1
    }

    /// The time that the next one counts from, and whether that is soon enough.
    #[inline(always)]
    fn look(&self, due: &AtomicU64, now: u64) -> (u64, bool) {
        let due_at = due.load(Relaxed);
        let from = if due_at > now { due_at } else { now };
        let ahead = from - now;
        let (interval, burst) = (u64::from(self.interval), u64::from(self.burst));
        (from, self.interval == 0 || ahead <= interval * burst.saturating_sub(1))
    }
}

/// Whether the policy of a service lets a client begin flows.
#[inline(always)]
pub fn is_allowed<T: Tables>(tables: &T, service: &Service, client: Address) -> bool {
    service.policy == 0
        || tables.admission(&PolicyClient::new(service.policy, client)) != Some(Admission::DENY)
}

/// Whether the limits of a service let a client begin one more flow now. Its own limit comes
/// first: one client that asks too often must not use up what is for all.
#[inline(always)]
pub fn is_in_time<T: Tables>(tables: &T, service: &Service, client: Address) -> bool {
    let Service { id, rate, client_rate, .. } = *service;
    admitted(tables, &client_rate, RateKey::new(id, client))
        && admitted(tables, &rate, RateKey::new(id, RateKey::EVERYONE))
}

#[inline(always)]
fn admitted<T: Tables>(tables: &T, rate: &Rate, key: RateKey) -> bool {
    rate.interval == 0 || tables.is_due(&key, rate)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn admitted(rate: Rate, times: impl IntoIterator<Item = u64>) -> usize {
        let due = AtomicU64::new(0);
        times.into_iter().filter(|now| rate.admits(&due, *now)).count()
    }

    #[test]
    fn a_burst_of_a_second_s_worth_passes_and_then_the_rate() {
        let rate = Rate::per_second(10);
        assert_eq!(admitted(rate, std::iter::repeat_n(5 * SECOND, 100)), 10);
        let even = (0..100).map(|n| n * SECOND / 10);
        assert_eq!(admitted(rate, even), 100);
        // A hundred a second for ten seconds: the burst, and ten a second after it.
        let fast = (0..1000).map(|n| n * SECOND / 100);
        let passed = admitted(rate, fast);
        assert!((105..=111).contains(&passed), "{passed}");
    }

    #[test]
    fn a_coarse_clock_does_not_cost_flows() {
        let rate = Rate::per_second(1_000);
        // A thousand a second, seen by a clock that ticks every four milliseconds.
        let ticks = (0..10_000u64).map(|n| n * SECOND / 1_000 / 4_000_000 * 4_000_000);
        assert_eq!(admitted(rate, ticks), 10_000);
    }

    #[test]
    fn asking_changes_nothing() {
        let (rate, due) = (Rate::per_second(1), AtomicU64::new(0));
        assert!(rate.is_due(&due, SECOND) && rate.is_due(&due, SECOND));
        assert!(rate.admits(&due, SECOND) && !rate.is_due(&due, SECOND));
        assert!(Rate::default().is_due(&due, SECOND), "no limit");
    }

    #[test]
    fn extremes_are_limits_too() {
        assert_eq!(Rate::per_second(0), Rate::default());
        assert_eq!(Rate::per_second(1), Rate { interval: 1_000_000_000, burst: 1 });
        assert_eq!(admitted(Rate::per_second(1), [0, 1, SECOND - 1, SECOND, SECOND + 1]), 2);
        assert_eq!(Rate::per_second(u32::MAX).interval, 1);
        let late = AtomicU64::new(u64::MAX);
        assert!(!Rate::per_second(1).admits(&late, 5));
    }
}
