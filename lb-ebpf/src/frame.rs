//! The packet behind an XDP context, as [`Frame`].

use core::hint::black_box;

use aya_ebpf::{
    helpers::{bpf_xdp_adjust_head, bpf_xdp_adjust_tail, generated::bpf_xdp_load_bytes},
    programs::XdpContext,
};
use lb_common::path::Frame;

use crate::extent::Extent;

/// A packet being looked at.
pub struct XdpFrame<'a> {
    context: &'a XdpContext,
    extent: Extent,
}

impl<'a> XdpFrame<'a> {
    /// The context's packet.
    #[inline(always)]
    pub fn new(context: &'a XdpContext) -> Self {
        // SAFETY: the context's own.
        let extent = unsafe { Extent::new(context.data(), context.data_end()) };
        Self { context, extent }
    }

    /// After the kernel has moved the packet's beginning or end: what pointed into it is void.
    #[inline(always)]
    fn moved(&mut self) {
        *self = Self::new(self.context);
    }
}

impl Frame for XdpFrame<'_> {
    #[inline(always)]
    fn length(&self) -> usize {
        self.extent.length()
    }

    #[inline(always)]
    fn interface(&self) -> u32 {
        self.context.ingress_ifindex() as u32
    }

    #[inline(always)]
    fn window<const OFFSET: usize, const N: usize>(&mut self) -> Option<&mut [u8; N]> {
        self.extent.window::<OFFSET, N>()
    }

    #[inline(always)]
    fn grow_head(&mut self, grow: i32) -> bool {
        // SAFETY: the context is the one this program was called with.
        let grown = unsafe { bpf_xdp_adjust_head(self.context.ctx, -grow) == 0 };
        self.moved();
        grown
    }

    #[inline(always)]
    fn set_length(&mut self, length: usize) -> bool {
        let more = length as i32 - self.length() as i32;
        // SAFETY: the context is the one this program was called with. The kernel zeroes what is
        // added.
        let set = unsafe { bpf_xdp_adjust_tail(self.context.ctx, more) == 0 };
        self.moved();
        set
    }

    #[inline(always)]
    fn load<const N: usize>(&mut self, offset: usize, length: usize, into: &mut [u8; N]) -> bool {
        const { assert!(N.is_power_of_two()) };
        if length == 0 || length > N {
            return false;
        }
        // Bounded once more where the verifier sees it: that of kernel 6.1 learns nothing from a
        // comparison with 0. The compiler must not see that nothing changes.
        let length = (black_box(length as u32 - 1) & (N as u32 - 1)) + 1;
        let start = into.as_mut_ptr().cast();
        // SAFETY: the buffer is no shorter than `length`; a helper since kernel 5.18.
        unsafe { bpf_xdp_load_bytes(self.context.ctx, offset as u32, start, length) == 0 }
    }
}
