//! The flow table's layout, and the protocol by which one side writes and the other reads it.
//!
//! A bucket is four slots of one cache line each. A slot is guarded by its `version`: even and
//! unchanged over a read means that what was read belongs together; odd means that a worker owns
//! it. Workers claim a slot by compare-and-swap ([`SharedSlotV4::claim`]), fill it and publish
//! it. The XDP program only reads, and counts packets into slots that it found.
//!
//! A key lives in the bucket of its first choice, else of its second, else in the stash: a few
//! buckets at the table's end that are looked at only when the second-choice bucket says
//! ([`Flags::OVERFLOWED`]) that a key of its own once found no room.

#[cfg(not(target_arch = "bpf"))]
use core::sync::atomic::Ordering::{AcqRel, Release};
use core::sync::atomic::Ordering::{Acquire, Relaxed};

use crate::{
    address::{Port, Protocol},
    atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, fence},
    hash::HashSeed,
    next_hop::NextHopId,
    rewrite::{EndpointsV4, RewriteV4},
    time::Tick,
    wire::TcpFlags,
};

/// Slots in a bucket.
pub const BUCKET_SLOTS: usize = 4;
/// One bucket in this many is added at the end as the stash.
pub const STASH_SHARE: u32 = 64;

/// What identifies one direction of a flow: the packet's own addresses, ports and protocol.
#[repr(C, align(8))]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct FlowKeyV4 {
    /// Source address.
    pub source: [u8; 4],
    /// Destination address.
    pub destination: [u8; 4],
    /// Source port, network order.
    pub source_port: [u8; 2],
    /// Destination port, network order.
    pub destination_port: [u8; 2],
    /// IANA protocol number; never 0 in a key, so that a slot of zeros matches nothing.
    pub protocol: u8,
    #[doc(hidden)]
    pub reserved: [u8; 3],
}

const _: () = assert!(size_of::<FlowKeyV4>() == 16);

impl FlowKeyV4 {
    /// The key of packets with these endpoints.
    #[inline(always)]
    pub const fn new(endpoints: &EndpointsV4, protocol: Protocol) -> Self {
        Self {
            source: endpoints.source,
            destination: endpoints.destination,
            source_port: endpoints.source_port.0,
            destination_port: endpoints.destination_port.0,
            protocol: protocol.number(),
            reserved: [0; 3],
        }
    }

    /// Addresses and ports, without the protocol.
    pub const fn endpoints(&self) -> EndpointsV4 {
        EndpointsV4 {
            source: self.source,
            destination: self.destination,
            source_port: Port(self.source_port),
            destination_port: Port(self.destination_port),
        }
    }

    /// In the form that is hashed and compared.
    #[inline(always)]
    pub const fn packed(&self) -> PackedKeyV4 {
        let ([a, b, c, d], [e, f, g, h]) = (self.source, self.destination);
        let ([i, j], [k, l]) = (self.source_port, self.destination_port);
        PackedKeyV4::new([a, b, c, d, e, f, g, h], [i, j, k, l], self.protocol)
    }

    #[cfg(not(target_arch = "bpf"))]
    const fn unpacked(PackedKeyV4([first, second]): PackedKeyV4) -> Self {
        let [a, b, c, d, e, f, g, h] = first.to_ne_bytes();
        let [i, j, k, l, protocol, m, n, o] = second.to_ne_bytes();
        Self {
            source: [a, b, c, d],
            destination: [e, f, g, h],
            source_port: [i, j],
            destination_port: [k, l],
            protocol,
            reserved: [m, n, o],
        }
    }
}

/// A [`FlowKeyV4`] as two words, which is how slots hold it: addresses; ports, protocol, zeros.
///
/// Addresses and ports stand in a packet in this very order, so the program loads them as they
/// are.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct PackedKeyV4(pub [u64; 2]);

