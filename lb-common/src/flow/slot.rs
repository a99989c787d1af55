//! One direction of a flow in memory that is shared, and how it is claimed, read and given back.

#[cfg(not(target_arch = "bpf"))]
use core::sync::atomic::Ordering::{AcqRel, Release};
use core::sync::atomic::Ordering::{Acquire, Relaxed};

use super::{BUCKET_SLOTS, FlowKeyV4, PackedKeyV4};
#[cfg(not(target_arch = "bpf"))]
use crate::splice::Splice;
use crate::{
    atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, fence},
    next_hop::NextHopId,
    rewrite::RewriteV4,
    time::Tick,
    wire::TcpFlags,
};

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
    /// Packets are translated between two handshakes: see [`crate::splice`]. Bits 8 to 12 are then
    /// by how much the window is shifted, in two's complement.
    pub const SPLICED: Self = Self(8);
    /// Packets go to a worker, which has not spliced the connection yet. While this is there, the
    /// entry's other words may be changing: see [`SharedSlotV4::amend`].
    pub const INSPECTED: Self = Self(16);
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
    /// Added to sequence numbers of replies, and to acknowledgements and SACK blocks of requests,
    /// if the flow is spliced.
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
    /// Both addresses; ports and both deltas.
    rewrite: [AtomicU64; 2],
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

    /// The flags are read first: who finds them without [`Flags::INSPECTED`] gets the words that
    /// were written before it was taken away.
    #[inline(always)]
    fn entry(&self) -> Entry {
        let flags = Flags(self.flags.load(Acquire));
        let [a, b, c, d, e, f, g, h] = self.rewrite[1].load(Relaxed).to_ne_bytes();
        Entry {
            next_hop: NextHopId(self.next_hop.load(Relaxed)),
            rewrite: RewriteV4 {
                addresses: self.rewrite[0].load(Relaxed).to_ne_bytes(),
                ports: [a, b, c, d],
                ip_delta: u16::from_ne_bytes([e, f]),
                transport_delta: u16::from_ne_bytes([g, h]),
            },
            sequence_delta: self.sequence_delta.load(Relaxed),
            flags,
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
        self.mark(tcp);
    }

    /// Remembers that this side has closed, or reset.
    #[inline(always)]
    pub fn mark(&self, tcp: TcpFlags) {
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
    #[inline]
    pub fn snapshot(&self) -> Option<(FlowKeyV4, Entry, Activity)> {
        let version = self.version.load(Acquire);
        let key = FlowKeyV4::unpacked(self.packed_key());
        let found = (key, self.entry(), self.activity());
        fence(Acquire);
        let stable = version & 1 == 0 && self.version.load(Relaxed) == version;
        (stable && key.protocol != 0).then_some(found)
    }

    /// What XDP has counted. Each number is whole; together they may be a packet apart.
    #[inline]
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
    #[inline]
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
    #[inline]
    pub fn fill(&self, key: &FlowKeyV4, entry: &Entry, activity: &Activity) {
        // Readers that began before the claim must see the odd version with any of this.
        fence(Release);
        let PackedKeyV4([first, second]) = key.packed();
        self.key[0].store(first, Relaxed);
        self.key[1].store(second, Relaxed);
        self.write(entry.next_hop, &entry.rewrite, entry.sequence_delta);
        self.last_seen.store(activity.last_seen.0, Relaxed);
        self.packets.store(activity.packets, Relaxed);
        self.bytes.store(activity.bytes, Relaxed);
        self.fin.store(activity.fin.into(), Relaxed);
        self.rst.store(activity.rst.into(), Relaxed);
        // The bucket's own flag lives in the same word and is another's to change.
        self.flags.fetch_and(Flags::OVERFLOWED.0, Relaxed);
        self.flags.fetch_or(entry.flags.without(Flags::OVERFLOWED).0, Relaxed);
    }

    fn write(&self, next_hop: NextHopId, rewrite: &RewriteV4, sequence_delta: u32) {
        self.next_hop.store(next_hop.0, Relaxed);
        let RewriteV4 { addresses, ports: [a, b, c, d], ip_delta, transport_delta } = *rewrite;
        let ([e, f], [g, h]) = (ip_delta.to_ne_bytes(), transport_delta.to_ne_bytes());
        self.rewrite[0].store(u64::from_ne_bytes(addresses), Relaxed);
        self.rewrite[1].store(u64::from_ne_bytes([a, b, c, d, e, f, g, h]), Relaxed);
        self.sequence_delta.store(sequence_delta, Relaxed);
    }

    /// Writes where packets of a published slot will go that is [`Flags::INSPECTED`]: readers use
    /// nothing of it as long as it is.
    pub fn prepare(&self, entry: &Entry) {
        debug_assert!(Flags(self.flags.load(Relaxed)).has(Flags::INSPECTED));
        self.write(entry.next_hop, &entry.rewrite, entry.sequence_delta);
    }

    /// Splices the flow of a published slot that is [`Flags::INSPECTED`]: writes what its packets
    /// need, then takes that flag away. A reader that finds it gone sees what was written; one that
    /// finds it there uses nothing of it.
    ///
    /// Only once in a slot's life, and only by the one worker that inspects the flow: without the
    /// flag the words are readers'. Flags that others may set meanwhile stay.
    pub fn amend(&self, next_hop: NextHopId, rewrite: &RewriteV4, splice: &Splice) {
        debug_assert!(Flags(self.flags.load(Relaxed)).has(Flags::INSPECTED));
        self.write(next_hop, rewrite, splice.delta);
        // Under cover of the flag, which goes last and alone.
        self.flags.fetch_and(!Splice::FLAGS.0, Relaxed);
        self.flags.fetch_or(splice.flags().0, Relaxed);
        self.flags.fetch_and(!Flags::INSPECTED.0, Release);
    }

    /// Shows a filled slot to readers.
    #[inline]
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

    #[inline]
    fn packed_key(&self) -> PackedKeyV4 {
        PackedKeyV4([self.key[0].load(Relaxed), self.key[1].load(Relaxed)])
    }

    fn forget_key(&self) {
        self.key[0].store(0, Relaxed);
        self.key[1].store(0, Relaxed);
    }

    /// Whether the slot could be claimed, as far as this look tells.
    #[inline]
    pub fn is_free(&self) -> bool {
        self.version.load(Relaxed) & 1 == 0 && self.key[1].load(Relaxed) == 0
    }

    /// Whether a worker owns the slot: it is being filled, or waits to be given back.
    pub fn is_owned(&self) -> bool {
        self.version.load(Acquire) & 1 == 1
    }

    /// The key in the slot, published or not; zero in one that is free or retired.
    #[inline]
    pub fn raw_key(&self) -> FlowKeyV4 {
        FlowKeyV4::unpacked(self.packed_key())
    }

    /// Whether this key is in the slot, published or not.
    #[inline]
    pub fn holds(&self, key: &PackedKeyV4) -> bool {
        self.packed_key() == *key
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
}
