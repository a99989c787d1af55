//! Programs for `cargo xtask bench`, never attached: controls, and the packet path fed with a
//! packet that is another flow's each time. `BPF_PROG_TEST_RUN` repeats a program over one
//! buffer, which the path rewrites; so the buffer is made anew before each run, and
//! `control_vary` says what that costs.
#![no_std]
#![no_main]

mod extent;
mod frame;
mod global;
mod maps;
mod object;

use aya_ebpf::{
    bindings::xdp_action, btf_maps::PerCpuArray, macros::btf_map, macros::xdp, programs::XdpContext,
};
use lb_common::{
    path::{self, Frame as _, Verdict},
    wire::{ETHERNET, IPV4_PORTS},
};

use crate::{frame::XdpFrame, global::global, maps::Maps};

/// How many flows there are, less one: a power of two less one.
#[unsafe(no_mangle)]
static FLOW_MASK: u32 = 0;
/// Addresses of flow 0, as numbers; those whose bits are set in a mask have the flow's number
/// added. Ports of all flows, the source's in the upper half.
#[unsafe(no_mangle)]
static SOURCE: u32 = 0;
#[unsafe(no_mangle)]
static SOURCE_MASK: u32 = 0;
#[unsafe(no_mangle)]
static DESTINATION: u32 = 0;
#[unsafe(no_mangle)]
static DESTINATION_MASK: u32 = 0;
#[unsafe(no_mangle)]
static PORTS: u32 = 0;

/// How many packets have been made.
#[btf_map(name = "made")]
static MADE: PerCpuArray<u32, 1> = PerCpuArray::new();

/// Does nothing at all.
#[xdp]
#[inline(always)]
pub fn control_transmit(_context: XdpContext) -> u32 {
    xdp_action::XDP_TX
}

/// Swaps the MAC addresses: the least that a reflector must do.
#[xdp]
#[inline(always)]
pub fn control_swap(context: XdpContext) -> u32 {
    let mut frame = XdpFrame::new(&context);
    let Some(ethernet) = frame.window::<0, ETHERNET>() else { return xdp_action::XDP_DROP };
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n] = *ethernet;
    *ethernet = [g, h, i, j, k, l, a, b, c, d, e, f, m, n];
    xdp_action::XDP_TX
}

/// Makes the packet of another flow, and does nothing with it.
#[xdp]
#[inline(always)]
pub fn control_vary(context: XdpContext) -> u32 {
    vary(&context);
    xdp_action::XDP_TX
}

/// Makes the packet of another flow, and forwards it.
#[xdp]
#[inline(always)]
pub fn forward_varied(context: XdpContext) -> u32 {
    vary(&context);
    forward(&context)
}

#[inline(always)]
fn forward(context: &XdpContext) -> u32 {
    match path::forward(&mut XdpFrame::new(context), &Maps) {
        Verdict::Transmit | Verdict::Answer(_) => xdp_action::XDP_TX,
        Verdict::Redirect { .. } => xdp_action::XDP_REDIRECT,
        Verdict::Pass(_) => xdp_action::XDP_PASS,
        Verdict::Drop(_) | Verdict::Punt(_) => xdp_action::XDP_DROP,
    }
}

/// The packet of a flow whose number is mixed so that neighbours in time are not neighbours in
/// memory.
#[inline(always)]
fn vary(context: &XdpContext) {
    let Some(made) = MADE.get_ptr_mut(0) else { return };
    // SAFETY: this CPU's own element, and programs do not interrupt each other on a CPU.
    let number = unsafe {
        *made = (*made).wrapping_add(1);
        *made
    };
    let flow = number.wrapping_mul(0x9e37_79b1).rotate_right(7) & global(&FLOW_MASK);
    let mut frame = XdpFrame::new(context);
    let Some(packet) = frame.window::<ETHERNET, IPV4_PORTS>() else { return };
    let source = global(&SOURCE) | flow & global(&SOURCE_MASK);
    let destination = global(&DESTINATION) | flow & global(&DESTINATION_MASK);
    packet[8] = 64;
    [packet[12], packet[13], packet[14], packet[15]] = source.to_be_bytes();
    [packet[16], packet[17], packet[18], packet[19]] = destination.to_be_bytes();
    [packet[20], packet[21], packet[22], packet[23]] = global(&PORTS).to_be_bytes();
}

/// Keeps the maps that only the daemon uses in the object, as in the product's own.
#[xdp]
#[inline(always)]
pub fn daemon_maps(context: XdpContext) -> u32 {
    let exist =
        maps::daemon_maps_exist() && maps::socket(&context).and_then(maps::redirect_to).is_some();
    maps::count(lb_common::event::Event::PassNotOurs);
    if exist { xdp_action::XDP_PASS } else { xdp_action::XDP_ABORTED }
}