impl PackedKeyV4 {
    /// From both addresses and both ports as a packet has them.
    #[inline(always)]
    pub const fn new(addresses: [u8; 8], ports: [u8; 4], protocol: u8) -> Self {
        let [a, b, c, d] = ports;
        Self([u64::from_ne_bytes(addresses), u64::from_ne_bytes([a, b, c, d, protocol, 0, 0, 0])])
    }
}

/// The buckets that a key may live in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Geometry {
    /// Buckets that keys hash into: a power of two.
    pub buckets: u32,
    /// The hash's key.
    pub seed: HashSeed,
}

impl Geometry {
    /// Buckets for this many flows of two entries each, at a load of one half or less.
    pub const fn buckets_for(flows: u32) -> u32 {
        let slots = flows as u64 * 2 * 2;
        let buckets = slots.div_ceil(BUCKET_SLOTS as u64).next_power_of_two();
        #[expect(clippy::cast_possible_truncation, reason = "bounded just before")]
        let bounded = if buckets > 1 << 24 { 1 << 24 } else { buckets as u32 };
        if bounded < STASH_SHARE { STASH_SHARE } else { bounded }
    }

    /// Buckets of the stash, which follow the others.
    #[inline(always)]
    pub const fn stash(&self) -> u32 {
        self.buckets / STASH_SHARE
    }

    /// Buckets in all: the size of the map.
    pub const fn total(&self) -> u32 {
        self.buckets + self.stash()
    }

    /// The buckets that a key may live in.
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "halves of the hash")]
    pub const fn choices(&self, key: &PackedKeyV4) -> Choices {
        let hash = self.seed.hash(key.0);
        Choices {
            first: hash as u32 & (self.buckets - 1),
            second: (hash >> 32) as u32 & (self.buckets - 1),
            // Bits that neither choice uses on its own, for tables of up to 2^24 buckets.
            stashed: self.buckets + ((hash >> 24) as u32 & (self.stash() - 1)),
        }
    }
}

/// The buckets that a key may live in, by preference.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Choices {
    /// Most keys live here.
    pub first: u32,
    /// Keys that found their first choice full.
    pub second: u32,
    /// Keys that found both full.
    pub stashed: u32,
}

/// What kind of entry a slot holds, as a set of bits.
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Flags(pub u16);

impl Flags {
    /// From the server to the client; without it, from the client to the server.
    pub const REPLY: Self = Self(1);
    /// The first packet is still to be shown to an L4_RESPONSE script.
    pub const PUNT_RESPONSE: Self = Self(2);
    /// Packets are dropped: a script closed the flow.
    pub const CLOSED: Self = Self(4);
    /// A property of the bucket, kept in its first slot: some key had to go to the stash.
    pub const OVERFLOWED: Self = Self(0x8000);

    /// Whether all of `other` are among these.
    #[inline(always)]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// These and `other`.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// These without `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

/// One direction of a flow, as `bpftool` names the fields of the `flows_v4` map.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, Default)]
pub struct FlowSlotV4 {
    /// What identifies the direction.
    pub key: FlowKeyV4,
    /// Even: stable. Odd: owned by a worker. See the module's documentation.
    pub version: u32,
    /// Index into `next_hops`.
    pub next_hop: u32,
    /// What is done to each packet.
    pub rewrite: RewriteV4,
    /// Added to sequence numbers of replies and to acknowledgements of requests, for
    /// inspected TCP; 0 otherwise.
    pub sequence_delta: u32,
    /// When the last packet came, in ticks.
    pub last_seen: u32,
    /// Bytes on the wire.
    pub bytes: u64,
    /// Packets, modulo 2^32.
    pub packets: u32,
    /// See [`Flags`].
    pub flags: u16,
    /// 1 once a FIN was seen.
    pub fin: u8,
    /// 1 once a RST was seen.
    pub rst: u8,
}

/// The value of the `flows_v4` map, with names for `bpftool`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct FlowBucketV4 {
    /// Four cache lines.
    pub slots: [FlowSlotV4; BUCKET_SLOTS],
}

