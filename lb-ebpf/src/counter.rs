//! What the traffic programs count and obey, shared with the benchmark that drives them.

/// Place of a number in the map `counters`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Counter {
    /// Packets made: the next one's number.
    Made,
    /// Packets to make in all; 0 for no limit. User space sets it.
    Limit,
    /// How many flows there are, less one: a power of two less one. User space sets it.
    FlowMask,
    /// Whether one packet in [`STANDING`] is of a flow that is there all the time. User space sets
    /// it.
    Standing,
    /// Nanoseconds between packets; 0 for as fast as it goes. User space sets it.
    Interval,
    /// Packets under way at most; 0 for no limit. User space sets it.
    Window,
    /// Packets under way that were not waited for any longer.
    GivenUp,
    /// When the next packet is to be sent.
    Due,
    /// When the first one was.
    FirstSent,
    /// When the last one came back.
    LastReceived,
    /// Packets made that are not of standing flows.
    Sent,
    /// And those that are.
    StandingSent,
    /// Packets that came back, not of standing flows.
    Received,
    /// And those that are.
    StandingReceived,
}

/// How many there are.
pub const COUNTERS: usize = 14;

/// One packet in so many is of a standing flow; so many standing flows there are.
pub const STANDING: u32 = 64;
/// See [`STANDING`].
pub const STANDING_FLOWS: u32 = 4;

/// Parts of each power of two in the map `delays`: a delay is known to an eighth of it.
const PARTS: u64 = 8;

/// Size of the map `delays`: up to 2^42 nanoseconds.
pub const BUCKETS: usize = 320;

/// Where a delay in nanoseconds is counted.
#[inline(always)]
pub const fn bucket(nanos: u64) -> u32 {
    let nanos = if nanos < PARTS { PARTS } else { nanos };
    let power = 63 - nanos.leading_zeros() as u64;
    let part = nanos >> (power - 3) & (PARTS - 1);
    ((power - 3) * PARTS + part) as u32
}

/// The least delay that is counted in the bucket after this one: no delay in this one is longer.
/// For the benchmark that drives the programs.
#[cfg(not(target_arch = "bpf"))]
pub const fn upper_bound(bucket: u32) -> u64 {
    let next = bucket as u64 + 1;
    (PARTS + next % PARTS) << (next / PARTS)
}
