use std::{collections::BTreeMap, thread};

use super::*;

pub(super) const LIMITS: TableLimits = TableLimits { entries: 4, key_size: 64, value_size: 64 };

pub(super) fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(super) fn number(number: i32) -> Value {
    Value::Number(number.into())
}

fn table() -> Arc<Table> {
    let tables = Tables::new(LIMITS);
    tables.table_or_create("web", b"").unwrap()
}

pub(super) fn all(table: &Table, now: u64) -> Vec<Listed> {
    table.entries(b"", usize::MAX, seconds(now))
}

pub(super) fn begin(tables: &Arc<Tables>, now: u64) -> Transaction {
    Transaction::new(Arc::clone(tables), "web".into(), seconds(now))
}

#[test]
fn a_key_already_there_keeps_its_value_and_its_lifetime_is_reset() {
    let table = table();
    assert!(table.insert(b"k", number(1), seconds(10), seconds(0)));
    assert!(table.insert(b"k", number(2), seconds(300), seconds(5)));
    let found = table.lookup(b"k", Duration::ZERO, seconds(6)).unwrap();
    assert_eq!((found.value, found.deadline), (number(1), seconds(305)));
}

#[test]
fn a_reset_lifetime_may_be_shorter_than_the_old_one() {
    let table = table();
    table.insert(b"k", number(1), seconds(300), seconds(0));
    table.insert(b"k", number(1), seconds(1), seconds(0));
    assert_eq!(table.lookup(b"k", DEFAULT_LIFETIME, seconds(1)), None);
    assert_eq!(table.sweep(seconds(1), 100), 1);
    assert_eq!(table.taken.load(Relaxed), 0);
}

#[test]
fn a_lookup_extends_the_lifetime_unless_told_not_to() {
    let table = table();
    table.insert(b"k", number(1), seconds(10), seconds(0));
    let quiet = table.lookup(b"k", Duration::ZERO, seconds(4)).unwrap();
    assert_eq!(quiet.remaining(seconds(4)), 6);
    let found = table.lookup(b"k", DEFAULT_LIFETIME, seconds(4)).unwrap();
    assert_eq!(found.remaining(seconds(4)), 306);
}

#[test]
fn lifetimes_are_exact_and_what_is_left_is_rounded_up() {
    let cases = [
        (0, Some(300)),
        (1, Some(300)),
        (999, Some(300)),
        (1_000, Some(299)),
        (1_001, Some(299)),
        (298_999, Some(2)),
        (299_000, Some(1)),
        (299_999, Some(1)),
        (300_000, None),
        (300_001, None),
    ];
    // Clocks do not start at whole seconds.
    let begin = Duration::from_millis(7_650);
    for (milliseconds, left) in cases {
        let table = table();
        table.insert(b"k", number(1), DEFAULT_LIFETIME, begin);
        let now = begin + Duration::from_millis(milliseconds);
        let found = table.lookup(b"k", Duration::ZERO, now).map(|found| found.remaining(now));
        assert_eq!(found, left, "after {milliseconds} ms");
        let listed = table.entries(b"", 9, now).first().map(|entry| entry.remaining);
        assert_eq!(listed, left, "after {milliseconds} ms");
        assert_eq!(table.refresh(b"k", seconds(1), now), left.is_some());
        assert_eq!(table.remove(b"k", now), left.is_some());
    }
}

#[test]
fn a_put_replaces_value_and_lifetime_and_needs_no_place_for_what_is_there() {
    let table = table();
    for key in 0..4u8 {
        assert!(table.insert(&[key], number(1), seconds(300), seconds(0)));
    }
    assert!(table.put(&[2], number(2), seconds(10), seconds(5)));
    assert!(!table.put(b"more", number(2), seconds(10), seconds(5)));
    let found = table.lookup(&[2], Duration::ZERO, seconds(6)).unwrap();
    assert_eq!((found.value, found.deadline), (number(2), seconds(15)));
    assert!(table.put(b"more", number(2), seconds(10), seconds(15)));
}

#[test]
fn a_listing_may_be_of_a_prefix_and_of_the_first_few() {
    let tables = Tables::new(TableLimits { entries: 5_000, ..LIMITS });
    let table = tables.table_or_create("web", b"").unwrap();
    for key in 0..5_000u32 {
        table.insert(format!("k{key:04}").as_bytes(), number(1), seconds(9), seconds(0));
    }
    let keys = |prefix: &[u8], limit| -> Vec<String> {
        let listed = table.entries(prefix, limit, seconds(1)).into_iter();
        listed.map(|entry| String::from_utf8(entry.key.to_vec()).unwrap()).collect()
    };
    assert_eq!(keys(b"", 3), ["k0000", "k0001", "k0002"]);
    assert_eq!(keys(b"k499", 2), ["k4990", "k4991"]);
    assert_eq!(keys(b"k4999", 9), ["k4999"]);
    assert_eq!((keys(b"x", 9).len(), keys(b"k", 0).len()), (0, 0));
    assert!(keys(b"k", usize::MAX).into_iter().eq((0..5_000).map(|key| format!("k{key:04}"))));
}

