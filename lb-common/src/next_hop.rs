//! Where a rewritten packet goes: link-layer addresses, interface and tag.

/// An Ethernet address.
pub type Mac = [u8; 6];

/// Index into the `next_hops` map.
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct NextHopId(pub u32);

/// How many next hops an instance can know at once.
pub const NEXT_HOPS: u32 = 16_384;

/// The value of the `next_hops` map. Flows point into it, so that a new MAC is one write and
/// not a walk over flows.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct NextHop {
    /// Interface that the packet leaves by; 0 while the neighbour is not resolved.
    pub interface: u32,
    /// VLAN identifier (IEEE 802.1Q) that the packet leaves with; 0 for none.
    pub vlan: u16,
    /// Destination MAC.
    pub destination: Mac,
    /// Source MAC: the interface's own.
    pub source: Mac,
    #[doc(hidden)]
    pub reserved: [u8; 6],
}

const _: () = assert!(size_of::<NextHop>() == 24);

impl NextHop {
    /// Whether packets can be sent to it.
    #[inline(always)]
    pub const fn is_resolved(&self) -> bool {
        self.interface != 0
    }
}
