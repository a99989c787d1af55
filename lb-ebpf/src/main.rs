//! The programs. They decide nothing: they hand the packet and the maps to
//! [`lb_common::path::forward`] and carry the verdict out.
#![no_std]
#![no_main]

mod extent;
mod frame;
mod maps;
mod object;
mod socket_buffer;
mod trace;

use aya_ebpf::{
    bindings::{TC_ACT_SHOT, TC_ACT_UNSPEC, xdp_action},
    helpers::{bpf_redirect, bpf_xdp_adjust_meta},
    macros::{classifier, xdp},
    programs::{TcContext, XdpContext},
};
use lb_common::{
    event::Event,
    path::{self, Frame, Verdict},
};

use crate::{frame::XdpFrame, maps::Maps, socket_buffer::SocketBuffer};

/// XDP, attached to interfaces that have packets.
#[xdp]
#[inline(always)]
pub fn firstpacket(context: XdpContext) -> u32 {
    match decide(&context) {
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

/// What becomes of the packet that XDP sees.
#[inline(always)]
fn decide(context: &XdpContext) -> Verdict {
    let verdict = path::forward(&mut XdpFrame::new(context), &Maps);
    trace::verdict(context, &mut XdpFrame::new(context), verdict);
    verdict
}

/// At the ingress of traffic control (tcx), attached to interfaces that have socket buffers, as a veth. XDP
/// would get a copy of each, for TCP keeps what it has sent; here headers can be written and nothing is
/// copied. What is to be done beside forwarding takes a detour to [`treat_punted`].
#[classifier]
#[inline(always)]
pub fn forward_buffers(context: TcContext) -> i32 {
    let verdict = path::forward(&mut SocketBuffer::new(&context), &Maps);
    trace::verdict(&context, &mut SocketBuffer::new(&context), verdict);
    match verdict {
        Verdict::Pass(event) => {
            maps::count(event);
            TC_ACT_UNSPEC
        }
        Verdict::Drop(event) => {
            maps::count(event);
            TC_ACT_SHOT
        }
        // Counted where it is decided again.
        Verdict::Punt(_) | Verdict::Answer(_) => punt_buffer(&context),
        Verdict::Transmit => redirect(SocketBuffer::new(&context).interface()) as i32,
        Verdict::Redirect { interface } => redirect(interface) as i32,
    }
}

/// Into the detour.
#[inline(always)]
fn punt_buffer(context: &TcContext) -> i32 {
    match maps::interface(SocketBuffer::new(context).interface()) {
        Some(interface) if interface.punts != 0 => redirect(interface.punts) as i32,
        _ => {
            maps::count(Event::DropNoWorker);
            TC_ACT_SHOT
        }
    }
}

/// XDP, attached to the far end of a detour: as [`firstpacket`], but what leaves is a socket buffer
/// again, whose way out [`leave_detour`] is told. XDP sends packets only to those that poll for them, which
/// a veth's far end mostly does not.
#[xdp]
#[inline(always)]
pub fn treat_punted(context: XdpContext) -> u32 {
    match decide(&context) {
        Verdict::Punt(event) => punt(&context, event),
        Verdict::Drop(event) => {
            maps::count(event);
            xdp_action::XDP_DROP
        }
        Verdict::Answer(event) => {
            maps::count(event);
            let own = maps::interface(XdpFrame::new(&context).interface());
            leave_by(&context, own.map_or(0, |interface| interface.answers))
        }
        Verdict::Redirect { interface } => leave_by(&context, interface),
        // It was for us when it took the detour, and is no longer.
        Verdict::Pass(event) => {
            maps::count(event);
            xdp_action::XDP_DROP
        }
        // No flow's way out is a detour.
        Verdict::Transmit => xdp_action::XDP_ABORTED,
    }
}

/// Lets the packet pass with the way out before it, where the kernel's stack carries it along.
#[inline(always)]
fn leave_by(context: &XdpContext, interface: u32) -> u32 {
    const ROOM: usize = size_of::<u32>();
    // SAFETY: the context is the one this program was called with.
    let made_room = unsafe { bpf_xdp_adjust_meta(context.ctx, -(ROOM as i32)) == 0 };
    let metadata = context.metadata();
    if !made_room || metadata + ROOM > context.data() {
        return xdp_action::XDP_DROP;
    }
    // SAFETY: just seen to lie before the packet; the kernel keeps it aligned.
    unsafe { *(metadata as *mut u32) = interface };
    xdp_action::XDP_PASS
}

/// At the ingress of traffic control behind [`treat_punted`].
#[classifier]
#[inline(always)]
pub fn leave_detour(context: TcContext) -> i32 {
    match SocketBuffer::new(&context).metadata() {
        Some(interface) => redirect(interface) as i32,
        None => TC_ACT_SHOT,
    }
}

/// An answer, out by the interface that the packet came in by.
#[inline(always)]
fn answer(context: &XdpContext) -> u32 {
    match maps::interface(XdpFrame::new(context).interface()) {
        Some(interface) if interface.answers != 0 => redirect(interface.answers),
        _ => xdp_action::XDP_TX,
    }
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
