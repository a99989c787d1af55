//! Ports of one worker, over simulated time.

use std::collections::{BTreeMap, HashMap, HashSet};

use proptest::prelude::*;

use super::*;

const REST: Duration = Duration::from_secs(60);
const NOW: Duration = Duration::from_secs(1000);

fn peer(host: u8) -> Peer {
    Peer { server: SocketAddr::from(([10, 0, 0, host], 80)), protocol: Protocol::Tcp }
}

fn source(host: u8) -> IpAddr {
    IpAddr::from([192, 0, 2, host])
}

fn client(host: u8) -> IpAddr {
    IpAddr::from([198, 51, 100, host])
}

fn settings(sources: &[u8], share: RangeInclusive<u16>) -> Settings {
    Settings { sources: sources.iter().map(|host| source(*host)).collect(), share, rest: REST }
}

/// A worker's ports, and who counts them.
struct Rig {
    ports: Ports,
    gauges: PortGauges,
}

impl Rig {
    fn new(sources: &[u8], share: RangeInclusive<u16>) -> Self {
        let gauges = PortGauges::default();
        Self { ports: Ports::new(&settings(sources, share), &gauges), gauges }
    }

    fn configure(&mut self, sources: &[u8], share: RangeInclusive<u16>) {
        self.ports.configure(&settings(sources, share), &self.gauges);
    }

    fn take(&mut self, now: Duration) -> Option<SocketAddr> {
        let lease = self.ports.take(peer(1), client(1), now)?;
        self.gauges.count(&lease, now);
        Some(SocketAddr::new(lease.source, lease.port))
    }

    fn take_port(&mut self) -> Option<u16> {
        self.take(NOW).map(|snat| snat.port())
    }

    /// In use and resting, of all addresses.
    fn counts(&self) -> (u64, u64) {
        let counts = self.gauges.by_source().into_values();
        counts.fold((0, 0), |sum, count| (sum.0 + count.in_use, sum.1 + count.resting))
    }

    /// Looks after everything that is due.
    fn settle(&mut self, now: Duration) {
        for _ in 0..100 {
            self.ports.looked = None;
            self.ports.look_after(now);
        }
    }

    fn room_for_resting(&self) -> usize {
        let sets = self.ports.servers.values().flat_map(Server::sets);
        sets.map(Set::room_for_resting).sum()
    }
}

fn snat(host: u8, port: u16) -> SocketAddr {
    SocketAddr::new(source(host), port)
}

#[test]
fn shares_cover_the_range_and_do_not_overlap() {
    for workers in 1..9u16 {
        let all: Vec<u16> =
            (0..workers).flat_map(|worker| share(&(1024..=65_535), worker, workers)).collect();
        assert_eq!(all, (1024..=65_535).collect::<Vec<_>>());
    }
    assert_eq!((0..4).flat_map(|worker| share(&(7..=8), worker, 4)).collect::<Vec<_>>(), [7, 8]);
}

#[test]
fn every_port_is_given_once_and_then_none() {
    let mut rig = Rig::new(&[9], 1000..=1999);
    let given: HashSet<u16> = std::iter::from_fn(|| rig.take_port()).collect();
    assert_eq!(given, (1000..=1999).collect());
    assert_eq!(rig.counts(), (1000, 0));
    let other = rig.ports.take(peer(2), client(1), NOW).unwrap();
    assert_eq!(other.port, 1000, "another server has all of them");
    rig.ports.give_back(&peer(1), snat(9, 1500), NOW);
    assert_eq!(rig.take_port(), Some(1500));
    assert_eq!((rig.counts(), rig.gauges.reused_early()), ((1001, 0), 0));
}

#[test]
fn a_free_port_is_left_alone_while_others_are_free() {
    let mut rig = Rig::new(&[9], 1000..=1009);
    let first = rig.take_port().unwrap();
    rig.ports.give_back(&peer(1), snat(9, first), NOW);
    for _ in 0..9 {
        assert_ne!(rig.take_port(), Some(first));
    }
    assert_eq!(rig.take_port(), Some(first));
}

