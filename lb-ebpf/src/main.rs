//! The XDP program. It decides nothing: it hands the packet and the maps to
//! [`lb_common::path::forward`] and carries the verdict out.
#![no_std]
#![no_main]

mod frame;
mod maps;
mod object;
mod trace;

use aya_ebpf::{bindings::xdp_action, helpers::bpf_redirect, macros::xdp, programs::XdpContext};
use lb_common::{
    event::Event,
    path::{self, Frame as _, Verdict},
};

use crate::{frame::XdpFrame, maps::Maps};

/// Attached to every interface of an instance.
#[xdp]
#[inline(always)]
pub fn firstpacket(context: XdpContext) -> u32 {
    let verdict = path::forward(&mut XdpFrame::new(&context), &Maps);
    trace::verdict(&context, verdict);
    match verdict {
        Verdict::Pass(event) => {
            maps::count(event);
            xdp_action::XDP_PASS
        }
        Verdict::Drop(event) => {
            maps::count(event);
            xdp_action::XDP_DROP
        }
        Verdict::Punt(event) => punt(&context, event),
        Verdict::Transmit => xdp_action::XDP_TX,
        Verdict::Answer(event) => {
            maps::count(event);
            answer(&context)
        }
        Verdict::Redirect { interface } => redirect(interface),
    }
}

/// 1 if any of the instance's interfaces is without hardware; set by the daemon before the program is
/// loaded. Answers have no next hop that would tell (`NextHop::bounces`).
#[unsafe(no_mangle)]
static BACK_BY_REDIRECT: u8 = 0;

/// An answer, out by the interface that the packet came in by.
#[inline(always)]
fn answer(context: &XdpContext) -> u32 {
    // SAFETY: an initialised static. Volatile, for the daemon overrides what the compiler sees.
    if unsafe { core::ptr::read_volatile(&BACK_BY_REDIRECT) } == 0 {
        return xdp_action::XDP_TX;
    }
    redirect(XdpFrame::new(context).interface())
}

#[inline(always)]
fn redirect(interface: u32) -> u32 {
    // SAFETY: a plain helper call; an index without an interface drops the packet.
    unsafe { bpf_redirect(interface, 0) as u32 }
}

/// Never loaded: it keeps the maps that only the daemon uses in the object.
#[xdp]
pub fn daemon_maps(_context: XdpContext) -> u32 {
    if maps::daemon_maps_exist() { xdp_action::XDP_PASS } else { xdp_action::XDP_ABORTED }
}

/// To the worker of the queue that the packet came in by. Without one it is dropped: passed on,
/// the kernel would answer in the service's name.
#[inline(always)]
fn punt(context: &XdpContext, event: Event) -> u32 {
    let sent = maps::socket(context).and_then(maps::redirect_to);
    match sent {
        Some(action) => {
            maps::count(event);
            action
        }
        None => {
            maps::count(Event::DropNoWorker);
            xdp_action::XDP_DROP
        }
    }
}
