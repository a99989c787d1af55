//! Tells the daemon, once, how the kernel's count of ticks and its coarse clock go together.
#![no_std]
#![no_main]

mod extent;
mod frame;
mod object;

use aya_ebpf::{
    bindings::xdp_action,
    helpers::generated::{bpf_jiffies64, bpf_ktime_get_coarse_ns},
    macros::xdp,
    programs::XdpContext,
};
use lb_common::{
    path::Frame as _,
    time::{READING, Reading},
    wire::put,
};

use crate::frame::XdpFrame;

/// Writes a [`Reading`] over the packet's beginning. Never attached.
#[xdp]
#[inline(always)]
pub fn clock(context: XdpContext) -> u32 {
    // SAFETY: helpers without arguments, there since kernels 5.6 and 5.11.
    let reading =
        unsafe { Reading { jiffies: bpf_jiffies64(), nanos: bpf_ktime_get_coarse_ns() } };
    let mut frame = XdpFrame::new(&context);
    let Some(window) = frame.window::<0, READING>() else { return xdp_action::XDP_DROP };
    put::<0, 8, READING>(window, reading.jiffies.to_ne_bytes());
    put::<8, 8, READING>(window, reading.nanos.to_ne_bytes());
    xdp_action::XDP_PASS
}
