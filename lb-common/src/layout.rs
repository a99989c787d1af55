//! Names and versions of what is pinned.

use core::sync::atomic::Ordering::Relaxed;

use crate::{atomic::AtomicU32, hash::HashSeed};

/// Changes whenever the meaning of any pinned map does. A pin of another version is not adopted.
pub const LAYOUT_VERSION: u32 = 6;

/// Most receive queues, over all interfaces of an instance.
pub const SOCKETS: u32 = 1024;
/// Most receive queues of one interface.
pub const QUEUES: u32 = 64;
/// Most interfaces of an instance.
pub const INTERFACES: u32 = SOCKETS / QUEUES;

/// Entries of the `interfaces` map: one each, and one of where it punts to.
pub const INTERFACE_ENTRIES: u32 = 2 * INTERFACES;

/// The value of the one-element `instance` map: what a restarted daemon must know to find its
/// way in the pinned flow table.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Instance {
    /// See [`LAYOUT_VERSION`]; 0 in a map that was never written.
    pub layout_version: u32,
    /// Buckets that keys hash into, without the stash.
    pub flow_buckets: u32,
    /// The flow table's hash key.
    pub seed: HashSeed,
}

const _: () = assert!(size_of::<Instance>() == 48);

/// The value of the `interfaces` map, keyed by interface index.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Interface {
    /// Index in `sockets` of the interface's queue 0; queue n follows at n.
    pub first_socket: u32,
    /// Index of the interface that answers to what came in by this one are redirected to; 0 where
    /// `XDP_TX` sends them back.
    pub answers: u32,
    /// Index of the interface by which socket buffers are punted: the near end of a detour. 0 where
    /// packets are punted as they come.
    pub punts: u32,
}

const _: () = assert!(size_of::<Interface>() == 12);

/// The value of the `catalog` map: what a number in a flow record stood for when the flow was
/// made. It outlives the daemon, so that an adopted flow's log names what the old one knew.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CatalogEntry {
    /// Bytes of `name` in use; 0 for an entry that is free.
    pub length: u16,
    /// A virtual service (1), a pool (2) or a server (3).
    pub kind: u16,
    /// Its name, UTF-8; a server's is `pool/address:port`.
    pub name: [u8; 124],
}

const _: () = assert!(size_of::<CatalogEntry>() == 128);

/// Size of the `catalog` map.
pub const CATALOG: u32 = 65_536;

/// The value of the one-element `pressure` map: 0 while there is none. Control writes it, through
/// mapped memory; the program reads it.
#[derive(Debug, Default)]
#[repr(transparent)]
pub struct Pressure(AtomicU32);

#[cfg(not(loom))]
const _: () = assert!(size_of::<Pressure>() == 4);

impl Pressure {
    /// Whether there is any.
    #[inline(always)]
    pub fn is_on(&self) -> bool {
        self.0.load(Relaxed) != 0
    }

    /// Says that there is, or is not.
    #[cfg(not(target_arch = "bpf"))]
    pub fn set(&self, on: bool) {
        self.0.store(on.into(), Relaxed);
    }
}