#[test]
fn refresh_renews_a_lifetime_from_now() {
    let table = table();
    table.insert(b"k", number(1), seconds(10), seconds(0));
    assert!(table.refresh(b"k", seconds(20), seconds(9)));
    assert!(!table.refresh(b"other", seconds(20), seconds(9)));
    let found = table.lookup(b"k", Duration::ZERO, seconds(10)).unwrap();
    assert_eq!(found.deadline, seconds(29));
}

#[test]
fn a_full_table_refuses_counts_and_evicts_nothing() {
    let table = table();
    for key in 0..4u8 {
        assert!(table.insert(&[key], number(1), seconds(300), seconds(0)));
    }
    assert!(!table.insert(b"more", number(1), seconds(300), seconds(0)));
    assert!(table.insert(&[0], number(1), seconds(300), seconds(0)));
    assert_eq!((table.refused(), all(&table, 1).len()), (1, 4));
}

#[test]
fn an_expired_entry_takes_nobodys_place() {
    let table = table();
    for key in 0..4u8 {
        table.insert(&[key], number(1), seconds(10), seconds(0));
    }
    table.lookup(&[3], seconds(10), seconds(5));
    for key in 10..13u8 {
        assert!(table.insert(&[key], number(2), seconds(10), seconds(10)));
    }
    assert!(!table.insert(b"more", number(2), seconds(10), seconds(10)));
    assert_eq!(table.lookup(&[0], DEFAULT_LIFETIME, seconds(10)), None);
    assert!(table.insert(b"more", number(2), seconds(10), seconds(20)));
}

#[test]
fn the_first_to_insert_wins_and_the_others_learn_its_value() {
    let table = table();
    let first = table.insert_or_get(b"k", number(1), seconds(9), seconds(0));
    let second = table.insert_or_get(b"k", number(2), seconds(9), seconds(0));
    assert_eq!((first, second), (Some(number(1)), Some(number(1))));
}

#[test]
fn replace_needs_the_value_that_was_seen() {
    let table = table();
    table.insert(b"k", number(1), seconds(9), seconds(0));
    let replaced = table.replace(b"k", &number(1), number(2), seconds(9), seconds(0));
    let too_late = table.replace(b"k", &number(1), number(3), seconds(9), seconds(0));
    assert_eq!((replaced, too_late), (Some(number(2)), Some(number(2))));
}

#[test]
fn the_number_of_tables_is_bounded() {
    let tables = Tables::new(LIMITS);
    for name in 0..MAX_TABLES {
        let name = name.to_be_bytes();
        assert!(tables.table_or_create("web", &name).is_some());
    }
    assert!(tables.table_or_create("web", b"more").is_none());
    assert!(tables.table_or_create("web", &0usize.to_be_bytes()).is_some());
}

#[test]
fn tables_of_other_services_and_names_are_others() {
    let tables = Tables::new(LIMITS);
    let put = |service, name: &[u8]| {
        let table = tables.table_or_create(service, name).unwrap();
        table.put(b"k", Value::string(service), seconds(9), seconds(0))
    };
    assert!(put("a", b"") && put("a", b"t") && put("b", b""));
    let names: Vec<_> = tables.list().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names.len(), 3);
    assert_eq!((&*names[2].service, &*names[2].table), ("b", &b""[..]));
}

#[test]
fn inserting_and_removing_without_end_does_not_grow_the_queue() {
    let hasher = KeyHasher::default();
    let (mut shard, key) = (shard::Shard::new(hasher.clone()), hasher.key(b"k"));
    for _ in 0..10_000 {
        shard.set(key, number(1), seconds(300));
        shard.remove(key);
    }
    assert!(shard.queue_len() < 100, "{}", shard.queue_len());
}

#[test]
fn a_transaction_sees_its_writes_and_nobody_else_does_before_the_commit() {
    let tables = Arc::new(Tables::new(LIMITS));
    let mut run = begin(&tables, 0);
    assert!(run.insert(b"", b"k", number(1), seconds(10)));
    assert_eq!(run.lookup(b"", b"k", Duration::ZERO).unwrap().value, number(1));
    assert_eq!(begin(&tables, 0).lookup(b"", b"k", Duration::ZERO), None);
    run.commit(seconds(0));
    let found = begin(&tables, 0).lookup(b"", b"k", Duration::ZERO).unwrap();
    assert_eq!(found.value, number(1));
}

#[test]
fn a_dropped_transaction_leaves_nothing_not_even_a_longer_lifetime() {
    let tables = Arc::new(Tables::new(LIMITS));
    let table = tables.table_or_create("web", b"").unwrap();
    table.insert(b"old", number(1), seconds(10), seconds(0));
    let mut run = begin(&tables, 0);
    for key in 0..3u8 {
        assert!(run.insert(b"", &[key], number(1), seconds(10)));
    }
    assert!(!run.insert(b"", b"one too many", number(1), seconds(10)));
    run.lookup(b"", b"old", DEFAULT_LIFETIME);
    run.remove(b"", b"old");
    drop(run);
    assert_eq!(table.taken.load(Relaxed), 1);
    let found = table.lookup(b"old", Duration::ZERO, seconds(1)).unwrap();
    assert_eq!(found.deadline, seconds(10));
}

