//! Maps that are memory: the flow table and its records, without system calls.

use std::{os::fd::AsFd, ptr::NonNull};

use lb_common::flow::{BUCKET_SLOTS, Geometry, SharedBucketV4, SharedRecord};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

use super::DatapathError;
use crate::flow_table::Memory;

/// A `BPF_F_MMAPABLE` array, mapped whole. Elements are shared with the kernel and with other
/// workers, so only types whose every access is atomic are mapped.
struct Mapped<T> {
    start: NonNull<T>,
    length: usize,
}

// SAFETY: the elements are atomics (`Memory` hands out only such), and the mapping belongs to the
// process, not to a thread.
unsafe impl<T: Sync> Send for Mapped<T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for Mapped<T> {}

impl<T> Mapped<T> {
    /// Maps `length` elements of an array map whose values are exactly a `T`.
    fn new(map: impl AsFd, length: usize) -> Result<Self, DatapathError> {
        let bytes = length * size_of::<T>();
        // SAFETY: a new mapping at an address of the kernel's choice aliases nothing of ours.
        let start = unsafe {
            mmap(
                std::ptr::null_mut(),
                bytes,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
                map,
                0,
            )
        };
        let start = start.map_err(|error| {
            DatapathError::kernel(format!("cannot map {bytes} bytes of the flow table"), error)
        })?;
        let start = NonNull::new(start.cast()).expect("mmap never returns null");
        Ok(Self { start, length })
    }

    fn as_slice(&self) -> &[T] {
        // SAFETY: mapped for as long as `self` lives, page aligned (more than T asks for), and
        // the kernel zeroes it: a valid pattern for the atomics that T consists of.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.length) }
    }
}

impl<T> Drop for Mapped<T> {
    fn drop(&mut self) {
        // SAFETY: mapped by `new` with this length; slices borrowed from `self` are gone.
        let unmapped = unsafe { munmap(self.start.as_ptr().cast(), self.length * size_of::<T>()) };
        debug_assert!(unmapped.is_ok());
    }
}

/// The pinned flow table.
pub struct MappedTable {
    buckets: Mapped<SharedBucketV4>,
    records: Mapped<SharedRecord>,
}

impl MappedTable {
    /// Maps both arrays, which must have the sizes that `geometry` asks for.
    pub(super) fn new(
        flows: impl AsFd,
        records: impl AsFd,
        geometry: &Geometry,
    ) -> Result<Self, DatapathError> {
        let buckets = geometry.total() as usize;
        Ok(Self {
            buckets: Mapped::new(flows, buckets)?,
            records: Mapped::new(records, buckets * BUCKET_SLOTS)?,
        })
    }
}

impl Memory for MappedTable {
    fn buckets(&self) -> &[SharedBucketV4] {
        self.buckets.as_slice()
    }

    fn records(&self) -> &[SharedRecord] {
        self.records.as_slice()
    }
}
