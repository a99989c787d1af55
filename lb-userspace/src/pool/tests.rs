//! Who is picked, by every algorithm.

mod bounds;
pub mod plain;
mod remembered;
mod shares;

use std::collections::HashSet;

use super::*;
use proptest::prelude::*;

const POOL: PoolIndex = PoolIndex(0);

fn server(number: usize, ratio: u16) -> config::Server {
    let [high, low] = u16::try_from(number).unwrap().to_be_bytes();
    config::Server { address: ([10, 0, high, low], 53).into(), ratio, enabled: true }
}

fn servers(ratios: &[u16]) -> Vec<config::Server> {
    ratios.iter().enumerate().map(|(number, ratio)| server(number, *ratio)).collect()
}

fn seat(worker: usize) -> Seat {
    Seat { worker, workers: 64 }
}

/// The one pool of a configuration.
fn pools(algorithm: Algorithm, servers: Vec<config::Server>) -> Pools {
    let pool = config::Pool {
        name: "p".into(),
        algorithm,
        hash_by: HashBy::default(),
        forwarding: Forwarding::Snat,
        servers,
        names: Vec::new(),
        health_monitors: Vec::new(),
        min_health_monitors_up: 0,
        server_policy: ServerPolicy::default(),
        min_servers_up: 1,
        fail_action: FailAction::Close,
    };
    let by_name = [("p".into(), POOL)].into();
    Pools { by_name, pools: vec![Pool::new(&pool)], groups: Vec::new() }
}

fn client(number: u32) -> HashKey<'static> {
    HashKey::Address(IpAddr::from(number.to_be_bytes()))
}

fn picks(pools: &Pools, worker: usize, count: usize) -> Vec<usize> {
    let mut balancer = Balancer::new(pools, seat(worker));
    let pick = |_| balancer.pick(pools, POOL, client(1), &|_| true).unwrap().0;
    (0..count).map(pick).collect()
}

/// The servers of the first `count` clients under consistent hashing.
fn hashed(pools: &Pools, count: u32, usable: impl Fn(ServerIndex) -> bool) -> Vec<usize> {
    let mut balancer = Balancer::new(pools, seat(0));
    let pick = |number| balancer.pick(pools, POOL, client(number), &usable).unwrap().0;
    (0..count).map(pick).collect()
}

fn counts(picks: &[usize], servers: usize) -> Vec<usize> {
    let mut counts = vec![0; servers];
    for server in picks {
        counts[*server] += 1;
    }
    counts
}

#[test]
fn turns_are_taken_smoothly() {
    let pools = pools(Algorithm::RoundRobin, servers(&[5, 1, 1]));
    assert_eq!(picks(&pools, 0, 7), [0, 0, 1, 0, 2, 0, 0]);
}

#[test]
fn workers_start_at_different_servers() {
    let equal = pools(Algorithm::RoundRobin, servers(&[1; 8]));
    let starts: HashSet<_> = (0..8).map(|worker| picks(&equal, worker, 1)[0]).collect();
    assert!(starts.len() >= 6, "{starts:?}");
    let unequal = pools(Algorithm::RoundRobin, servers(&[3, 2, 2, 2, 2, 2, 2, 2]));
    let starts: HashSet<_> = (0..8).map(|worker| picks(&unequal, worker, 1)[0]).collect();
    assert!(starts.len() >= 5, "{starts:?}");
}

#[test]
fn no_server_is_picked_if_none_is_usable() {
    for algorithm in [Algorithm::RoundRobin, Algorithm::ConsistentHash] {
        for ratios in [&[1, 1][..], &[2, 1]] {
            let up = pools(algorithm, servers(ratios));
            assert_eq!(Balancer::new(&up, seat(0)).pick(&up, POOL, client(1), &|_| false), None);
        }
    }
}

#[test]
fn the_last_usable_server_is_found_among_many() {
    for algorithm in [Algorithm::RoundRobin, Algorithm::ConsistentHash] {
        let pools = pools(algorithm, servers(&[1; 600]));
        let mut balancer = Balancer::new(&pools, seat(3));
        for number in 0..100 {
            let picked =
                balancer.pick(&pools, POOL, client(number), &|server: ServerIndex| server.0 == 417);
            assert_eq!(picked, Some(ServerIndex(417)));
        }
    }
}