const _: () = assert!(size_of::<FlowSlotV4>() == 64);
const _: () = assert!(size_of::<FlowBucketV4>() == 256);

/// [`FlowSlotV4`] as it is shared: the same bytes, every access atomic.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub struct SharedSlotV4 {
    key: [AtomicU64; 2],
    version: AtomicU32,
    next_hop: AtomicU32,
    /// Source and destination address; ports; both deltas.
    rewrite: [AtomicU32; 4],
    sequence_delta: AtomicU32,
    last_seen: AtomicU32,
    bytes: AtomicU64,
    packets: AtomicU32,
    flags: AtomicU16,
    fin: AtomicU8,
    rst: AtomicU8,
}

/// [`FlowBucketV4`] as it is shared.
#[derive(Debug, Default)]
#[repr(C)]
pub struct SharedBucketV4 {
    /// Four cache lines.
    pub slots: [SharedSlotV4; BUCKET_SLOTS],
}

#[cfg(not(loom))]
const _: () = {
    use core::mem::offset_of;
    assert!(size_of::<SharedSlotV4>() == size_of::<FlowSlotV4>());
    assert!(size_of::<SharedBucketV4>() == size_of::<FlowBucketV4>());
    macro_rules! same_offset {
        ($($field:ident)*) => {
            $(assert!(offset_of!(SharedSlotV4, $field) == offset_of!(FlowSlotV4, $field));)*
        };
    }
    same_offset!(key version next_hop rewrite sequence_delta last_seen bytes packets flags fin rst);
};

/// What the program needs of a slot to forward a packet, read as one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Entry {
    /// Where the packet goes.
    pub next_hop: NextHopId,
    /// What is done to it.
    pub rewrite: RewriteV4,
    /// See [`FlowSlotV4::sequence_delta`].
    pub sequence_delta: u32,
    /// What kind of entry this is.
    pub flags: Flags,
}

/// Packets, bytes and the rest that XDP writes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Activity {
    /// When the last packet came.
    pub last_seen: Tick,
    /// Packets, modulo 2^32.
    pub packets: u32,
    /// Bytes on the wire.
    pub bytes: u64,
    /// Whether a FIN was seen in this direction.
    pub fin: bool,
    /// Whether a RST was seen in this direction.
    pub rst: bool,
}

/// Reading: both sides.
impl SharedSlotV4 {
    /// The entry, if this slot holds `key` and nobody is changing it.
    #[inline(always)]
    pub fn read(&self, key: &PackedKeyV4) -> Option<Entry> {
        let version = self.version.load(Acquire);
        let PackedKeyV4([first, second]) = *key;
        if self.key[0].load(Relaxed) != first || self.key[1].load(Relaxed) != second {
            return None;
        }
        let entry = self.entry();
        fence(Acquire);
        let stable = version & 1 == 0 && self.version.load(Relaxed) == version;
        stable.then_some(entry)
    }

    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "a word is split into its halves")]
    fn entry(&self) -> Entry {
        let ports = self.rewrite[2].load(Relaxed).to_ne_bytes();
        let deltas = self.rewrite[3].load(Relaxed);
        let (first, second) = (deltas as u16, (deltas >> 16) as u16);
        let (ip_delta, transport_delta) =
            if cfg!(target_endian = "little") { (first, second) } else { (second, first) };
        Entry {
            next_hop: NextHopId(self.next_hop.load(Relaxed)),
            rewrite: RewriteV4 {
                source: self.rewrite[0].load(Relaxed).to_ne_bytes(),
                destination: self.rewrite[1].load(Relaxed).to_ne_bytes(),
                source_port: [ports[0], ports[1]],
                destination_port: [ports[2], ports[3]],
                ip_delta,
                transport_delta,
            },
            sequence_delta: self.sequence_delta.load(Relaxed),
            flags: Flags(self.flags.load(Relaxed)),
        }
    }

    /// Whether the bucket that this slot is the first of has sent a key to the stash.
    #[inline(always)]
    pub fn overflowed(&self) -> bool {
        Flags(self.flags.load(Relaxed)).has(Flags::OVERFLOWED)
    }

    /// Counts a packet. Packets of one direction come on one core (RSS keeps a flow on a queue),
    /// so a plain addition serves; were they to come on two, a count could be lost, not a packet.
    #[inline(always)]
    pub fn touch(&self, now: Tick, bytes: u32, tcp: TcpFlags) {
        self.last_seen.store(now.0, Relaxed);
        self.packets.store(self.packets.load(Relaxed).wrapping_add(1), Relaxed);
        self.bytes.store(self.bytes.load(Relaxed).wrapping_add(u64::from(bytes)), Relaxed);
        if tcp.fin() {
            self.fin.store(1, Relaxed);
        }
        if tcp.rst() {
            self.rst.store(1, Relaxed);
        }
    }
}

