//! The packet in a socket buffer, as [`Frame`].

use aya_ebpf::{
    bindings::{__sk_buff, BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR},
    helpers::generated::{bpf_l4_csum_replace, bpf_skb_load_bytes, bpf_skb_pull_data},
    programs::TcContext,
};
use lb_common::{
    address::Protocol,
    next_hop::NextHop,
    path::Frame,
    rewrite::RewriteV4,
    wire::{IPV4_TCP, IPV4_UDP, put},
};

use crate::extent::Extent;

/// The headers that every packet is looked at for, and the longest: Ethernet, IPv4 without options, TCP
/// with none or all of its own. What a stack sends has all of its headers in one piece.
const LEAST: u32 = 14 + 20 + 20;
const MOST: u32 = 14 + 20 + 60;

/// A packet that the kernel's stack has in hand. It may be of many segments that leave as one, its
/// payload lie elsewhere, its checksum not be computed yet, and its VLAN tag stand beside it.
pub struct SocketBuffer {
    buffer: *mut __sk_buff,
    headers: Extent,
}

impl SocketBuffer {
    /// The context's packet, its headers in one piece.
    #[inline(always)]
    pub fn new(context: &TcContext) -> Self {
        let buffer = context.skb.skb;
        let mut frame = Self { buffer, headers: headers(buffer) };
        let whole = frame.whole();
        if frame.headers.length() < whole.min(LEAST) as usize {
            // SAFETY: the context is the one this program was called with. If it fails, windows do.
            unsafe { bpf_skb_pull_data(frame.buffer, whole.min(MOST)) };
            frame.moved();
        }
        frame
    }

    /// The word that XDP has put before the packet, if it has.
    #[inline(always)]
    pub fn metadata(&self) -> Option<u32> {
        // SAFETY: the context is the one this program was called with.
        let (metadata, start) =
            unsafe { ((*self.buffer).data_meta as usize, (*self.buffer).data as usize) };
        if metadata + size_of::<u32>() > start {
            return None;
        }
        // SAFETY: just seen to lie before the packet.
        Some(unsafe { *(metadata as *const u32) })
    }

    /// After a helper may have moved the headers: what pointed into them is void.
    #[inline(always)]
    fn moved(&mut self) {
        self.headers = headers(self.buffer);
    }

    /// Its length, with what does not lie behind the headers.
    #[inline(always)]
    fn whole(&self) -> u32 {
        // SAFETY: the context is the one this program was called with.
        unsafe { (*self.buffer).len }
    }

    /// Adds to a checksum. The kernel knows whether it is computed already, and what else keeps account
    /// of it.
    #[inline(always)]
    fn add_to_checksum(&mut self, offset: usize, delta: u16, flags: u32) {
        // SAFETY: the context is the one this program was called with. It fails where no checksum is,
        // and headers have been seen there.
        let _ = unsafe {
            bpf_l4_csum_replace(self.buffer, offset as u32, 0, delta.into(), flags.into())
        };
    }
}

impl Frame for SocketBuffer {
    const ONLY_FORWARDED: bool = true;

    #[inline(always)]
    fn length(&self) -> usize {
        self.whole() as usize
    }

    #[inline(always)]
    fn interface(&self) -> u32 {
        // SAFETY: the context is the one this program was called with.
        unsafe { (*self.buffer).ifindex }
    }

    #[inline(always)]
    fn window<const OFFSET: usize, const N: usize>(&mut self) -> Option<&mut [u8; N]> {
        self.headers.window::<OFFSET, N>()
    }

    #[inline(always)]
    fn can_leave_by(&self, next_hop: &NextHop) -> bool {
        // SAFETY: the context is the one this program was called with.
        let tagged = unsafe { (*self.buffer).vlan_present != 0 };
        !tagged && next_hop.vlan == 0
    }

    /// Of the pseudo-header and of the rest apart: a checksum that is not computed yet holds the
    /// pseudo-header's sum alone.
    #[inline(always)]
    fn rewrite<const L3: usize>(&mut self, protocol: Protocol, change: &RewriteV4) -> bool {
        let (at, flags) = match protocol {
            Protocol::Tcp => (L3 + 36, 0),
            Protocol::Udp => (L3 + 26, BPF_F_MARK_MANGLED_0),
        };
        let written = match protocol {
            Protocol::Tcp => self.window::<L3, IPV4_TCP>().map(|packet| addresses(change, packet)),
            Protocol::Udp => self.window::<L3, IPV4_UDP>().map(|packet| addresses(change, packet)),
        };
        if written.is_none() {
            return false;
        }
        self.add_to_checksum(at, change.address_delta(), flags | BPF_F_PSEUDO_HDR);
        self.add_to_checksum(at, change.segment_delta(), flags);
        self.moved();
        true
    }

    #[inline(always)]
    fn grow_head(&mut self, _grow: i32) -> bool {
        false
    }

    #[inline(always)]
    fn set_length(&mut self, _length: usize) -> bool {
        false
    }

    #[inline(always)]
    fn load<const N: usize>(&mut self, offset: usize, length: usize, into: &mut [u8; N]) -> bool {
        let start = into.as_mut_ptr().cast();
        let length = length.min(N) as u32;
        // SAFETY: the buffer is no shorter than `length`.
        unsafe { bpf_skb_load_bytes(self.buffer.cast(), offset as u32, start, length) == 0 }
    }
}

/// Where the buffer's headers are.
#[inline(always)]
fn headers(buffer: *mut __sk_buff) -> Extent {
    // SAFETY: the context that this program was called with, and its own addresses.
    unsafe { Extent::new((*buffer).data as usize, (*buffer).data_end as usize) }
}

/// Addresses and ports of a packet, but not the checksum over them.
#[inline(always)]
fn addresses<const N: usize>(change: &RewriteV4, packet: &mut [u8; N]) {
    change.apply_network(packet);
    put::<20, 4, N>(packet, change.ports);
}
