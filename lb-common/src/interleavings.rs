//! The slots' protocol under every interleaving and every order of memory that loom can think of
//! within a bound on preemptions.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p lb-common --release --target-dir target/loom --lib interleavings`

use crate::{
    atomic::fence,
    flow::{Activity, Entry, Flags, FlowKeyV4, SharedSlotV4},
    next_hop::NextHopId,
    rewrite::RewriteV4,
    splice::{Sender, Splice},
    time::Tick,
    wire::TcpFlags,
};
use loom::{
    model::Builder,
    sync::{Arc, atomic::Ordering},
    thread,
};

/// Three preemptions suffice for nearly every known bug of this kind, and end in minutes.
fn model(check: impl Fn() + Sync + Send + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(3));
    builder.check(check);
}

/// Keys of different numbers differ in both halves.
fn key(number: u8) -> FlowKeyV4 {
    FlowKeyV4 {
        source: [number; 4],
        destination: [number; 4],
        source_port: [number; 2],
        destination_port: [number; 2],
        protocol: 6,
        reserved: [0; 3],
    }
}

/// Entries of different numbers differ in every word.
fn entry(number: u8) -> Entry {
    Entry {
        next_hop: NextHopId(number.into()),
        rewrite: RewriteV4 {
            addresses: [number; 8],
            ports: [number; 4],
            ip_delta: number.into(),
            transport_delta: number.into(),
        },
        sequence_delta: number.into(),
        flags: Flags(number.into()),
    }
}

fn insert(slot: &SharedSlotV4, number: u8) -> bool {
    let claimed = slot.claim();
    if claimed {
        slot.fill(&key(number), &entry(number), &Activity::default());
        slot.publish();
    }
    claimed
}

fn holding(number: u8) -> Arc<SharedSlotV4> {
    let slot = Arc::new(SharedSlotV4::default());
    assert!(insert(&slot, number));
    slot
}

/// Runs `work` on a slot in a thread of its own.
fn spawn<T: 'static>(
    slot: &Arc<SharedSlotV4>,
    work: impl FnOnce(&SharedSlotV4) -> T + 'static,
) -> thread::JoinHandle<T> {
    let slot = Arc::clone(slot);
    thread::spawn(move || work(&slot))
}

/// Reads as the packet program does: nothing, or an entry that belongs to the key.
fn read_whole(slot: &SharedSlotV4, number: u8) {
    if let Some(read) = slot.read(&key(number).packed()) {
        assert_eq!(read, entry(number), "an entry of another flow, or of two");
    }
}

#[test]
fn a_reader_sees_a_new_entry_whole_or_not_at_all() {
    model(|| {
        let slot = Arc::new(SharedSlotV4::default());
        let reader = spawn(&slot, |slot| read_whole(slot, 1));
        assert!(insert(&slot, 1));
        reader.join().unwrap();
        assert_eq!(slot.read(&key(1).packed()), Some(entry(1)));
    });
}

#[test]
fn a_reader_of_the_old_key_never_gets_the_next_flows_entry() {
    model(|| {
        let slot = holding(1);
        let reader = spawn(&slot, |slot| read_whole(slot, 1));
        assert!(slot.retire());
        slot.free();
        assert!(insert(&slot, 2));
        reader.join().unwrap();
    });
}

#[test]
fn a_reader_of_the_next_key_never_gets_the_old_flows_entry() {
    model(|| {
        let slot = holding(1);
        let reader = spawn(&slot, |slot| read_whole(slot, 2));
        assert!(slot.retire());
        slot.free();
        assert!(insert(&slot, 2));
        reader.join().unwrap();
    });
}

#[test]
fn a_walker_sees_a_flow_whole_or_not_at_all() {
    model(|| {
        let slot = holding(1);
        let walker = spawn(&slot, |slot| {
            if let Some((found, seen, _)) = slot.snapshot() {
                assert_eq!((found, seen), (key(1), entry(1)));
            }
        });
        assert!(slot.retire());
        walker.join().unwrap();
        assert_eq!(slot.snapshot(), None);
    });
}

