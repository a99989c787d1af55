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

/// The one pool of a configuration.
fn pools(algorithm: Algorithm, servers: Vec<config::Server>) -> Pools {
    let pool = config::Pool { name: "p".into(), algorithm, forwarding: Forwarding::Snat, servers };
    let by_name = [("p".into(), POOL)].into();
    Pools { by_name, pools: vec![Pool::new(&pool)], groups: Vec::new() }
}

fn client(number: u32) -> HashKey<'static> {
    HashKey::Address(IpAddr::from(number.to_be_bytes()))
}

fn picks(pools: &Pools, worker: usize, count: usize) -> Vec<usize> {
    let mut balancer = Balancer::new(pools, worker);
    let pick = |_| balancer.pick(pools, POOL, client(1), |_| true).unwrap().0;
    (0..count).map(pick).collect()
}

/// The servers of the first `count` clients under consistent hashing.
fn hashed(pools: &Pools, count: u32, usable: impl Fn(ServerIndex) -> bool) -> Vec<usize> {
    let mut balancer = Balancer::new(pools, 0);
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
            let mut disabled = servers(ratios);
            let up = pools(algorithm, disabled.clone());
            assert_eq!(Balancer::new(&up, 0).pick(&up, POOL, client(1), |_| false), None);
            disabled.iter_mut().for_each(|server| server.enabled = false);
            let down = pools(algorithm, disabled);
            assert_eq!(Balancer::new(&down, 0).pick(&down, POOL, client(1), |_| true), None);
        }
    }
}

#[test]
fn the_last_usable_server_is_found_among_many() {
    for algorithm in [Algorithm::RoundRobin, Algorithm::ConsistentHash] {
        let pools = pools(algorithm, servers(&[1; 600]));
        let mut balancer = Balancer::new(&pools, 3);
        for number in 0..100 {
            let picked = balancer.pick(&pools, POOL, client(number), |server| server.0 == 417);
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
    let mut balancer = Balancer::new(&pools, 0);
    let picks: Vec<_> = (0..10_000)
        .map(|number| {
            let key = format!("session-{number}");
            balancer.pick(&pools, POOL, HashKey::Custom(key.as_bytes()), |_| true).unwrap().0
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
        let mut list = servers(&ratios);
        list[down].enabled = false;
        let mut expected: Vec<_> = ratios.iter().map(|ratio| usize::from(*ratio)).collect();
        expected[down] = 0;
        let pools = pools(Algorithm::RoundRobin, list);
        prop_assert_eq!(counts(&picks(&pools, 0, expected.iter().sum()), ratios.len()), expected);
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
    let members = members.iter().enumerate().map(|(index, (priority, ratio))| Member {
        pool: PoolIndex(index),
        priority: *priority,
        ratio: *ratio,
    });
    let members: Vec<_> = members.collect();
    let mut pools = pools(Algorithm::RoundRobin, servers(&[1]));
    let mut picked = vec![0; members.len()];
    pools.groups.push(members);
    let mut balancer = Balancer::new(&pools, 0);
    for _ in 0..count {
        if let Some(pool) = balancer.pick_member(&pools, GROUP, |pool| usable.contains(&pool.0)) {
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
