//! The packet behind an XDP context, as [`Frame`].

use aya_ebpf::{helpers::bpf_xdp_adjust_head, programs::XdpContext};
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
}
