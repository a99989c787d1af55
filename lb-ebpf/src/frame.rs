//! The packet behind an XDP context, as [`Frame`].

use core::hint::black_box;

use aya_ebpf::{
    helpers::{bpf_xdp_adjust_head, bpf_xdp_adjust_tail, generated::bpf_xdp_load_bytes},
    programs::XdpContext,
};
use lb_common::path::Frame;

/// A packet being looked at.
pub struct XdpFrame<'a>(&'a XdpContext);

impl<'a> XdpFrame<'a> {
    /// The context's packet.
    #[inline(always)]
    pub fn new(context: &'a XdpContext) -> Self {
        Self(context)
    }
}

impl Frame for XdpFrame<'_> {
    #[inline(always)]
    fn length(&self) -> usize {
        self.0.data_end() - self.0.data()
    }

    #[inline(always)]
    fn interface(&self) -> u32 {
        self.0.ingress_ifindex() as u32
    }

    #[inline(always)]
    fn window<const OFFSET: usize, const N: usize>(&mut self) -> Option<&mut [u8; N]> {
        let start = self.0.data() + OFFSET;
        if start + N > self.0.data_end() {
            return None;
        }
        // SAFETY: the verifier knows the packet to reach from `data` to `data_end`, and the
        // window was just seen to lie between. The borrow of `self` keeps other windows and
        // `grow_head`, which moves the packet, out.
        Some(unsafe { &mut *(start as *mut [u8; N]) })
    }

    #[inline(always)]
    fn grow_head(&mut self, grow: i32) -> bool {
        // SAFETY: the context is the one this program was called with.
        unsafe { bpf_xdp_adjust_head(self.0.ctx, -grow) == 0 }
    }

    #[inline(always)]
    fn set_length(&mut self, length: usize) -> bool {
        let more = length as i32 - self.length() as i32;
        // SAFETY: the context is the one this program was called with. The kernel zeroes what is
        // added.
        unsafe { bpf_xdp_adjust_tail(self.0.ctx, more) == 0 }
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
        unsafe { bpf_xdp_load_bytes(self.0.ctx, offset as u32, start, length) == 0 }
    }
}