#[test]
fn of_two_that_claim_a_slot_one_wins() {
    model(|| {
        let slot = Arc::new(SharedSlotV4::default());
        let other = spawn(&slot, |slot| insert(slot, 1));
        let mine = insert(&slot, 2);
        let others = other.join().unwrap();
        assert!(mine ^ others, "claimed by {}", u8::from(mine) + u8::from(others));
        let winner = if mine { 2 } else { 1 };
        assert_eq!(slot.read(&key(winner).packed()), Some(entry(winner)));
    });
}

#[test]
fn of_two_that_retire_a_slot_one_wins() {
    model(|| {
        let slot = holding(1);
        let other = spawn(&slot, SharedSlotV4::retire);
        let mine = slot.retire();
        assert!(mine ^ other.join().unwrap());
        assert!(slot.is_owned());
        assert_eq!(slot.read(&key(1).packed()), None);
    });
}

#[test]
fn a_slot_that_is_retired_cannot_be_claimed() {
    model(|| {
        let slot = holding(1);
        let claimant = spawn(&slot, SharedSlotV4::claim);
        assert!(slot.retire());
        assert!(!claimant.join().unwrap(), "claimed without having been freed");
    });
}

#[test]
fn of_two_that_take_a_flag_one_gets_it() {
    model(|| {
        let slot = Arc::new(SharedSlotV4::default());
        assert!(slot.claim());
        let entry = Entry { flags: Flags::REPLY.and(Flags::PUNT_RESPONSE), ..Entry::default() };
        slot.fill(&key(1), &entry, &Activity::default());
        slot.publish();
        let take = |slot: &SharedSlotV4| slot.take_flag(Flags::PUNT_RESPONSE);
        let other = spawn(&slot, take);
        let mine = take(&slot);
        assert!(mine ^ other.join().unwrap());
        assert_eq!(slot.read(&key(1).packed()).unwrap().flags, Flags::REPLY);
    });
}

#[test]
fn a_bucket_that_overflows_while_its_slot_is_filled_stays_marked() {
    model(|| {
        let slot = Arc::new(SharedSlotV4::default());
        let other = spawn(&slot, SharedSlotV4::set_overflowed);
        assert!(insert(&slot, 1));
        other.join().unwrap();
        assert!(slot.overflowed());
        let flags = slot.read(&key(1).packed()).unwrap().flags;
        assert_eq!(flags.without(Flags::OVERFLOWED), entry(1).flags);
    });
}

/// The shift is 1: a bit of it, and none of other flags.
const SPLICE: Splice = Splice { sender: Sender::Client, delta: 2, shift: 1 };

/// A flow that a worker inspects, with the words of entry 1.
fn inspected() -> Arc<SharedSlotV4> {
    let slot = Arc::new(SharedSlotV4::default());
    assert!(slot.claim());
    let entry = Entry { flags: Flags::INSPECTED, ..entry(1) };
    slot.fill(&key(1), &entry, &Activity::default());
    slot.publish();
    slot
}

/// What entry 1 becomes: the words of entry 2, spliced.
fn amend(slot: &SharedSlotV4) {
    slot.amend(NextHopId(2), &entry(2).rewrite, &SPLICE);
}

fn amended() -> Entry {
    Entry { flags: SPLICE.flags(), ..entry(2) }
}

/// Reads as the program does: what is inspected is a worker's, the rest must be new in all words.
fn read_inspected(slot: &SharedSlotV4) {
    let read = slot.read(&key(1).packed()).unwrap();
    if !read.flags.has(Flags::INSPECTED) {
        let flags = read.flags.without(Flags::OVERFLOWED).without(Flags::CLOSED);
        assert_eq!(Entry { flags, ..read }, amended());
    }
}

#[test]
fn a_reader_that_finds_a_flow_inspected_no_more_sees_it_spliced() {
    model(|| {
        let slot = inspected();
        let reader = spawn(&slot, read_inspected);
        amend(&slot);
        reader.join().unwrap();
        assert_eq!(slot.read(&key(1).packed()), Some(amended()));
    });
}

