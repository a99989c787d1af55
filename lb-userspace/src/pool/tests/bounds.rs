//! What is promised of each algorithm, whatever the servers.

use super::*;

/// Under consistent hashing, the clients of 20,000 whose server is another one afterwards, and how
/// many of these have come to `to`.
fn moved(before: &[config::Server], after: &[config::Server], to: usize) -> (usize, usize) {
    let address = |list: &[config::Server], picks: Vec<usize>| -> Vec<SocketAddr> {
        picks.into_iter().map(|server| list[server].address).collect()
    };
    let hashed = |list: &[config::Server]| {
        let pools = pools(Algorithm::ConsistentHash, list.to_vec());
        address(list, hashed(&pools, 20_000, |_| true))
    };
    let (old, new) = (hashed(before), hashed(after));
    let changed = old.iter().zip(&new).filter(|(old, new)| old != new);
    let came = changed.clone().filter(|(_, new)| **new == after[to].address);
    (changed.count(), came.count())
}

/// Of a hundred servers, each has 200 of these clients. Besides what has to move, the tables of
/// the paper (§5.4, figure 12) move a few percent with a hundred entries a server; ours have 655.
#[test]
fn a_server_that_is_added_takes_its_share_and_few_others_move() {
    let (all, came) = moved(&servers(&[1; 100]), &servers(&[1; 101]), 100);
    assert!((140..=260).contains(&came), "{came} came to it");
    assert!(all - came <= 20_000 / 50, "{} moved between others", all - came);
}

#[test]
fn a_server_of_greater_ratio_takes_its_share_and_few_others_move() {
    for (ratio, greater, expected) in [(2, 3, 50..=160), (1, 2, 130..=280)] {
        let mut after = servers(&[ratio; 100]);
        after[40].ratio = greater;
        let (all, came) = moved(&servers(&[ratio; 100]), &after, 40);
        assert!(expected.contains(&came), "{came} came to it");
        assert!(all - came <= 20_000 / 50, "{} moved between others", all - came);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// However uneven they begin, no two servers end further apart than one flow, by ratio.
    #[test]
    fn least_connections_levels_any_loads(
        start in proptest::collection::vec((0..50u32, 1..5u16), 1..12),
    ) {
        let ratios: Vec<_> = start.iter().map(|(_, ratio)| *ratio).collect();
        let mut loads = Loads(start.iter().map(|(flows, _)| (*flows, None)).collect());
        let most = start.iter().map(|(flows, ratio)| flows.div_ceil(u32::from(*ratio))).max();
        let total: u32 = ratios.iter().map(|ratio| u32::from(*ratio) * (most.unwrap() + 2)).sum();
        let flows = total - start.iter().map(|(flows, _)| flows).sum::<u32>();
        let filled = loads.fill(Algorithm::LeastConnections, &ratios, flows as usize);
        let level = |index: usize| f64::from(filled[index]) / f64::from(ratios[index]);
        for (index, ratio) in ratios.iter().enumerate() {
            let one = 1.0 / f64::from(*ratio);
            let lowest = (0..filled.len()).map(level).fold(f64::MAX, f64::min);
            prop_assert!(level(index) <= lowest + 1.0 + one, "{filled:?} for {ratios:?}");
        }
    }

    /// The product of a server's time and load per ratio is what is levelled.
    #[test]
    fn fastest_response_never_leaves_one_that_would_answer_twice_as_soon(
        servers in proptest::collection::vec((1..100u64, 1..4u16), 2..10),
    ) {
        let ratios: Vec<_> = servers.iter().map(|(_, ratio)| *ratio).collect();
        let mut loads = Loads(servers.iter().map(|(millis, _)| (0, Some(*millis))).collect());
        let filled = loads.fill(Algorithm::FastestResponse, &ratios, 2000);
        let cost = |index: usize, more: u32| {
            let (millis, ratio) = servers[index];
            millis as f64 * f64::from(filled[index] + more) / f64::from(ratio)
        };
        for one in 0..servers.len() {
            for other in (0..servers.len()).filter(|_| filled[one] > 0) {
                // What the last flow cost here was no more than what it would have cost there.
                prop_assert!(cost(one, 0) <= cost(other, 1) + 1e-6, "{filled:?} of {servers:?}");
            }
        }
    }

    /// Every server is somebody's own, and of as many workers' as must be.
    #[test]
    fn core_affinity_shares_the_servers_out(workers in 1..16usize, count in 1..40usize) {
        let pools = pools(Algorithm::CoreAffinity, servers(&vec![1; count]));
        let mut owners = vec![0; count];
        for worker in 0..workers {
            let mut balancer = Balancer::new(&pools, Seat { worker, workers });
            let pick = |_| balancer.pick(&pools, POOL, client(1), &|_| true).unwrap().0;
            let own: HashSet<_> = (0..3 * count).map(pick).collect();
            prop_assert!(own.len().abs_diff(count.div_ceil(workers)) <= 1, "{own:?}");
            own.into_iter().for_each(|server| owners[server] += 1);
        }
        let fair = workers.div_ceil(count);
        prop_assert!(owners.iter().all(|it| (1..=fair).contains(it)), "{owners:?}");
    }
}