#[test]
fn an_adopted_port_is_left_alone_too_when_its_flow_has_ended() {
    let mut rig = Rig::new(&[9], 1000..=1009);
    for port in [1004, 1002, 999] {
        assert!(rig.ports.adopt(peer(1), snat(9, port), &rig.gauges));
        rig.ports.give_back(&peer(1), snat(9, port), NOW);
    }
    assert_eq!(rig.take_port(), Some(1005));
}

#[test]
fn the_highest_port_is_one_of_them_and_a_share_of_none_has_none() {
    let mut rig = Rig::new(&[9], 65_534..=65_535);
    let given: Vec<_> = std::iter::from_fn(|| rig.take_port()).collect();
    assert_eq!(given, [65_534, 65_535]);
    rig.ports.give_back(&peer(1), snat(9, 65_534), NOW);
    assert_eq!(rig.take_port(), Some(65_534));
    assert_eq!(Rig::new(&[9], share(&(7..=7), 0, 2)).take_port(), None);
}

#[test]
fn a_resting_port_is_used_only_if_no_address_has_a_free_one_and_the_longest_rested_first() {
    let mut rig = Rig::new(&[8, 9], 1000..=1001);
    let all: Vec<_> = std::iter::from_fn(|| rig.take(NOW)).collect();
    assert_eq!(all.len(), 4);
    // Given back in another order than their last packets came in.
    let ago = [3, 9, 5].map(|seconds| NOW - Duration::from_secs(seconds));
    for (snat, last_packet) in all.iter().zip(ago) {
        rig.ports.rest(&peer(1), *snat, last_packet, NOW);
    }
    rig.ports.give_back(&peer(1), all[3], NOW);
    assert_eq!(rig.counts(), (0, 3));
    assert_eq!([rig.take(NOW), rig.take(NOW)], [Some(all[3]), Some(all[1])]);
    assert_eq!(rig.gauges.reused_early(), 1);
    assert_eq!([rig.take(NOW), rig.take(NOW), rig.take(NOW)], [Some(all[2]), Some(all[0]), None]);
    assert_eq!((rig.counts(), rig.gauges.reused_early()), ((4, 0), 3));
}

#[test]
fn a_port_is_free_when_its_rest_is_over() {
    let mut rig = Rig::new(&[9], 1000..=1000);
    let taken = rig.take(NOW).unwrap();
    rig.ports.rest(&peer(1), taken, NOW, NOW);
    let almost = NOW + REST - Duration::from_millis(1);
    assert_eq!(rig.take(almost), Some(taken), "if it must be");
    assert_eq!(rig.gauges.reused_early(), 1);
    rig.ports.rest(&peer(1), taken, almost, almost);
    assert_eq!(rig.take(almost + REST), Some(taken));
    assert_eq!(rig.gauges.reused_early(), 1, "it was not early");
    // The last packet is so long ago that there is nothing to wait for.
    rig.ports.rest(&peer(1), taken, NOW, almost + REST);
    assert_eq!(rig.counts(), (0, 0));
}

#[test]
fn a_port_that_was_not_used_after_all_rests_on() {
    let mut rig = Rig::new(&[9], 1000..=1000);
    let taken = rig.take(NOW).unwrap();
    rig.ports.rest(&peer(1), taken, NOW, NOW);
    let lease = rig.ports.take(peer(1), client(1), NOW).unwrap();
    assert!(lease.is_early(NOW));
    rig.ports.put_back(&peer(1), &lease, NOW);
    assert_eq!(rig.counts(), (0, 1));
    let again = rig.ports.take(peer(1), client(1), NOW).unwrap();
    assert_eq!((again.port, again.rest == lease.rest), (1000, true));
}

#[test]
fn a_port_that_another_worker_uses_is_tried_again_later() {
    let mut rig = Rig::new(&[9], 1000..=1000);
    let lease = rig.ports.take(peer(1), client(1), NOW).unwrap();
    rig.ports.leave(peer(1), &lease, NOW);
    assert_eq!((rig.take(NOW), rig.counts()), (None, (0, 0)));
    rig.settle(NOW + RETRY - Duration::from_millis(1));
    assert_eq!(rig.take(NOW), None);
    rig.settle(NOW + RETRY);
    assert_eq!(rig.take_port(), Some(1000));
}

