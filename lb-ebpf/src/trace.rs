//! A line a packet, when asked for. Switched off, the verifier removes it: no cost.

use aya_ebpf::EbpfContext;
use aya_log_ebpf::info;
use lb_common::path::{Frame, Verdict};
use lb_common::wire::{ETHERNET, IPV4_PORTS, Ipv4};

/// 1 to log every packet; set by the daemon before the program is loaded.
#[unsafe(no_mangle)]
static TRACE: u8 = 0;

/// Logs what became of a packet, with its addresses as they are now.
#[inline(always)]
pub fn verdict<C: EbpfContext, F: Frame>(context: &C, frame: &mut F, verdict: Verdict) {
    // SAFETY: an initialised static. Volatile, for the daemon overrides what the compiler sees.
    if unsafe { core::ptr::read_volatile(&TRACE) } == 0 {
        return;
    }
    let (action, detail) = match verdict {
        Verdict::Pass(event) => ("pass", event.number()),
        Verdict::Drop(event) => ("drop", event.number()),
        Verdict::Punt(event) => ("punt", event.number()),
        Verdict::Transmit => ("transmit", 0),
        Verdict::Answer(event) => ("answer", event.number()),
        Verdict::Redirect { interface } => ("redirect", interface),
    };
    let Some(window) = frame.window::<ETHERNET, IPV4_PORTS>() else { return };
    let packet = Ipv4(window);
    if !packet.is_v4() {
        return;
    }
    info!(
        context,
        "{} {} protocol {} {:i}:{} -> {:i}:{}",
        action,
        detail,
        packet.protocol(),
        u32::from_be_bytes(packet.source()),
        packet.source_port().number(),
        u32::from_be_bytes(packet.destination()),
        packet.destination_port().number()
    );
}
