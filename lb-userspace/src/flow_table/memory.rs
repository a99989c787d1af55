//! Where the table's bytes are.

use lb_common::flow::{BUCKET_SLOTS, Geometry, SharedBucketV4, SharedRecord};

/// Memory that holds buckets and records for as long as it lives.
pub trait Memory: Send + Sync {
    /// The buckets, stash included.
    fn buckets(&self) -> &[SharedBucketV4];
    /// A record a slot.
    fn records(&self) -> &[SharedRecord];
}

/// The process's own memory, for replay and tests.
pub struct OwnedMemory {
    buckets: Vec<SharedBucketV4>,
    records: Vec<SharedRecord>,
}

impl OwnedMemory {
    /// An empty table of this shape.
    pub fn new(geometry: &Geometry) -> Self {
        let buckets = geometry.total() as usize;
        Self {
            buckets: std::iter::repeat_with(SharedBucketV4::default).take(buckets).collect(),
            records: std::iter::repeat_with(SharedRecord::default)
                .take(buckets * BUCKET_SLOTS)
                .collect(),
        }
    }
}

impl Memory for OwnedMemory {
    fn buckets(&self) -> &[SharedBucketV4] {
        &self.buckets
    }

    fn records(&self) -> &[SharedRecord] {
        &self.records
    }
}