/// Writing and walking: workers only.
#[cfg(not(target_arch = "bpf"))]
impl SharedSlotV4 {
    /// Key, entry and activity, if the slot is in use and nobody is changing it.
    pub fn snapshot(&self) -> Option<(FlowKeyV4, Entry, Activity)> {
        let version = self.version.load(Acquire);
        let key = FlowKeyV4::unpacked(self.packed_key());
        let found = (key, self.entry(), self.activity());
        fence(Acquire);
        let stable = version & 1 == 0 && self.version.load(Relaxed) == version;
        (stable && key.protocol != 0).then_some(found)
    }

    /// What XDP has counted. Each number is whole; together they may be a packet apart.
    pub fn activity(&self) -> Activity {
        Activity {
            last_seen: Tick(self.last_seen.load(Relaxed)),
            packets: self.packets.load(Relaxed),
            bytes: self.bytes.load(Relaxed),
            fin: self.fin.load(Relaxed) != 0,
            rst: self.rst.load(Relaxed) != 0,
        }
    }

    /// Takes a free slot: nobody else can from now on, and no reader sees what is in it.
    pub fn claim(&self) -> bool {
        let version = self.version.load(Acquire);
        version & 1 == 0
            && self.key[1].load(Relaxed) == 0
            && self
                .version
                .compare_exchange(version, version.wrapping_add(1), AcqRel, Relaxed)
                .is_ok()
    }

    /// Fills a claimed slot, still hidden from readers.
    pub fn fill(&self, key: &FlowKeyV4, entry: &Entry, activity: &Activity) {
        // Readers that began before the claim must see the odd version with any of this.
        fence(Release);
        let PackedKeyV4([first, second]) = key.packed();
        self.key[0].store(first, Relaxed);
        self.key[1].store(second, Relaxed);
        self.next_hop.store(entry.next_hop.0, Relaxed);
        let rewrite = &entry.rewrite;
        let ([a, b], [c, d]) = (rewrite.source_port, rewrite.destination_port);
        let ([e, f], [g, h]) =
            (rewrite.ip_delta.to_ne_bytes(), rewrite.transport_delta.to_ne_bytes());
        let words = [rewrite.source, rewrite.destination, [a, b, c, d], [e, f, g, h]];
        for (cell, word) in self.rewrite.iter().zip(words) {
            cell.store(u32::from_ne_bytes(word), Relaxed);
        }
        self.sequence_delta.store(entry.sequence_delta, Relaxed);
        self.last_seen.store(activity.last_seen.0, Relaxed);
        self.packets.store(activity.packets, Relaxed);
        self.bytes.store(activity.bytes, Relaxed);
        self.fin.store(activity.fin.into(), Relaxed);
        self.rst.store(activity.rst.into(), Relaxed);
        // The bucket's own flag lives in the same word and is another's to change.
        self.flags.fetch_and(Flags::OVERFLOWED.0, Relaxed);
        self.flags.fetch_or(entry.flags.without(Flags::OVERFLOWED).0, Relaxed);
    }

