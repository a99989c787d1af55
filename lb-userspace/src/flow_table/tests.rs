//! The table against a model, and several workers at once.

use std::collections::HashMap;

use lb_common::{flow::Flags, hash::HashSeed, next_hop::NextHopId};
use proptest::prelude::*;

use super::*;

/// SplitMix64: enough randomness for a seed, the same in every run.
fn seed(mut state: u64) -> HashSeed {
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z ^ (z >> 31)
    };
    HashSeed(std::array::from_fn(|_| next()))
}

fn table(buckets: u32) -> FlowTable {
    let geometry = Geometry { buckets, seed: seed(7) };
    FlowTable::new(geometry, Box::new(OwnedMemory::new(&geometry)))
}

fn direction(number: u32) -> Direction {
    let [a, b, c, d] = number.to_be_bytes();
    let key = FlowKeyV4 {
        source: [10, a, b, c],
        destination: [192, 0, 2, 10],
        source_port: [d, 1],
        destination_port: [0, 80],
        protocol: 6,
        ..FlowKeyV4::default()
    };
    let entry = Entry { next_hop: NextHopId(number), ..Entry::default() };
    Direction { key, entry, activity: Activity::default() }
}

#[test]
fn a_full_neighbourhood_goes_to_the_stash_and_is_found_there() {
    let table = table(64);
    let inserted: Vec<u32> = (0..4096)
        .filter(|n| table.insert(&direction(*n), None, &FlowRecord::default()).is_ok())
        .collect();
    let in_stash = inserted
        .iter()
        .filter(|n| table.find(&direction(**n).key).unwrap().0.bucket() >= 64)
        .count();
    assert_eq!(in_stash, BUCKET_SLOTS, "the stash of 64 buckets is one bucket");
    assert!(inserted.len() >= 250, "nearly all of 260 slots: {}", inserted.len());
}

#[test]
fn a_million_entries_at_a_load_of_one_half_all_fit() {
    let table = table(Geometry::buckets_for(1 << 18));
    for number in 0..1 << 19 {
        table.insert(&direction(number), None, &FlowRecord::default()).unwrap();
    }
    let stashed = table
        .slots()
        .filter(|id| id.bucket() >= table.geometry().buckets)
        .filter(|id| table.slot(*id).snapshot().is_some())
        .count();
    assert!(stashed < 300, "{stashed} of 524288 in the stash");
}

#[test]
fn a_flow_whose_reply_key_is_taken_leaves_nothing_behind() {
    let table = table(64);
    let record = FlowRecord::default();
    table.insert(&direction(1), Some(&direction(2)), &record).unwrap();
    let refused = table.insert(&direction(3), Some(&direction(2)), &record);
    assert_eq!(refused, Err(InsertError::Exists));
    assert_eq!(table.find(&direction(3).key), None);
    table.insert(&direction(3), Some(&direction(4)), &record).unwrap();
}

#[test]
fn a_retired_slot_is_not_used_again_before_it_is_freed() {
    let table = table(64);
    let id = table.insert(&direction(1), Some(&direction(2)), &FlowRecord::default()).unwrap();
    assert!(table.retire(id));
    assert!(!table.retire(id), "a flow ends once");
    assert_eq!(table.find(&direction(1).key), None);
    assert_eq!(table.find(&direction(2).key), None);
    let again = table.insert(&direction(1), None, &FlowRecord::default()).unwrap();
    assert_ne!(again, id);
    table.free(id);
    assert!(table.slot(id).claim());
}

#[test]
fn of_many_workers_that_insert_one_key_at_most_one_succeeds() {
    let table = table(256);
    for round in 0..2_000 {
        let winners = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..2)
                .map(|worker| {
                    let table = &table;
                    scope.spawn(move || {
                        let mut mine = direction(round % 64);
                        mine.entry.next_hop = NextHopId(worker);
                        table.insert(&mine, None, &FlowRecord::default()).ok()
                    })
                })
                .collect();
            let results: Vec<_> = workers.into_iter().filter_map(|w| w.join().unwrap()).collect();
            results
        });
        assert!(winners.len() <= 1, "a key is in the table twice");
        if let Some(id) = winners.first() {
            assert!(table.retire(*id));
            table.free(*id);
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Insert(u32, Option<u32>),
    Remove(u32),
    Find(u32),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..40u32, proptest::option::of(40..80u32)).prop_map(|(f, r)| Step::Insert(f, r)),
        (0..40u32).prop_map(Step::Remove),
        (0..80u32).prop_map(Step::Find),
    ]
}

proptest! {
    #[test]
    fn the_table_does_what_a_map_does(steps in prop::collection::vec(step(), 1..200)) {
        let table = table(64);
        let mut model: HashMap<u32, Option<u32>> = HashMap::new();
        let taken = |model: &HashMap<u32, Option<u32>>, n: u32| {
            model.contains_key(&n) || model.values().any(|reply| *reply == Some(n))
        };
        for step in steps {
            match step {
                Step::Insert(f, r) => {
                    let mut forward = direction(f);
                    forward.entry.flags = Flags::default();
                    let done = table.insert(
                        &forward, r.map(direction).as_ref(), &FlowRecord::default());
                    let free = !taken(&model, f) && !r.is_some_and(|r| taken(&model, r));
                    prop_assert_eq!(done.is_ok(), free);
                    if free {
                        model.insert(f, r);
                    }
                }
                Step::Remove(f) => {
                    let found = table.find(&direction(f).key);
                    prop_assert_eq!(found.is_some(), model.remove(&f).is_some());
                    if let Some((id, _)) = found {
                        prop_assert!(table.retire(id));
                        table.free(id);
                    }
                }
                Step::Find(n) => {
                    let found = table.find(&direction(n).key).map(|(_, entry)| entry.next_hop.0);
                    prop_assert_eq!(found, taken(&model, n).then_some(n));
                }
            }
        }
    }
}