#[test]
fn so_does_a_reader_of_flags_that_others_have_changed_meanwhile() {
    model(|| {
        let slot = inspected();
        let reader = spawn(&slot, read_inspected);
        let other = spawn(&slot, |slot| {
            slot.set_overflowed();
            slot.set_flag(Flags::CLOSED);
        });
        amend(&slot);
        reader.join().unwrap();
        other.join().unwrap();
        let flags = slot.read(&key(1).packed()).unwrap().flags;
        assert_eq!(flags, SPLICE.flags().and(Flags::OVERFLOWED).and(Flags::CLOSED));
    });
}

#[test]
fn the_next_flow_of_an_amended_slot_is_whole() {
    model(|| {
        let slot = inspected();
        let reader = spawn(&slot, |slot| read_whole(slot, 3));
        amend(&slot);
        assert!(slot.retire());
        slot.free();
        assert!(insert(&slot, 3));
        reader.join().unwrap();
    });
}

/// A run of the program that found a slot counts into it after it was retired. The grace period
/// (here: the run's end) keeps those counts out of the next flow, and in the old one's log.
#[test]
fn late_counts_are_the_old_flows_and_never_the_next_ones() {
    model(|| {
        let slot = holding(1);
        let run = spawn(&slot, |slot| {
            let found = slot.read(&key(1).packed()).is_some();
            if found {
                slot.touch(Tick(7), 60, TcpFlags(TcpFlags::FIN));
            }
            found
        });
        assert!(slot.retire());
        let counted = run.join().unwrap();
        assert_eq!(slot.activity().packets, counted.into(), "late counts reach the log");
        slot.free();
        assert!(insert(&slot, 2));
        assert_eq!(slot.snapshot(), Some((key(2), entry(2), Activity::default())));
    });
}

/// The steps of `flow_table::FlowTable::insert` for one direction: claim, write the key, look.
fn insert_once(slots: &[SharedSlotV4; 2], preferred: usize) -> bool {
    let order = [preferred, 1 - preferred];
    let Some(mine) = order.into_iter().find(|place| slots[*place].claim()) else { return false };
    slots[mine].fill(&key(1), &Entry::default(), &Activity::default());
    fence(Ordering::SeqCst);
    if slots[1 - mine].raw_key() == key(1) {
        slots[mine].free();
        return false;
    }
    slots[mine].publish();
    true
}

#[test]
fn of_two_workers_that_insert_one_key_at_most_one_succeeds() {
    model(|| {
        let slots: Arc<[SharedSlotV4; 2]> = Arc::default();
        let other = {
            let slots = Arc::clone(&slots);
            thread::spawn(move || insert_once(&slots, 1))
        };
        let mine = insert_once(&slots, 0);
        assert!(!(mine && other.join().unwrap()), "the key is in the table twice");
    });
}

/// The same where one finds both buckets full and takes a slot of the stash, which the other looks
/// at only if the bucket says that a key overflowed.
fn insert_into(slots: &[SharedSlotV4; 2], stashed: bool) -> bool {
    let [second, stash] = slots;
    let (mine, other) = if stashed { (stash, second) } else { (second, stash) };
    assert!(mine.claim(), "nobody else is there");
    if stashed {
        second.set_overflowed();
    }
    mine.fill(&key(1), &Entry::default(), &Activity::default());
    fence(Ordering::SeqCst);
    if (stashed || second.overflowed()) && other.raw_key() == key(1) {
        mine.free();
        return false;
    }
    mine.publish();
    true
}

#[test]
fn nobody_overlooks_a_key_that_is_just_going_to_the_stash() {
    model(|| {
        let slots: Arc<[SharedSlotV4; 2]> = Arc::default();
        let other = {
            let slots = Arc::clone(&slots);
            thread::spawn(move || insert_into(&slots, true))
        };
        let mine = insert_into(&slots, false);
        assert!(!(mine && other.join().unwrap()), "the key is in the table twice");
    });
}
