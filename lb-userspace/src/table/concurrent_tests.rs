//! Workers and an operator at one table at once.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Barrier, atomic::AtomicBool, mpsc},
    thread,
};

use proptest::prelude::*;

use super::*;

const NOW: Duration = Duration::from_secs(1);
const LIFETIME: Duration = Duration::from_secs(300);

fn tables(entries: usize) -> Arc<Tables> {
    Arc::new(Tables::new(TableLimits { entries, key_size: 64, value_size: 64 }))
}

fn begin(tables: &Arc<Tables>) -> Transaction {
    Transaction::new(Arc::clone(tables), "web".into(), NOW)
}

fn default_table(tables: &Tables) -> Arc<Table> {
    tables.table_or_create("web", b"").unwrap()
}

fn all(table: &Table) -> Vec<Listed> {
    table.entries(b"", usize::MAX, NOW)
}

/// A key of one writer, which nobody else writes.
fn own_key(writer: usize, key: u8) -> [u8; 2] {
    [writer as u8, key]
}

#[derive(Clone, Debug)]
enum Step {
    Insert(u8, u8),
    Lookup(u8),
    Remove(u8),
    End(bool),
}

fn step() -> impl Strategy<Value = Step> {
    let key = 0..12u8;
    prop_oneof![
        4 => (key.clone(), any::<u8>()).prop_map(|(key, value)| Step::Insert(key, value)),
        2 => key.clone().prop_map(Step::Lookup),
        2 => key.prop_map(Step::Remove),
        2 => any::<bool>().prop_map(Step::End),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(step(), 0..200)
}

type Model = BTreeMap<u8, u8>;

fn seen(value: Option<Found>) -> Option<u8> {
    value.map(|found| match found.value {
        Value::Number(number) => number as u8,
        Value::String(_) => panic!("nobody stored a string"),
    })
}

/// A worker: runs of scripts, each of which sees exactly what this worker's earlier runs left.
fn work(tables: &Arc<Tables>, writer: usize, steps: &[Step]) -> Model {
    let (mut shared, mut own) = (Model::new(), Model::new());
    let mut run = begin(tables);
    for step in steps {
        match step {
            Step::Insert(key, value) => {
                let new = Value::Number((*value).into());
                let inserted = run.insert(b"", &own_key(writer, *key), new, LIFETIME);
                // The others may have filled the table, but no key that is in it needs a place.
                assert!(inserted || !shared.contains_key(key) && !own.contains_key(key));
                if inserted {
                    own.entry(*key).or_insert(*value);
                }
            }
            Step::Lookup(key) => {
                let found = run.lookup(b"", &own_key(writer, *key), DEFAULT_LIFETIME);
                assert_eq!(seen(found), own.get(key).copied());
            }
            Step::Remove(key) => {
                run.remove(b"", &own_key(writer, *key));
                own.remove(key);
            }
            Step::End(well) => {
                if *well {
                    run.commit(NOW);
                    shared = own.clone();
                }
                own = shared.clone();
                run = begin(tables);
            }
        }
    }
    shared
}

/// An operator: puts, gets and deletes single entries, and lists them all in between.
fn operate(tables: &Arc<Tables>, writer: usize, steps: &[Step]) -> Model {
    let table = default_table(tables);
    let mut own = Model::new();
    for step in steps {
        match step {
            Step::Insert(key, value) => {
                let new = Value::Number((*value).into());
                let stored = table.put(&own_key(writer, *key), new, LIFETIME, NOW);
                assert!(stored || !own.contains_key(key));
                if stored {
                    own.insert(*key, *value);
                }
            }
            Step::Lookup(key) => {
                let found = table.lookup(&own_key(writer, *key), Duration::ZERO, NOW);
                assert_eq!(seen(found), own.get(key).copied());
            }
            Step::Remove(key) => {
                let removed = table.remove(&own_key(writer, *key), NOW);
                assert_eq!(removed, own.remove(key).is_some());
            }
            Step::End(_) => {
                let listed = table.entries(&[writer as u8], usize::MAX, NOW);
                let keys: Vec<u8> = listed.iter().map(|entry| entry.key[1]).collect();
                assert_eq!(keys, own.keys().copied().collect::<Vec<_>>());
            }
        }
    }
    own
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn each_of_many_sees_its_own_entries_as_if_it_were_alone(
        steps in prop::array::uniform4(steps()),
        capacity in 8..50usize,
    ) {
        let tables = tables(capacity);
        let table = default_table(&tables);
        let barrier = Barrier::new(4);
        let models = thread::scope(|scope| {
            let (tables, barrier) = (&tables, &barrier);
            let threads: Vec<_> = steps.iter().enumerate().map(|(writer, steps)| {
                scope.spawn(move || {
                    barrier.wait();
                    let model = if writer == 0 { operate } else { work };
                    model(tables, writer, steps)
                })
            }).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
        });
        let expected: BTreeMap<Vec<u8>, f64> = models.iter().enumerate().flat_map(|(writer, model)| {
            model.iter().map(move |(key, value)| (own_key(writer, *key).to_vec(), (*value).into()))
        }).collect();
        let listed: BTreeMap<Vec<u8>, f64> = all(&table).into_iter().map(|entry| {
            let Value::Number(number) = entry.value else { panic!("nobody stored a string") };
            (entry.key.to_vec(), number)
        }).collect();
        prop_assert_eq!(&listed, &expected);
        prop_assert!(listed.len() <= capacity);
        // Every place that a run had reserved or freed is accounted for.
        prop_assert_eq!(table.taken.load(Relaxed), listed.len());
    }
}

#[test]
fn what_a_run_did_is_seen_by_everyone_as_soon_as_it_has_ended() {
    let tables = tables(100_000);
    let stays = |key: u32| key.is_multiple_of(2);
    thread::scope(|scope| {
        let reader = |news: mpsc::Receiver<u32>| {
            let tables = &tables;
            move || {
                for key in news {
                    let found = begin(tables).lookup(b"", &key.to_be_bytes(), Duration::ZERO);
                    assert_eq!(found.is_some(), stays(key), "key {key}");
                }
            }
        };
        let readers = [(); 3].map(|()| {
            let (sender, news) = mpsc::channel();
            scope.spawn(reader(news));
            sender
        });
        for key in 0..10_000u32 {
            let mut run = begin(&tables);
            assert!(run.insert(b"", &key.to_be_bytes(), Value::Number(1.0), LIFETIME));
            run.commit(NOW);
            if !stays(key) {
                run.remove(b"", &key.to_be_bytes());
                run.commit(NOW);
            }
            readers.iter().for_each(|reader| reader.send(key).unwrap());
        }
    });
}

#[test]
fn a_listing_under_load_has_what_stays_once_and_the_table_never_holds_too_much() {
    const CAPACITY: usize = 20_000;
    let tables = tables(CAPACITY);
    let table = default_table(&tables);
    let stays: BTreeSet<Vec<u8>> = (0..5_000).map(|key| format!("stays-{key:04}").into()).collect();
    for key in &stays {
        assert!(table.insert(key, Value::Number(1.0), LIFETIME, NOW));
    }
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for writer in 0..2 {
            let (tables, stop) = (&tables, &stop);
            scope.spawn(move || {
                // Fills the table to the brim and empties it again, so that its maps grow.
                while !stop.load(Relaxed) {
                    let keys = (0..10_000u32).map(|key| format!("goes-{writer}-{key}"));
                    for key in keys.clone() {
                        let mut run = begin(tables);
                        run.insert(b"", key.as_bytes(), Value::Number(2.0), LIFETIME);
                        run.commit(NOW);
                    }
                    for key in keys {
                        let mut run = begin(tables);
                        run.remove(b"", key.as_bytes());
                        run.commit(NOW);
                    }
                }
            });
        }
        for _ in 0..50 {
            let listed = table.entries(b"stays-", usize::MAX, NOW);
            assert!(listed.iter().map(|entry| &*entry.key).eq(stays.iter().map(|key| &**key)));
            assert!(table.taken.load(Relaxed) <= CAPACITY);
            let some = table.entries(b"", 7, NOW);
            assert!(some.len() == 7 && some.is_sorted_by(|a, b| a.key < b.key));
        }
        stop.store(true, Relaxed);
    });
    assert_eq!(table.taken.load(Relaxed), all(&table).len());
}