#[test]
fn five_thousand_servers_are_balanced_by_table_within_one_percent() {
    let pools = pools(Algorithm::ConsistentHash, servers(&[1; 5000]));
    let Some(maglev) = &pools.pool(POOL).maglev else { panic!("no table") };
    let entries = maglev.entries(5000);
    let (least, most) = (entries.iter().min().unwrap(), entries.iter().max().unwrap());
    assert!(most - least <= 1 && *least >= 100, "{least} to {most}");
}

#[test]
fn a_removed_server_takes_few_clients_of_others_with_it() {
    let mut list = servers(&[1; 100]);
    let before = hashed(&pools(Algorithm::ConsistentHash, list.clone()), 20_000, |_| true);
    list.remove(40);
    let after = hashed(&pools(Algorithm::ConsistentHash, list), 20_000, |_| true);
    let moved = before.iter().zip(&after).filter(|(before, after)| {
        **before != 40 && **before - usize::from(**before > 40) != **after
    });
    let moved = moved.count();
    assert!(moved < 20_000 * 3 / 100, "{moved} of 20000 clients moved");
}

#[test]
fn custom_keys_are_spread_as_addresses_are() {
    let pools = pools(Algorithm::ConsistentHash, servers(&[1; 10]));
    let mut balancer = Balancer::new(&pools, seat(0));
    let picks: Vec<_> = (0..10_000)
        .map(|number| {
            let key = format!("session-{number}");
            balancer.pick(&pools, POOL, HashKey::Custom(key.as_bytes()), &|_| true).unwrap().0
        })
        .collect();
    assert!(counts(&picks, 10).iter().all(|count| (850..1150).contains(count)));
}

