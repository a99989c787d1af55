//! Workers that remember servers, beside one that asks all of them.

use std::cell::Cell;

use super::{
    plain::{Farm, Plain, State},
    *,
};
use crate::pool::looks::LOOKS;

const LIMIT: u32 = 20;
const BY_LOAD: [Algorithm; 2] = [Algorithm::LeastConnections, Algorithm::FastestResponse];
const REMEMBERING: [Algorithm; 4] = [
    Algorithm::LeastConnections,
    Algorithm::FastestResponse,
    Algorithm::FewestServers,
    Algorithm::RoundRobin,
];

/// Both of them, and the servers that they see.
struct Trial {
    pools: Pools,
    balancer: Balancer,
    plain: Plain,
    farm: Farm,
}

impl Trial {
    fn new(algorithm: Algorithm, ratios: &[u16]) -> Self {
        let mut pools = pools(algorithm, servers(ratios));
        pools.pools[0].policy.max_connections = LIMIT;
        let balancer = Balancer::new(&pools, seat(0));
        let (plain, farm) = (Plain::new(algorithm, ratios.len()), Farm::idle(ratios));
        Self { pools, balancer, plain, farm }
    }

    /// The worker's pick for a flow that stays, and that of one who asks all.
    fn begin(&mut self) -> (Option<usize>, Option<usize>) {
        let picked = self.balancer.pick(&self.pools, POOL, client(1), &self.farm);
        let picked = picked.map(|server| server.0);
        let expected = self.plain.pick(&self.farm, LIMIT);
        picked.into_iter().for_each(|picked| self.farm.states[picked].flows += 1);
        (picked, expected)
    }

    /// Decisions after which every server has been looked at.
    fn round(&self) -> usize {
        self.farm.states.len().div_ceil(LOOKS)
    }

    /// From here on both begin to look at the same server.
    fn agree(&mut self, picked: Option<usize>) {
        self.plain.start = picked.map_or(self.plain.start, |picked| picked + 1);
    }
}

fn state() -> impl Strategy<Value = State> {
    let share = prop_oneof![3 => Just(1.0f32), 1 => Just(0.5), 1 => Just(0.0625)];
    let millis = prop_oneof![4 => (1..50u64).prop_map(Some), 1 => Just(None)];
    (any::<bool>(), 0..2 * LIMIT, share, millis).prop_map(|(usable, flows, share, millis)| State {
        usable,
        flows,
        share,
        millis,
    })
}

/// Which server becomes what, and how many flows begin then.
fn changes() -> impl Strategy<Value = Vec<(prop::sample::Index, State, usize)>> {
    proptest::collection::vec((any::<prop::sample::Index>(), state(), 0..4usize), 1..60)
}