    /// Shows a filled slot to readers.
    pub fn publish(&self) {
        let version = self.version.load(Relaxed);
        debug_assert!(version & 1 == 1, "only a claimed slot is published");
        self.version.store(version.wrapping_add(1), Release);
    }

    /// Hides a published slot from readers: it is owned again, its key forgotten, and not yet
    /// free: a run of the program that found it before may still count into it. False if it was
    /// not published.
    pub fn retire(&self) -> bool {
        let version = self.version.load(Acquire);
        let retired = version & 1 == 0
            && self.key[1].load(Relaxed) != 0
            && self
                .version
                .compare_exchange(version, version.wrapping_add(1), AcqRel, Relaxed)
                .is_ok();
        if retired {
            fence(Release);
            self.forget_key();
        }
        retired
    }

    /// Gives an owned slot back. A retired one only after every run of the program that may have
    /// found it is over.
    pub fn free(&self) {
        fence(Release);
        self.forget_key();
        self.publish();
    }

    fn packed_key(&self) -> PackedKeyV4 {
        PackedKeyV4([self.key[0].load(Relaxed), self.key[1].load(Relaxed)])
    }

    fn forget_key(&self) {
        self.key[0].store(0, Relaxed);
        self.key[1].store(0, Relaxed);
    }

    /// Whether the slot could be claimed, as far as this look tells.
    pub fn is_free(&self) -> bool {
        self.version.load(Relaxed) & 1 == 0 && self.key[1].load(Relaxed) == 0
    }

    /// Whether a worker owns the slot: it is being filled, or waits to be given back.
    pub fn is_owned(&self) -> bool {
        self.version.load(Acquire) & 1 == 1
    }

    /// The key in the slot, published or not; zero in one that is free or retired.
    pub fn raw_key(&self) -> FlowKeyV4 {
        FlowKeyV4::unpacked(self.packed_key())
    }

    /// Takes one flag from a published slot; true if it was there. Two workers that ask at once
    /// do not both get true.
    pub fn take_flag(&self, flag: Flags) -> bool {
        Flags(self.flags.fetch_and(!flag.0, AcqRel)).has(flag)
    }

    /// Adds one flag to a published slot.
    pub fn set_flag(&self, flag: Flags) {
        self.flags.fetch_or(flag.0, AcqRel);
    }

    /// Marks the bucket that this slot is the first of: a key went to the stash.
    pub fn set_overflowed(&self) {
        self.set_flag(Flags::OVERFLOWED);
    }

    /// Points the slot's packets elsewhere, in one store.
    pub fn set_next_hop(&self, next_hop: NextHopId) {
        self.next_hop.store(next_hop.0, Release);
    }
}

/// What a worker keeps of a flow beside the slot, in the `flow_records` map: parallel to the
/// slots of `flows_v4`, never touched by XDP. Of a flow, the forward direction's record counts;
/// the reply's only points back.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct FlowRecord {
    /// When the flow was made, in nanoseconds of `CLOCK_MONOTONIC`.
    pub created: u64,
    /// Slot number of the other direction; [`FlowRecord::ALONE`] if there is none.
    pub partner: u32,
    /// After how many ticks without a packet the flow ends.
    pub idle_timeout: u32,
    /// Catalog number of the virtual service.
    pub service: u32,
    /// Catalog number of the pool; 0 for none.
    pub pool: u32,
    /// Catalog number of the server; 0 for none.
    pub server: u32,
    /// Catalog number of the script that decided; 0 for none.
    pub script: u32,
    /// Line in that script.
    pub line: u32,
    /// Generation of the configuration that decided.
    pub generation: u32,
    /// Forward packets at the owner's last visit, to notice a wrap.
    pub packets_seen: u32,
    /// The same of the reply direction.
    pub reply_packets_seen: u32,
    /// How often the forward packet count has wrapped.
    pub packet_wraps: u16,
    /// The same of the reply direction.
    pub reply_packet_wraps: u16,
    /// The worker that the flow belongs to.
    pub owner: u16,
    /// What decided: a number of the daemon's own list.
    pub decided_by: u8,
    /// See [`FlowRecord::FORWARD`] and the bits after it.
    pub bits: u8,
}