#[test]
fn clients_keep_their_address_and_spread_over_all() {
    let mut rig = Rig::new(&[7, 8, 9], 1000..=1999);
    let mut of = HashMap::new();
    let mut clients: BTreeMap<IpAddr, u32> = BTreeMap::new();
    for host in 0..=255 {
        let [one, two] = [(); 2].map(|()| rig.ports.take(peer(1), client(host), NOW).unwrap());
        assert_eq!(one.source, two.source);
        of.insert(host, one.source);
        *clients.entry(one.source).or_default() += 1;
    }
    assert_eq!(clients.len(), 3);
    assert!(clients.values().all(|count| (60..115).contains(count)), "{clients:?}");
    // One address less moves only its own clients, and to all others.
    rig.configure(&[7, 9], 1000..=1999);
    let mut heirs: HashSet<IpAddr> = HashSet::new();
    for (host, before) in of {
        let now = rig.ports.take(peer(1), client(host), NOW).unwrap().source;
        if before == source(8) {
            heirs.insert(now);
        } else {
            assert_eq!(now, before);
        }
    }
    assert_eq!(heirs.len(), 2);
}

#[test]
fn ports_of_a_former_address_and_of_a_former_share_come_back_as_others_do() {
    let mut rig = Rig::new(&[8], 1000..=1003);
    let taken: Vec<_> = std::iter::from_fn(|| rig.take(NOW)).collect();
    rig.ports.rest(&peer(1), taken[1], NOW, NOW);
    rig.configure(&[9], 1002..=1005);
    assert_eq!(rig.gauges.by_source()[&source(8)], PortCount { in_use: 3, resting: 0 });
    let new: Vec<_> = std::iter::from_fn(|| rig.take(NOW)).collect();
    assert_eq!(new, [1002, 1003, 1004, 1005].map(|port| snat(9, port)));
    for old in [0, 2] {
        rig.ports.rest(&peer(1), taken[old], NOW, NOW);
    }
    assert_eq!(rig.gauges.by_source()[&source(8)], PortCount { in_use: 1, resting: 1 });
    assert_eq!(rig.take(NOW), None, "nothing of what is not offered");
    // It comes back, with the one that is in use, and the one that rests.
    rig.configure(&[8], 1000..=1003);
    let again: Vec<_> = std::iter::from_fn(|| rig.take(NOW)).collect();
    assert_eq!(again, [1000, 1001, 1002].map(|port| snat(8, port)));
    for port in [1000, 1001, 1002, 1003] {
        rig.ports.give_back(&peer(1), snat(8, port), NOW);
    }
    for snat in new {
        rig.ports.rest(&peer(1), snat, NOW, NOW);
    }
    rig.settle(NOW + 2 * REST);
    assert_eq!(
        rig.gauges.by_source().into_iter().collect::<Vec<_>>(),
        [(source(8), PortCount::default())]
    );
}

#[test]
fn memory_is_given_back_when_the_rest_is_over() {
    let mut rig = Rig::new(&[8, 9], 1024..=65_535);
    let taken: Vec<_> = std::iter::from_fn(|| rig.take(NOW)).collect();
    assert_eq!(taken.len(), 2 * 64_512);
    for snat in &taken {
        rig.ports.rest(&peer(1), *snat, NOW, NOW);
    }
    assert_eq!(rig.counts(), (0, 2 * 64_512));
    assert!(rig.room_for_resting() <= 2 * 65_536 * 8, "{}", rig.room_for_resting());
    // Not all at once: no packet waits so long.
    rig.ports.look_after(NOW + REST);
    assert_eq!(rig.counts(), (0, 2 * 64_512 - RELEASED as u64));
    for _ in 0..2 {
        rig.settle(NOW + REST);
    }
    assert_eq!(rig.counts(), (0, 0));
    assert!(rig.room_for_resting() <= 2 * 64 * 8, "{}", rig.room_for_resting());
    rig.settle(NOW + 2 * REST);
    assert_eq!((rig.ports.servers.len(), rig.ports.round.len()), (0, 0));
}