/// Of ratios that differ, so that turns are by ratio.
fn ratios(most: usize) -> impl Strategy<Value = Vec<u16>> {
    proptest::collection::vec(prop_oneof![1..5u16, 1..=1000u16], 1..most - 1)
        .prop_map(|others| [&[1, 2], &others[..]].concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn in_a_pool_of_sixteen_the_pick_is_that_of_who_asks_all(
        ratios in ratios(LOOKS), changes in changes(),
    ) {
        for algorithm in REMEMBERING {
            let mut trial = Trial::new(algorithm, &ratios);
            for (server, state, flows) in &changes {
                trial.farm.states[server.index(ratios.len())] = *state;
                for _ in 0..*flows {
                    let (picked, expected) = trial.begin();
                    prop_assert_eq!(picked, expected, "{}: {:?}", algorithm.name(), trial.farm);
                }
            }
        }
    }

    /// What other workers and time do not better is known.
    #[test]
    fn in_any_pool_it_is_as_long_as_servers_only_become_worse(
        ratios in ratios(50),
        states in proptest::collection::vec(state(), 50),
        flows in proptest::collection::vec((any::<prop::sample::Index>(), 1..9u32), 1..60),
    ) {
        for algorithm in REMEMBERING {
            let mut trial = Trial::new(algorithm, &ratios);
            for (own, state) in trial.farm.states.iter_mut().zip(&states) {
                // Lest servers that do not become worse take turns to be.
                *own = State { share: 1.0, ..*state };
            }
            for (server, more) in &flows {
                let (picked, expected) = trial.begin();
                prop_assert_eq!(picked, expected, "{}: {:?}", algorithm.name(), trial.farm);
                trial.farm.states[server.index(ratios.len())].flows += more;
            }
        }
    }

    /// Nobody is picked who is not usable, and somebody is if anybody is.
    #[test]
    fn in_any_pool_who_is_usable_is_found(ratios in ratios(50), changes in changes()) {
        for algorithm in [&REMEMBERING[..], &[Algorithm::CoreAffinity]].concat() {
            let mut trial = Trial::new(algorithm, &ratios);
            trial.farm.states.iter_mut().skip(1).for_each(|state| state.usable = false);
            for (server, state, flows) in &changes {
                trial.farm.states[server.index(ratios.len())] = *state;
                for _ in 0..*flows {
                    let (picked, _) = trial.begin();
                    prop_assert_eq!(picked.is_some(), trial.farm.usable().next().is_some());
                    prop_assert!(picked.is_none_or(|it| trial.farm.states[it].usable));
                }
            }
        }
    }

    /// Every server is known as it was at some time in the last round of looks, and is not better
    /// than who is picked then.
    #[test]
    fn in_any_pool_the_pick_is_no_worse_than_others_were_lately(
        ratios in ratios(50), changes in changes(),
    ) {
        for algorithm in BY_LOAD {
            let mut trial = Trial::new(algorithm, &ratios);
            let mut lately = std::collections::VecDeque::new();
            for (server, state, flows) in &changes {
                let millis = state.millis.or(Some(7));
                trial.farm.states[server.index(ratios.len())] = State { millis, ..*state };
                for _ in 0..*flows {
                    lately.push_back(trial.farm.clone());
                    lately.drain(..lately.len().saturating_sub(trial.round() + 1));
                    let (Some(picked), _) = trial.begin() else { continue };
                    let score = lately.back().unwrap().score(algorithm, picked);
                    for other in 0..ratios.len() {
                        let was_better = |farm: &Farm| {
                            farm.states[other].usable && farm.score(algorithm, other) < score
                        };
                        prop_assert!(!lately.iter().all(was_better), "{}", algorithm.name());
                    }
                }
            }
        }
    }

    /// What has become better is seen in one round of looks.
    #[test]
    fn in_any_pool_a_round_later_the_pick_is_that_of_who_asks_all(
        ratios in ratios(50), changes in changes(),
    ) {
        for algorithm in [&BY_LOAD[..], &[Algorithm::FewestServers]].concat() {
            let mut trial = Trial::new(algorithm, &ratios);
            for (server, state, flows) in &changes {
                trial.farm.states[server.index(ratios.len())] = *state;
                for _ in 0..*flows {
                    trial.begin();
                }
            }
            // Twice: what is not measured counts as the fastest, which is known after the first.
            for _ in 0..2 * trial.round() + 1 {
                let (picked, _) = trial.begin();
                trial.agree(picked);
            }
            for _ in 0..20 {
                let (picked, expected) = trial.begin();
                prop_assert_eq!(picked, expected, "{}: {:?}", algorithm.name(), trial.farm);
            }
        }
    }
}

/// Begins ten rounds of turns of those servers that are usable. How many each of these took, and its
/// ratio.
fn turns(trial: &mut Trial) -> Vec<(u32, u32)> {
    let cycle: u32 = trial.farm.usable().map(|it| u32::from(trial.farm.ratios[it])).sum();
    trial.farm.states.iter_mut().for_each(|state| state.flows = 0);
    for _ in 0..10 * cycle {
        trial.begin();
    }
    let of = |index: usize| (trial.farm.states[index].flows, u32::from(trial.farm.ratios[index]));
    trial.farm.usable().map(of).collect()
}

#[test]
fn turns_are_by_ratio_again_after_servers_have_gone_and_come_back() {
    let ratios: Vec<u16> = (0..200).map(|index| 1 + index % 7).collect();
    let mut trial = Trial::new(Algorithm::RoundRobin, &ratios);
    for down in [0, 3, 20, 190, 0] {
        for (index, state) in trial.farm.states.iter_mut().enumerate() {
            state.usable = index >= down;
        }
        // Credit from before is spent first, as it is where all are asked.
        turns(&mut trial);
        for (took, ratio) in turns(&mut trial) {
            assert!(took.abs_diff(10 * ratio) <= 1, "{down} down: {took} by {ratio}");
        }
    }
}

/// However great the pool is.
#[test]
fn a_decision_asks_few_servers() {
    const DECISIONS: usize = 3000;

    struct Counted(Farm, Cell<usize>);

    impl Live for Counted {
        fn is_usable(&self, server: ServerIndex) -> bool {
            self.1.set(self.1.get() + 1);
            self.0.is_usable(server)
        }

        fn share(&self, server: ServerIndex) -> f32 {
            self.0.share(server)
        }

        fn connections(&self, server: ServerIndex) -> u32 {
            self.0.connections(server)
        }

        fn response_time(&self, server: ServerIndex) -> Option<std::time::Duration> {
            self.0.response_time(server)
        }
    }

    for algorithm in REMEMBERING {
        let ratios: Vec<u16> = (0..1000).map(|index| 1 + index % 4).collect();
        let trial = Trial::new(algorithm, &ratios);
        let mut balancer = trial.balancer.clone();
        let mut live = Counted(trial.farm, Cell::new(0));
        balancer.pick(&trial.pools, POOL, client(1), &live);
        live.1.set(0);
        for _ in 0..DECISIONS {
            let picked = balancer.pick(&trial.pools, POOL, client(1), &live).unwrap();
            live.0.states[picked.0].flows += 1;
        }
        // Those, the one that is picked, and as many as have become worse.
        let asked = live.1.get();
        assert!(asked <= DECISIONS * (LOOKS + 2), "{}: {asked}", algorithm.name());
    }
}

/// The most and the fewest flows of any server, where `workers` decide in turn and flows end at
/// random, with ten to a server.
fn spread(algorithm: Algorithm, servers: usize, workers: usize) -> (u32, u32) {
    let trial = Trial::new(algorithm, &vec![1; servers]);
    let Trial { pools, mut farm, .. } = trial;
    let mut crew: Vec<_> =
        (0..workers).map(|worker| Balancer::new(&pools, Seat { worker, workers })).collect();
    let (mut flows, mut dice) = (Vec::new(), Dice::default());
    for number in 0..30 * servers {
        let live = &farm;
        let picked = crew[number % workers].pick(&pools, POOL, client(1), live).unwrap().0;
        farm.states[picked].flows += 1;
        flows.push(picked);
        if flows.len() > 10 * servers {
            let ended = (dice.roll() * flows.len() as f32) as usize;
            farm.states[flows.swap_remove(ended)].flows -= 1;
        }
    }
    let flows = || farm.states.iter().map(|state| state.flows);
    (flows().max().unwrap(), flows().min().unwrap())
}

/// Workers that do not know of each other's flows at once are still not worse than two choices.
#[test]
fn many_workers_keep_a_great_pool_more_even_than_the_better_of_two() {
    for (servers, workers) in [(100, 1), (1000, 1), (1000, 16), (300, 64)] {
        let (most, fewest) = spread(Algorithm::LeastConnections, servers, workers);
        let (most_of_two, fewest_of_two) = spread(Algorithm::Random, servers, workers);
        assert!(
            fewest >= fewest_of_two && most <= most_of_two,
            "{servers} servers, {workers} workers: {fewest} to {most}, {fewest_of_two} to {most_of_two}"
        );
    }
}
