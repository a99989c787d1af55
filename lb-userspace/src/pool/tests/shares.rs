//! Servers that are to get less than their ratio says, and servers that are filled one by one.

use super::*;

/// Servers with so many flows, room for so many, and such a share.
struct Site {
    flows: Vec<u32>,
    room: u32,
    shares: Vec<f32>,
}

impl Live for Site {
    fn is_usable(&self, server: ServerIndex) -> bool {
        self.flows[server.0] < self.room
    }

    fn share(&self, server: ServerIndex) -> f32 {
        self.shares[server.0]
    }

    fn connections(&self, server: ServerIndex) -> u32 {
        self.flows[server.0]
    }

    fn response_time(&self, _: ServerIndex) -> Option<std::time::Duration> {
        None
    }
}

impl Site {
    fn new(shares: &[f32]) -> Self {
        Self { flows: vec![0; shares.len()], room: u32::MAX, shares: shares.into() }
    }

    /// Begins flows of different clients that stay.
    fn fill(&mut self, pools: &Pools, flows: u32) {
        let mut balancer = Balancer::new(pools, Seat { worker: 0, workers: 1 });
        for number in 0..flows {
            match balancer.pick(pools, POOL, client(number), self) {
                Some(picked) => self.flows[picked.0] += 1,
                None => return,
            }
        }
    }
}

/// Of many flows, what each server gets by any algorithm that spreads them.
#[test]
fn a_server_with_half_a_share_gets_half_of_what_others_get() {
    for (name, algorithm) in Algorithm::ALL {
        if algorithm == Algorithm::FewestServers {
            continue;
        }
        let pools = pools(algorithm, servers(&[2, 1, 1, 2]));
        let mut site = Site::new(&[1.0, 0.5, 1.0, 0.5]);
        site.fill(&pools, 9000);
        let [a, b, c, d] = site.flows[..] else { panic!() };
        // What a server leaves goes to all others, by their turns or by load.
        let of_pairs = (f64::from(b) / f64::from(c), f64::from(d) / f64::from(a));
        for ratio in [of_pairs.0, of_pairs.1] {
            assert!((0.25..=0.55).contains(&ratio), "{name}: {:?}", site.flows);
        }
    }
}

#[test]
fn a_server_nobody_can_stand_in_for_takes_all_whatever_its_share() {
    for (name, algorithm) in Algorithm::ALL {
        let pools = pools(algorithm, servers(&[1, 1]));
        let mut site = Site::new(&[0.0625; 2]);
        site.fill(&pools, 200);
        assert_eq!(site.flows.iter().sum::<u32>(), 200, "{name}");
        assert!(site.flows[0] > 40 || algorithm == Algorithm::FewestServers, "{name}");
    }
}

/// As its share grows, a server takes clients from others, and they from nobody.
#[test]
fn under_consistent_hashing_clients_come_back_one_by_one() {
    let pools = pools(Algorithm::ConsistentHash, servers(&[1; 10]));
    let hashed = |share: f32| {
        let mut site = Site::new(&[1.0; 10]);
        site.shares[3] = share;
        let mut balancer = Balancer::new(&pools, seat(0));
        let pick = |number| balancer.pick(&pools, POOL, client(number), &site).unwrap().0;
        (0..5000).map(pick).collect::<Vec<_>>()
    };
    let mut before = hashed(0.1);
    for share in [0.25, 0.5, 0.75, 1.0] {
        let after = hashed(share);
        for (before, after) in before.iter().zip(&after).filter(|(before, after)| before != after) {
            assert_ne!(*before, 3, "a client leaves");
            assert_eq!(*after, 3, "a client of others moves");
        }
        let count = |picks: &[usize]| picks.iter().filter(|server| **server == 3).count();
        assert!(count(&after) > count(&before) + 60, "{share}: {} clients", count(&after));
        before = after;
    }
}

fn filling(ratios: &[u16], limit: u32) -> Pools {
    let mut pools = pools(Algorithm::FewestServers, servers(ratios));
    pools.pools[0].policy.max_connections = limit;
    pools
}

#[test]
fn of_fewest_servers_one_is_filled_before_the_next_gets_any() {
    let pools = filling(&[1; 4], 10);
    let mut site = Site { room: 10, ..Site::new(&[1.0; 4]) };
    site.fill(&pools, 25);
    assert_eq!(site.flows, [10, 10, 5, 0]);
    // A place that becomes free at the front is taken first.
    site.flows[0] = 7;
    site.fill(&pools, 4);
    assert_eq!(site.flows, [10, 10, 6, 0]);
    site.fill(&pools, 100);
    assert_eq!(site.flows, [10; 4], "and no more than there is room for");
}

#[test]
fn of_fewest_servers_small_ones_are_filled_less_until_all_are() {
    let pools = filling(&[1, 4, 2], 40);
    let mut site = Site { room: 40, ..Site::new(&[1.0; 3]) };
    site.fill(&pools, 70);
    assert_eq!(site.flows, [10, 40, 20]);
    site.fill(&pools, 30);
    assert_eq!(site.flows, [20, 40, 40], "then by load, as far as there is room");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// No more servers have flows than the flows need.
    #[test]
    fn fewest_servers_uses_as_few_as_possible(
        count in 1..20usize, limit in 1..50u32, flows in 0..1000u32,
    ) {
        let pools = filling(&vec![1; count], limit);
        let mut site = Site { room: limit, ..Site::new(&vec![1.0; count]) };
        site.fill(&pools, flows);
        let used = site.flows.iter().filter(|flows| **flows > 0).count();
        let needed = (flows.div_ceil(limit) as usize).min(count);
        prop_assert_eq!(used, needed);
        prop_assert_eq!(site.flows.iter().sum::<u32>(), flows.min(limit * count as u32));
    }
}