#[test]
fn exhaustion_is_told_once_a_minute_of_each_server() {
    let mut rig = Rig::new(&[9], 1000..=1000);
    let told = |rig: &mut Rig, host, seconds| {
        let now = NOW + Duration::from_secs(seconds);
        rig.settle(now);
        rig.ports.is_to_report(peer(host), now)
    };
    assert!(told(&mut rig, 1, 0) && told(&mut rig, 2, 1));
    assert!(!told(&mut rig, 1, 1) && !told(&mut rig, 1, 59));
    assert!(told(&mut rig, 1, 60) && !told(&mut rig, 2, 60) && told(&mut rig, 2, 61));
    rig.settle(NOW + 3 * REST);
    assert_eq!(rig.ports.servers.len(), 0);
}

/// What a port of the model is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Held {
    InUse,
    Until(Duration),
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Take { host: u8, client: u8 },
    GiveBack { which: usize },
    Rest { which: usize, ago: u64 },
    Wait { seconds: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0u8..2, any::<u8>()).prop_map(|(host, client)| Step::Take { host, client }),
        1 => any::<usize>().prop_map(|which| Step::GiveBack { which }),
        3 => (any::<usize>(), 0u64..80).prop_map(|(which, ago)| Step::Rest { which, ago }),
        1 => (0u64..40).prop_map(|seconds| Step::Wait { seconds }),
    ]
}

proptest! {
    /// Two addresses with four ports each, toward two servers.
    #[test]
    fn ports_are_given_as_a_simple_model_would(steps in prop::collection::vec(step(), 1..300)) {
        let mut rig = Rig::new(&[8, 9], 2000..=2003);
        let mut model: BTreeMap<(u8, SocketAddr), Held> = BTreeMap::new();
        let (mut now, mut early) = (NOW, 0);
        for step in steps {
            let held: Vec<_> =
                model.iter().filter(|(_, held)| **held == Held::InUse).map(|it| *it.0).collect();
            match step {
                Step::Take { host, client: number } => {
                    let lease = rig.ports.take(peer(host), client(number), now);
                    let of_host = |(key, _): &(&(u8, SocketAddr), &Held)| key.0 == host;
                    let resting = || model.iter().filter(of_host).filter_map(|(key, held)| {
                        if let Held::Until(until) = held { Some((*until, key.1)) } else { None }
                    });
                    let is_full = model.iter().filter(of_host).count() == 8;
                    let Some(lease) = lease else {
                        prop_assert!(is_full && resting().next().is_none(), "one was free");
                        continue;
                    };
                    rig.gauges.count(&lease, now);
                    let snat = SocketAddr::new(lease.source, lease.port);
                    match model.get(&(host, snat)) {
                        None => {}
                        Some(Held::InUse) => prop_assert!(false, "{snat} is in use"),
                        Some(Held::Until(until)) => {
                            prop_assert!(is_full, "{snat} rests, and others are free");
                            let longest = resting().map(|(until, _)| until).min();
                            prop_assert_eq!(Some(*until), longest);
                            early += 1;
                        }
                    }
                    prop_assert_eq!(rig.gauges.reused_early(), early);
                    model.insert((host, snat), Held::InUse);
                }
                Step::GiveBack { which } if !held.is_empty() => {
                    let (host, snat) = held[which % held.len()];
                    rig.ports.give_back(&peer(host), snat, now);
                    model.remove(&(host, snat));
                }
                Step::Rest { which, ago } if !held.is_empty() => {
                    let (host, snat) = held[which % held.len()];
                    let last_packet = now - Duration::from_secs(ago);
                    rig.ports.rest(&peer(host), snat, last_packet, now);
                    model.insert((host, snat), Held::Until(last_packet + REST));
                }
                Step::Wait { seconds } => {
                    now += Duration::from_secs(seconds);
                    rig.ports.look_after(now);
                }
                Step::GiveBack { .. } | Step::Rest { .. } => {}
            }
            model.retain(|_, held| !matches!(held, Held::Until(until) if *until <= now));
            let in_use = model.values().filter(|held| **held == Held::InUse).count() as u64;
            prop_assert_eq!(rig.counts().0, in_use);
        }
        rig.settle(now + 3 * REST);
        let in_use = model.values().filter(|held| **held == Held::InUse).count() as u64;
        prop_assert_eq!(rig.counts(), (in_use, 0));
        prop_assert!(in_use > 0 || rig.ports.servers.is_empty());
    }
}