const _: () = assert!(size_of::<FlowRecord>() == 56);

impl FlowRecord {
    /// No other direction.
    pub const ALONE: u32 = u32::MAX;
    /// Bit: the record of a forward direction.
    pub const FORWARD: u8 = 1;
    /// Bit: packets have gone both ways; the flow no longer counts as half open.
    pub const ESTABLISHED: u8 = 2;

    /// Whether a bit is set.
    pub const fn has(&self, bit: u8) -> bool {
        self.bits & bit != 0
    }
}

/// [`FlowRecord`] as it is shared: seven words, each whole, changed by the owner alone.
#[cfg(not(target_arch = "bpf"))]
#[derive(Debug, Default)]
#[repr(C)]
pub struct SharedRecord([AtomicU64; 7]);

#[cfg(not(any(loom, target_arch = "bpf")))]
const _: () = assert!(size_of::<SharedRecord>() == size_of::<FlowRecord>());

#[cfg(not(target_arch = "bpf"))]
impl SharedRecord {
    /// The record. Of use only together with a slot that is seen unchanged before and after.
    pub fn load(&self) -> FlowRecord {
        let word = |index: usize| self.0[index].load(Relaxed);
        let [partner, idle_timeout] = halves(word(1));
        let [service, pool] = halves(word(2));
        let [server, script] = halves(word(3));
        let [line, generation] = halves(word(4));
        let [packets_seen, reply_packets_seen] = halves(word(5));
        let [a, b, c, d, e, f, decided_by, bits] = word(6).to_ne_bytes();
        FlowRecord {
            created: word(0),
            partner,
            idle_timeout,
            service,
            pool,
            server,
            script,
            line,
            generation,
            packets_seen,
            reply_packets_seen,
            packet_wraps: u16::from_ne_bytes([a, b]),
            reply_packet_wraps: u16::from_ne_bytes([c, d]),
            owner: u16::from_ne_bytes([e, f]),
            decided_by,
            bits,
        }
    }

    /// Writes the record: before its slot is published, or by its owner.
    pub fn store(&self, record: &FlowRecord) {
        let ([a, b], [c, d]) =
            (record.packet_wraps.to_ne_bytes(), record.reply_packet_wraps.to_ne_bytes());
        let [e, f] = record.owner.to_ne_bytes();
        let words = [
            record.created,
            joined(record.partner, record.idle_timeout),
            joined(record.service, record.pool),
            joined(record.server, record.script),
            joined(record.line, record.generation),
            joined(record.packets_seen, record.reply_packets_seen),
            u64::from_ne_bytes([a, b, c, d, e, f, record.decided_by, record.bits]),
        ];
        for (cell, word) in self.0.iter().zip(words) {
            cell.store(word, Relaxed);
        }
    }
}

#[cfg(not(target_arch = "bpf"))]
fn halves(word: u64) -> [u32; 2] {
    let [a, b, c, d, e, f, g, h] = word.to_ne_bytes();
    [u32::from_ne_bytes([a, b, c, d]), u32::from_ne_bytes([e, f, g, h])]
}

#[cfg(not(target_arch = "bpf"))]
fn joined(first: u32, second: u32) -> u64 {
    let ([a, b, c, d], [e, f, g, h]) = (first.to_ne_bytes(), second.to_ne_bytes());
    u64::from_ne_bytes([a, b, c, d, e, f, g, h])
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
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
            next_hop: u32, source: [u8; 4], destination: [u8; 4], source_port: [u8; 2],
            destination_port: [u8; 2], ip_delta: u16, transport_delta: u16, delta: u32,
        ) {
            let entry = Entry {
                next_hop: NextHopId(next_hop),
                rewrite: RewriteV4 {
                    source, destination, source_port, destination_port, ip_delta, transport_delta,
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
}
