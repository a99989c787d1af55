//! Where a rewritten packet goes: link-layer addresses, interface and tag.

use crate::{address::Address, wire::at};

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
    /// Destination MAC, and source MAC, the interface's own: as a frame begins.
    pub macs: [u8; 12],
    /// Interface that the packet leaves by; 0 while the neighbour is not resolved.
    pub interface: u32,
    /// VLAN identifier (IEEE 802.1Q) that the packet leaves with; 0 for none.
    pub vlan: u16,
    /// 1 if a packet that came in by `interface` can be sent back there with `XDP_TX`; else it is
    /// redirected. A veth, as long as the far end runs no native XDP program, leaves what `XDP_TX`
    /// sends it until something else comes along (`veth_xdp_flush` of drivers/net/veth.c).
    pub bounces: u8,
    /// To the size that is found by a shift, and never lies across two cache lines.
    #[doc(hidden)]
    pub reserved: [u8; 13],
}

const _: () = assert!(size_of::<NextHop>() == 32);

impl NextHop {
    /// Out by `interface`, untagged, and by redirection.
    pub const fn new(interface: u32, destination: Mac, source: Mac) -> Self {
        let ([a, b, c, d, e, f], [g, h, i, j, k, l]) = (destination, source);
        let macs = [a, b, c, d, e, f, g, h, i, j, k, l];
        Self { macs, interface, vlan: 0, bounces: 0, reserved: [0; 13] }
    }

    /// Destination MAC.
    pub const fn destination(&self) -> Mac {
        at::<0, 6, _>(&self.macs)
    }

    /// Source MAC.
    pub const fn source(&self) -> Mac {
        at::<6, 6, _>(&self.macs)
    }

    /// Whether packets can be sent to it.
    #[inline(always)]
    pub const fn is_resolved(&self) -> bool {
        self.interface != 0
    }
}

/// The value of the `next_hop_targets` map, parallel to `next_hops`: what an entry leads to. The
/// program does not look at it; a restarted daemon must, for flows keep their numbers.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NextHopTarget {
    /// A host, or the network of a route.
    pub address: Address,
    /// Length of the network's prefix, counted for the address's own family.
    pub prefix_length: u8,
    /// One of the constants; 0 for an entry that is not in use.
    pub kind: u8,
    #[doc(hidden)]
    pub reserved: [u8; 6],
}

const _: () = assert!(size_of::<NextHopTarget>() == 24);

impl NextHopTarget {
    /// Kind: a host, by whatever way leads to it.
    pub const HOST: u8 = 1;
    /// Kind: the gateway of the route to a network.
    pub const GATEWAY: u8 = 2;
}
