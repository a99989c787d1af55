//! The flow table's layout, and the protocol by which one side writes and the other reads it.
//!
//! A bucket is four slots of one cache line each. A slot is guarded by its `version`: even and
//! unchanged over a read means that what was read belongs together; odd means that a worker owns
//! it. Workers claim a slot by compare-and-swap ([`SharedSlotV4::claim`]), fill it and publish
//! it. The packet program only reads, and counts packets into slots that it found.
//!
//! A key lives in the bucket of its first choice, else of its second, else in the stash: a few
//! buckets at the table's end that are looked at only when the second-choice bucket says
//! ([`Flags::OVERFLOWED`]) that a key of its own once found no room.

mod key;
mod record;
mod slot;
#[cfg(all(test, not(loom)))]
mod tests;

pub use key::{Choices, FlowKeyV4, Geometry, PackedKeyV4};
pub use record::FlowRecord;
#[cfg(not(target_arch = "bpf"))]
pub use record::SharedRecord;
pub use slot::{Activity, Entry, Flags, FlowBucketV4, FlowSlotV4, SharedBucketV4, SharedSlotV4};

/// Slots in a bucket.
pub const BUCKET_SLOTS: usize = 4;
/// One bucket in this many is added at the end as the stash.
pub const STASH_SHARE: u32 = 64;
