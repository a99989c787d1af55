//! `avi.l4`: the payload.

use super::call::{Answer, Call};
use lb_common::address::Protocol;

/// The most bytes that may be asked for: Avi's limit.
pub(super) const MOST: u32 = 65_000;

pub(super) fn read(call: &mut Call<'_>) -> Answer {
    let wanted = match call.count {
        0 => 0,
        _ => call.whole(0, "bytes", 0..=MOST)? as usize,
    };
    let buffered = call.run.payload.len();
    if wanted > buffered {
        return Err(call.error(format!("{wanted} bytes wanted, {buffered} buffered")));
    }
    let end = if wanted == 0 { buffered } else { wanted };
    call.reply(&call.run.payload[..end])
}

pub(super) fn collect(call: &mut Call<'_>) -> Answer {
    let wanted = call.whole(0, "bytes", 0..=MOST)? as usize;
    let buffered = call.run.payload.len();
    if wanted <= buffered {
        return call.reply(buffered as f64);
    }
    let why = match call.run.protocol {
        Protocol::Udp => "the datagram is all there is",
        Protocol::Tcp => {
            "a TCP virtual service decides at the SYN, which has no payload; \
             tcp_mode = \"inspect\" is not supported yet"
        }
    };
    Err(call.error(format!("{wanted} bytes wanted, {buffered} buffered: {why}")))
}

/// Nothing is given to a script twice as yet: a flow is decided by its first packet.
pub(super) fn ds_done(_: &mut Call<'_>) -> Answer {
    Ok(())
}