#[test]
fn an_insert_that_lost_the_race_keeps_the_winners_value() {
    let tables = Arc::new(Tables::new(LIMITS));
    let mut one = begin(&tables, 0);
    let mut two = begin(&tables, 0);
    assert!(one.insert(b"", b"k", number(1), seconds(10)));
    assert!(two.insert(b"", b"k", number(2), seconds(20)));
    one.commit(seconds(0));
    two.commit(seconds(0));
    let table = tables.table("web", b"").unwrap();
    let found = table.lookup(b"k", Duration::ZERO, seconds(1)).unwrap();
    assert_eq!((found.value, found.deadline), (number(1), seconds(20)));
    assert_eq!(table.taken.load(Relaxed), 1);
}

#[test]
fn a_lookup_adds_to_what_others_have_made_of_the_lifetime_meanwhile() {
    // What another does between the lookup and the commit, and when the key expires then.
    type Other = fn(&Table) -> bool;
    let cases: [(Other, u64); 3] = [
        (|table| table.refresh(b"k", seconds(300), seconds(0)), 310),
        (|table| table.put(b"k", number(2), seconds(5), seconds(0)), 15),
        (|table| table.lookup(b"k", seconds(30), seconds(0)).is_some(), 140),
    ];
    for (other, expires) in cases {
        let tables = Arc::new(Tables::new(LIMITS));
        let table = tables.table_or_create("web", b"").unwrap();
        table.insert(b"k", number(1), seconds(100), seconds(0));
        let mut run = begin(&tables, 0);
        assert!(run.lookup(b"", b"k", seconds(4)).is_some());
        assert_eq!(run.lookup(b"", b"k", seconds(6)).unwrap().deadline, seconds(110));
        assert!(other(&table));
        run.commit(seconds(0));
        let found = table.lookup(b"k", Duration::ZERO, seconds(0)).unwrap();
        assert_eq!(found.deadline, seconds(expires));
    }
}

#[test]
fn a_value_is_replaced_by_remove_and_insert_even_in_a_full_table() {
    let tables = Arc::new(Tables::new(LIMITS));
    let table = tables.table_or_create("web", b"").unwrap();
    for key in 0..4u8 {
        table.insert(&[key], number(1), seconds(300), seconds(0));
    }
    let mut run = begin(&tables, 0);
    run.remove(b"", &[2]);
    assert!(run.insert(b"", &[2], number(2), seconds(10)));
    run.commit(seconds(0));
    let found = table.lookup(&[2], Duration::ZERO, seconds(0)).unwrap();
    assert_eq!((found.value, found.deadline), (number(2), seconds(10)));
    assert_eq!(table.taken.load(Relaxed), 4);
}

#[test]
fn asking_creates_no_table() {
    let tables = Arc::new(Tables::new(LIMITS));
    let mut run = begin(&tables, 0);
    run.lookup(b"a", b"k", DEFAULT_LIFETIME);
    run.refresh(b"b", b"k", seconds(1));
    run.remove(b"c", b"k");
    run.commit(seconds(0));
    assert_eq!(tables.list().len(), 0);
}

#[test]
fn threads_that_write_at_once_agree_on_one_winner_a_key_and_fill_the_table_exactly() {
    let capacity = 500;
    let tables = Arc::new(Tables::new(TableLimits { entries: capacity, ..LIMITS }));
    let write = |writer: i32| {
        let tables = Arc::clone(&tables);
        move || -> Vec<(i32, Value)> {
            let table = tables.table_or_create("web", b"").unwrap();
            let won = (0..1_000).filter_map(|key: i32| {
                let value = table.insert_or_get(
                    &key.to_be_bytes(),
                    number(writer),
                    seconds(300),
                    seconds(0),
                )?;
                let mut run = begin(&tables, 0);
                run.insert(b"", &key.to_be_bytes(), number(-1), seconds(300));
                if key % 2 == 0 {
                    run.commit(seconds(0));
                }
                Some((key, value))
            });
            won.collect()
        }
    };
    let writers: Vec<_> = (0..4).map(|writer| thread::spawn(write(writer))).collect();
    let table = tables.table_or_create("web", b"").unwrap();
    let answers: Vec<_> = writers.into_iter().map(|writer| writer.join().unwrap()).collect();
    let stored: BTreeMap<_, _> =
        all(&table, 1).into_iter().map(|entry| (entry.key, entry.value)).collect();
    for (key, value) in answers.into_iter().flatten() {
        assert_eq!(stored.get(&Bytes::from(&key.to_be_bytes()[..])), Some(&value));
    }
    assert_eq!((stored.len(), table.taken.load(Relaxed)), (capacity, capacity));
}