#[test]
fn servers_are_found_by_any_spelling_of_their_address() {
    let mut list = servers(&[1, 1]);
    list.push(config::Server { address: ([10, 0, 0, 1], 5353).into(), ..server(1, 1) });
    list.push(config::Server { address: "[2001:db8::1]:53".parse().unwrap(), ..server(1, 1) });
    let pools = pools(Algorithm::RoundRobin, list);
    assert_eq!(pools.find("p"), Some(POOL));
    assert_eq!(pools.find("q"), None);
    let cases = [
        ("10.0.0.1", None, Some(1)),
        ("10.0.0.1", Some(53), Some(1)),
        ("10.0.0.1", Some(5353), Some(2)),
        ("10.0.0.1", Some(80), None),
        ("10.0.0.9", None, None),
        ("2001:0DB8:0:0::1", Some(53), Some(3)),
        ("web.example", None, None),
    ];
    for (host, port, index) in cases {
        let found = pools.pool(POOL).find_server(host, port);
        assert_eq!(found, index.map(ServerIndex), "{host} {port:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn over_a_cycle_each_server_takes_its_ratio(
        ratios in proptest::collection::vec(1..20u16, 1..12), worker in 0..64usize,
    ) {
        let pools = pools(Algorithm::RoundRobin, servers(&ratios));
        let cycle: usize = ratios.iter().map(|ratio| usize::from(*ratio)).sum();
        let expected: Vec<_> = ratios.iter().map(|ratio| usize::from(*ratio)).collect();
        let equal = ratios.iter().all(|ratio| *ratio == ratios[0]);
        prop_assert_eq!(counts(&picks(&pools, worker, cycle), ratios.len()), expected);
        if equal {
            prop_assert_eq!(counts(&picks(&pools, worker, ratios.len()), ratios.len()), vec![1; ratios.len()]);
        }
    }

    #[test]
    fn the_others_share_the_turns_of_a_server_that_is_down(
        ratios in proptest::collection::vec(1..20u16, 2..12), down in any::<prop::sample::Index>(),
    ) {
        let down = down.index(ratios.len());
        let mut expected: Vec<_> = ratios.iter().map(|ratio| usize::from(*ratio)).collect();
        expected[down] = 0;
        let pools = pools(Algorithm::RoundRobin, servers(&ratios));
        let mut balancer = Balancer::new(&pools, seat(0));
        let usable = |server: ServerIndex| server.0 != down;
        let count = expected.iter().sum();
        let pick = |_| balancer.pick(&pools, POOL, client(1), &usable).unwrap().0;
        prop_assert_eq!(counts(&(0..count).map(pick).collect::<Vec<_>>(), ratios.len()), expected);
    }
}

proptest! {
    // Each case fills tables of 65,537 entries.
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn the_order_in_which_servers_are_written_does_not_matter(
        list in Just(servers(&[1, 2, 3, 1, 5, 1, 1, 9])).prop_shuffle(),
    ) {
        let reference = servers(&[1, 2, 3, 1, 5, 1, 1, 9]);
        let expected = hashed(&pools(Algorithm::ConsistentHash, reference.clone()), 2000, |_| true);
        let picked = hashed(&pools(Algorithm::ConsistentHash, list.clone()), 2000, |_| true);
        for (expected, picked) in expected.iter().zip(picked) {
            prop_assert_eq!(&reference[*expected], &list[picked]);
        }
    }

    #[test]
    fn clients_of_a_server_that_is_down_spread_and_the_others_stay(down in 0..10usize) {
        let pools = pools(Algorithm::ConsistentHash, servers(&[1; 10]));
        let before = hashed(&pools, 20_000, |_| true);
        let after = hashed(&pools, 20_000, |server| server.0 != down);
        let (mut orphans, mut heirs) = (0, [0; 10]);
        for (before, after) in before.into_iter().zip(after) {
            if before == down {
                orphans += 1;
                heirs[after] += 1;
            } else {
                prop_assert_eq!(before, after);
            }
        }
        prop_assert_eq!(heirs[down], 0);
        let fair = orphans / 9;
        let others = heirs.iter().enumerate().filter(|(server, _)| *server != down);
        for (_, heir) in others {
            prop_assert!((fair * 3 / 4..=fair * 5 / 4).contains(heir), "{heirs:?}");
        }
    }

    #[test]
    fn clients_follow_the_ratios(ratios in proptest::collection::vec(1..=4u16, 2..8)) {
        let pools = pools(Algorithm::ConsistentHash, servers(&ratios));
        let counts = counts(&hashed(&pools, 20_000, |_| true), ratios.len());
        let total: usize = ratios.iter().map(|ratio| usize::from(*ratio)).sum();
        for (count, ratio) in counts.iter().zip(&ratios) {
            let fair = 20_000 * usize::from(*ratio) / total;
            prop_assert!((fair * 85 / 100..=fair * 115 / 100).contains(count), "{counts:?}");
        }
    }
}

const GROUP: PoolGroupIndex = PoolGroupIndex(0);

/// How often each member's pool is picked in `count` picks, by a group of (priority, ratio).
fn member_picks(members: &[(u16, u16)], count: usize, usable: &[usize]) -> Vec<usize> {
    let up: Vec<_> = (0..members.len()).map(|pool| usize::from(usable.contains(&pool))).collect();
    picks_with(members, 1, count, &up)
}

/// The same where `up` servers of each pool are up, and flows are to be spread over `minimum`.
fn picks_with(members: &[(u16, u16)], minimum: usize, count: usize, up: &[usize]) -> Vec<usize> {
    let members = members.iter().enumerate().map(|(index, (priority, ratio))| Member {
        pool: PoolIndex(index),
        priority: *priority,
        ratio: *ratio,
    });
    let members: Vec<_> = members.collect();
    let mut pools = pools(Algorithm::RoundRobin, servers(&[1]));
    let mut picked = vec![0; members.len()];
    pools.groups.push(PoolGroup { name: "g".into(), members, min_servers: minimum });
    let mut balancer = Balancer::new(&pools, seat(0));
    for _ in 0..count {
        if let Some(pool) = balancer.pick_member(&pools, GROUP, |pool| up[pool.0]) {
            picked[pool.0] += 1;
        }
    }
    picked
}

#[test]
fn of_a_group_the_highest_priority_with_a_server_up_takes_all_by_ratio() {
    let members = [(10, 1), (20, 3), (20, 1), (0, 1)];
    assert_eq!(member_picks(&members, 40, &[0, 1, 2, 3]), [0, 30, 10, 0]);
    assert_eq!(member_picks(&members, 40, &[0, 2, 3]), [0, 0, 40, 0]);
    assert_eq!(member_picks(&members, 40, &[0, 3]), [40, 0, 0, 0]);
    assert_eq!(member_picks(&members, 40, &[3]), [0, 0, 0, 40]);
    assert_eq!(member_picks(&members, 40, &[]), [0, 0, 0, 0]);
    assert_eq!(member_picks(&[(1, 5), (1, 5)], 40, &[0, 1]), [20, 20]);
}

#[test]
fn members_of_lower_priority_join_until_enough_servers_are_up() {
    let members = [(30, 1), (20, 1), (20, 1), (10, 1)];
    assert_eq!(picks_with(&members, 1, 40, &[2, 2, 2, 2]), [40, 0, 0, 0]);
    assert_eq!(picks_with(&members, 2, 40, &[2, 2, 2, 2]), [40, 0, 0, 0]);
    assert_eq!(picks_with(&members, 3, 45, &[2, 2, 2, 2]), [15, 15, 15, 0]);
    assert_eq!(picks_with(&members, 3, 40, &[0, 1, 1, 2]), [0, 14, 13, 13]);
    assert_eq!(picks_with(&members, 2, 40, &[0, 2, 0, 2]), [0, 40, 0, 0]);
    assert_eq!(picks_with(&members, 99, 40, &[1, 0, 0, 1]), [20, 0, 0, 20]);
    assert_eq!(picks_with(&members, 3, 40, &[0, 0, 0, 0]), [0; 4]);
}

/// Servers as a test says that they are: flows, and milliseconds.
#[derive(Default)]
struct Loads(Vec<(u32, Option<u64>)>);

impl Live for Loads {
    fn is_usable(&self, _: ServerIndex) -> bool {
        true
    }

    fn share(&self, _: ServerIndex) -> f32 {
        1.0
    }

    fn connections(&self, server: ServerIndex) -> u32 {
        self.0[server.0].0
    }

    fn response_time(&self, server: ServerIndex) -> Option<std::time::Duration> {
        self.0[server.0].1.map(std::time::Duration::from_millis)
    }
}

impl Loads {
    /// Picks so many servers, each for a flow that stays.
    fn fill(&mut self, algorithm: Algorithm, ratios: &[u16], flows: usize) -> Vec<u32> {
        let pools = pools(algorithm, servers(ratios));
        let mut balancer = Balancer::new(&pools, seat(0));
        for _ in 0..flows {
            let picked = balancer.pick(&pools, POOL, client(1), self).unwrap();
            self.0[picked.0].0 += 1;
        }
        self.0.iter().map(|(connections, _)| *connections).collect()
    }
}

#[test]
fn least_connections_levels_what_is_uneven_by_ratio() {
    let mut loads = Loads(vec![(30, None), (0, None), (0, None)]);
    assert_eq!(loads.fill(Algorithm::LeastConnections, &[1, 1, 2], 90), [30, 30, 60]);
    let mut idle = Loads(vec![(0, None); 4]);
    assert_eq!(idle.fill(Algorithm::LeastConnections, &[1; 4], 40), [10; 4]);
}

#[test]
fn of_servers_with_equal_load_each_takes_its_turn() {
    let pools = pools(Algorithm::LeastConnections, servers(&[1; 5]));
    let mut balancer = Balancer::new(&pools, seat(0));
    let picks = (0..10).map(|_| balancer.pick(&pools, POOL, client(1), &|_| true).unwrap().0);
    assert_eq!(picks.collect::<Vec<_>>(), [0, 1, 2, 3, 4, 0, 1, 2, 3, 4]);
}

#[test]
fn the_fastest_takes_flows_until_its_load_outweighs_it() {
    let mut loads = Loads(vec![(0, Some(1)), (0, Some(4)), (0, Some(2))]);
    let filled = loads.fill(Algorithm::FastestResponse, &[1; 3], 70);
    assert_eq!(filled, [40, 10, 20]);
}

#[test]
fn a_server_that_was_never_measured_is_tried() {
    let mut loads = Loads(vec![(0, Some(5)), (0, None)]);
    assert_eq!(loads.fill(Algorithm::FastestResponse, &[1; 2], 20), [10, 10]);
}

#[test]
fn workers_with_affinity_keep_to_servers_of_their_own() {
    let picks = |worker, workers, count, usable: &dyn Fn(ServerIndex) -> bool| {
        let pools = pools(Algorithm::CoreAffinity, servers(&vec![1; count]));
        let mut balancer = Balancer::new(&pools, Seat { worker, workers });
        let mut picked: Vec<_> = (0..12)
            .filter_map(|_| balancer.pick(&pools, POOL, client(1), &usable))
            .map(|server| server.0)
            .collect();
        picked.sort_unstable();
        picked.dedup();
        picked
    };
    let all: &dyn Fn(ServerIndex) -> bool = &|_| true;
    assert_eq!(picks(0, 2, 5, all), [0, 2, 4]);
    assert_eq!(picks(1, 2, 5, all), [1, 3]);
    assert_eq!(picks(5, 8, 3, all), [2]);
    // Its own are all down: then any.
    assert_eq!(picks(1, 2, 5, &|server| server.0 % 2 == 0), [0, 2, 4]);
}

#[test]
fn ports_spread_a_client_s_connections_if_they_count() {
    let mut pool = config::Pool {
        name: "p".into(),
        algorithm: Algorithm::ConsistentHash,
        hash_by: HashBy::SourceAddress,
        forwarding: Forwarding::Snat,
        servers: servers(&[1; 8]),
        names: Vec::new(),
        health_monitors: Vec::new(),
        min_health_monitors_up: 0,
        server_policy: ServerPolicy::default(),
        min_servers_up: 1,
        fail_action: FailAction::Close,
    };
    let picks = |pool: &config::Pool| {
        let pool = Pool::new(pool);
        let key = |port| pool.hash_key(([192, 0, 2, 7], port).into());
        let maglev = pool.maglev.as_ref().unwrap();
        let picks = (1..100).map(|port| maglev.pick(key(port), |_| true));
        picks.collect::<HashSet<_>>().len()
    };
    assert_eq!(picks(&pool), 1);
    pool.hash_by = HashBy::SourceAddressAndPort;
    assert_eq!(picks(&pool), 8);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Two choices keep the fullest server near the average: by log log n / log 2 (Mitzenmacher
    /// 2001), here 2, and a little for the ratios' own unevenness.
    #[test]
    fn the_better_of_two_drawn_at_random_keeps_loads_even(
        ratios in proptest::collection::vec(1..=4u16, 2..20), worker in 0..64usize,
    ) {
        let pools = pools(Algorithm::Random, servers(&ratios));
        let mut loads = Loads(vec![(0, None); ratios.len()]);
        let mut balancer = Balancer::new(&pools, seat(worker));
        let total: u32 = ratios.iter().map(|ratio| u32::from(*ratio)).sum();
        for _ in 0..total * 100 {
            let picked = balancer.pick(&pools, POOL, client(1), &loads).unwrap();
            loads.0[picked.0].0 += 1;
        }
        for (load, ratio) in loads.0.iter().zip(&ratios) {
            let fair = 100 * u32::from(*ratio);
            prop_assert!(load.0.abs_diff(fair) <= fair / 10, "{:?} for {ratios:?}", loads.0);
        }
    }

    #[test]
    fn a_usable_server_is_always_found_and_no_other(
        ratios in proptest::collection::vec(1..=1000u16, 0..30),
        up in proptest::collection::vec(any::<bool>(), 30),
    ) {
        let usable = |server: ServerIndex| up[server.0];
        let any_up = up.iter().take(ratios.len()).any(|up| *up);
        for (_, algorithm) in Algorithm::ALL {
            let pools = pools(algorithm, servers(&ratios));
            let mut balancer = Balancer::new(&pools, seat(1));
            for number in 0..20 {
                let picked = balancer.pick(&pools, POOL, client(number), &usable);
                prop_assert_eq!(picked.is_some(), any_up, "{}", algorithm.name());
                prop_assert!(picked.is_none_or(usable));
            }
        }
    }
}
