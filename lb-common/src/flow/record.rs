//! What workers keep of a flow beside its slots.

#[cfg(not(target_arch = "bpf"))]
use core::sync::atomic::Ordering::Relaxed;

#[cfg(not(target_arch = "bpf"))]
use crate::atomic::AtomicU64;

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

    /// Bit: that the server failed at this flow has been counted.
    pub const FAILED: u8 = 4;

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
    #[inline]
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

    /// The partner alone.
    #[inline]
    pub fn partner(&self) -> u32 {
        halves(self.0[1].load(Relaxed))[0]
    }

    /// Writes the record: before its slot is published, or by its owner.
    #[inline]
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
