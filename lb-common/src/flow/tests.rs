//! Slots by themselves; `interleavings` and `lb-userspace` have them shared.

use super::*;
use crate::{next_hop::NextHopId, rewrite::RewriteV4};
use proptest::prelude::*;

fn key(port: u16) -> FlowKeyV4 {
    FlowKeyV4 {
        source: [10, 0, 0, 1],
        destination: [10, 0, 0, 2],
        source_port: port.to_be_bytes(),
        destination_port: [0, 53],
        protocol: 17,
        reserved: [0; 3],
    }
}

#[test]
fn a_slot_is_seen_only_between_publish_and_retire() {
    let slot = SharedSlotV4::default();
    let entry = Entry { next_hop: NextHopId(7), ..Entry::default() };
    assert_eq!(slot.read(&key(1).packed()), None);
    assert!(slot.claim());
    assert!(!slot.claim(), "a claimed slot cannot be claimed");
    slot.fill(&key(1), &entry, &Activity::default());
    assert_eq!(slot.read(&key(1).packed()), None);
    slot.publish();
    assert_eq!(slot.read(&key(1).packed()), Some(entry));
    assert_eq!(slot.read(&key(2).packed()), None);
    assert!(!slot.claim(), "a slot in use cannot be claimed");
    assert!(slot.retire());
    assert_eq!(slot.read(&key(1).packed()), None);
    assert!(!slot.claim(), "a retired slot cannot be claimed");
    slot.free();
    assert!(slot.claim());
}

#[test]
fn the_buckets_own_flag_outlives_the_slots_entries() {
    let slot = SharedSlotV4::default();
    slot.set_overflowed();
    assert!(slot.claim());
    let entry = Entry { flags: Flags::REPLY, ..Entry::default() };
    slot.fill(&key(1), &entry, &Activity::default());
    slot.publish();
    assert!(slot.overflowed());
    assert!(slot.read(&key(1).packed()).unwrap().flags.has(Flags::REPLY));
}

#[test]
fn capacity_gives_a_load_of_one_half_or_less() {
    for flows in [1u32, 64, 1000, 65_536, 1 << 20] {
        let slots = u64::from(Geometry::buckets_for(flows)) * BUCKET_SLOTS as u64;
        assert!(slots >= u64::from(flows) * 4);
    }
}

#[test]
fn a_record_survives_its_words() {
    let record = FlowRecord {
        created: 1 << 60,
        partner: 2,
        idle_timeout: 3,
        service: 4,
        pool: 5,
        server: 6,
        script: 7,
        line: 8,
        generation: 9,
        packets_seen: 10,
        reply_packets_seen: 11,
        packet_wraps: 12,
        reply_packet_wraps: 13,
        owner: 14,
        decided_by: 15,
        bits: 16,
    };
    let shared = SharedRecord::default();
    shared.store(&record);
    assert_eq!(shared.load(), record);
}

proptest! {
    #[test]
    fn a_key_survives_packing(
        source: [u8; 4], destination: [u8; 4], source_port: [u8; 2],
        destination_port: [u8; 2], protocol: u8,
    ) {
        let key = FlowKeyV4 {
            source, destination, source_port, destination_port, protocol, reserved: [0; 3],
        };
        prop_assert_eq!(FlowKeyV4::unpacked(key.packed()), key);
    }

    #[test]
    fn an_entry_survives_its_slot(
        next_hop: u32, addresses: [u8; 8], ports: [u8; 4], ip_delta: u16, transport_delta: u16, delta: u32,
    ) {
        let entry = Entry {
            next_hop: NextHopId(next_hop),
            rewrite: RewriteV4 {
                addresses, ports, ip_delta, transport_delta,
            },
            sequence_delta: delta,
            flags: Flags::PUNT_RESPONSE,
        };
        let slot = SharedSlotV4::default();
        prop_assert!(slot.claim());
        slot.fill(&key(9), &entry, &Activity::default());
        slot.publish();
        prop_assert_eq!(slot.read(&key(9).packed()), Some(entry));
    }
}
