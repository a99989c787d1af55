//! One run after the other does what a map and a clock do.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::{
    tests::{LIMITS, all, begin, number, seconds},
    *,
};

/// What a run does, or what happens between runs.
#[derive(Clone, Debug)]
enum Step {
    Insert(u8, i32, u64),
    Lookup(u8, u64),
    Refresh(u8, u64),
    Remove(u8),
    Mark,
    Back,
    Commit,
    Abandon,
    Wait(u64),
    Sweep,
}

fn step() -> impl Strategy<Value = Step> {
    let key = 0..6u8;
    prop_oneof![
        4 => (key.clone(), 0..100, 1..20u64).prop_map(|(k, v, l)| Step::Insert(k, v, l)),
        3 => (key.clone(), 0..20u64).prop_map(|(k, l)| Step::Lookup(k, l)),
        1 => (key.clone(), 0..20u64).prop_map(|(k, l)| Step::Refresh(k, l)),
        1 => key.prop_map(Step::Remove),
        1 => Just(Step::Mark),
        1 => Just(Step::Back),
        2 => Just(Step::Commit),
        1 => Just(Step::Abandon),
        2 => (0..10u64).prop_map(Step::Wait),
        1 => Just(Step::Sweep),
    ]
}

/// What a table should be: a map of value and deadline, copied whole for a run.
#[derive(Clone, Default)]
struct Model(BTreeMap<u8, (i32, u64)>);

impl Model {
    fn expire(&mut self, now: u64) {
        self.0.retain(|_, (_, deadline)| *deadline > now);
    }

    fn insert(&mut self, key: u8, value: i32, deadline: u64, room: bool) -> bool {
        match self.0.get_mut(&key) {
            Some(entry) => entry.1 = deadline,
            None if room => _ = self.0.insert(key, (value, deadline)),
            None => return false,
        }
        true
    }
}

proptest! {
    #[test]
    fn a_table_behaves_as_a_simple_model(steps in prop::collection::vec(step(), 1..80)) {
        let tables = Arc::new(Tables::new(LIMITS));
        let (mut now, mut shared, mut own) = (0, Model::default(), Model::default());
        let (mut run, mut marked) = (begin(&tables, now), Model::default());
        for step in steps {
            match step {
                Step::Insert(key, value, lifetime) => {
                    // A place that the run has freed is only its own until the commit.
                    let held: BTreeSet<_> = shared.0.keys().chain(own.0.keys()).collect();
                    let room = shared.0.contains_key(&key) || held.len() < LIMITS.entries;
                    let modelled = own.insert(key, value, now + lifetime, room);
                    let inserted = run.insert(b"", &[key], number(value), seconds(lifetime));
                    prop_assert_eq!(inserted, modelled);
                }
                Step::Lookup(key, extension) => {
                    let found = run.lookup(b"", &[key], seconds(extension));
                    let modelled = own.0.get_mut(&key).map(|(value, deadline)| {
                        *deadline += extension;
                        Found { value: number(*value), deadline: seconds(*deadline) }
                    });
                    prop_assert_eq!(found, modelled);
                }
                Step::Refresh(key, lifetime) => {
                    let modelled = own.0.get_mut(&key).map(|entry| entry.1 = now + lifetime);
                    prop_assert_eq!(run.refresh(b"", &[key], seconds(lifetime)), modelled.is_some());
                }
                Step::Remove(key) => {
                    own.0.remove(&key);
                    run.remove(b"", &[key]);
                }
                Step::Mark => {
                    run.mark();
                    marked = own.clone();
                }
                Step::Back => {
                    run.back();
                    own = marked.clone();
                }
                Step::Commit => {
                    run.commit(seconds(now));
                    shared = own.clone();
                    run = begin(&tables, now);
                }
                Step::Abandon | Step::Wait(_) | Step::Sweep => {
                    drop(run);
                    match step {
                        Step::Wait(time) => now += time,
                        Step::Sweep => _ = tables.sweep(seconds(now), 16),
                        _ => {}
                    }
                    own = shared.clone();
                    run = begin(&tables, now);
                }
            }
            // A run is over before time moves on; what it made zero seconds long is gone already.
            shared.expire(now);
            if matches!(step, Step::Commit | Step::Abandon | Step::Wait(_) | Step::Sweep) {
                own.expire(now);
                marked = own.clone();
                let listed = tables.table("web", b"").map(|table| all(&table, now));
                let listed: Vec<_> = listed.unwrap_or_default().into_iter()
                    .map(|entry| (entry.key[0], entry.value, entry.remaining)).collect();
                let modelled: Vec<_> = shared.0.iter()
                    .map(|(key, (value, deadline))| (*key, number(*value), deadline - now)).collect();
                prop_assert_eq!(listed, modelled);
            }
        }
    }
}
