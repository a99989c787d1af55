//! Maps that are memory, without system calls: the flow table and its records, secrets of cookies,
//! pressure, the filter of addresses.

use std::{os::fd::AsFd, ptr::NonNull};

use lb_common::{
    address::Address,
    filter::AddressFilter,
    flow::{BUCKET_SLOTS, Geometry, SharedBucketV4, SharedRecord},
    layout::Pressure,
    service::Roles,
    tcp::cookie::{Secrets, SharedSecrets},
};
use rustix::{
    mm::{MapFlags, ProtFlags, mmap, munmap},
    rand::{GetRandomFlags, getrandom},
};

use super::DatapathError;
use crate::{engine::CookieJar, flow_table::Memory};

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
            DatapathError::kernel(format!("cannot map {bytes} bytes of a BPF map"), error)
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

/// What the program and workers must agree on when a handshake costs no memory.
pub struct MappedHandshakes {
    secrets: Mapped<SharedSecrets>,
    pressure: Mapped<Pressure>,
}

impl MappedHandshakes {
    /// Maps both. Secrets that were never set are made up: a program that made cookies without
    /// would believe anybody's.
    pub(super) fn new(secrets: impl AsFd, pressure: impl AsFd) -> Result<Self, DatapathError> {
        let mapped =
            Self { secrets: Mapped::new(secrets, 1)?, pressure: Mapped::new(pressure, 1)? };
        if mapped.secrets().load() == Secrets::default() {
            (0..2).try_for_each(|place| mapped.renew(place))?;
        }
        Ok(mapped)
    }

    /// What cookies are made with and checked.
    pub fn secrets(&self) -> &SharedSecrets {
        &self.secrets.as_slice()[0]
    }

    /// Whether services that may answer with cookies should.
    pub fn pressure(&self) -> &Pressure {
        &self.pressure.as_slice()[0]
    }

    /// Makes up a secret. To be called early in every odd epoch with what
    /// [`Epoch::replaceable`](lb_common::tcp::cookie::Epoch::replaceable) names: at any other time
    /// or place it makes good cookies worthless.
    pub fn renew(&self, place: usize) -> Result<(), DatapathError> {
        let mut bytes = [0; 16];
        getrandom(&mut bytes, GetRandomFlags::empty())
            .map_err(|error| DatapathError::kernel("cannot get random numbers", error))?;
        let (words, _) = bytes.as_chunks::<8>();
        let secret = std::array::from_fn(|index| u64::from_ne_bytes(words[index]));
        self.secrets().replace(place, secret);
        Ok(())
    }
}

impl std::fmt::Debug for MappedHandshakes {
    /// Secrets are written nowhere.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MappedHandshakes")
    }
}

impl CookieJar for MappedHandshakes {
    fn secrets(&self) -> Secrets {
        Self::secrets(self).load()
    }
}

/// The filter of addresses.
pub(super) struct MappedFilter(Mapped<AddressFilter>);

impl MappedFilter {
    pub(super) fn new(map: impl AsFd) -> Result<Self, DatapathError> {
        Mapped::new(map, 1).map(Self)
    }

    /// See [`AddressFilter::add`].
    pub(super) fn add(&self, address: &Address, roles: Roles) {
        self.0.as_slice()[0].add(address, roles);
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
