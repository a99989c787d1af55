//! `avi.l4`: the payload.

use std::borrow::Cow;

use lb_common::address::Protocol;

use super::call::{Answer, Call};
use crate::script::{Event, More, Wait, context::Run, errors::Raise};

/// The most bytes that may be asked for: Avi's limit.
pub(super) const MOST: u32 = 65_000;

pub(super) fn read(call: &mut Call<'_>) -> Answer {
    let wanted = match call.count {
        0 => 0,
        _ => call.whole(0, "bytes", 0..=MOST)? as usize,
    };
    let buffered = call.run.payload.len();
    if wanted > buffered {
        let help = match call.run.more {
            Some(More::MayCome) => ": avi.l4.collect waits for more",
            _ => "",
        };
        return Err(call.error(format!("{wanted} bytes wanted, {buffered} buffered{help}")));
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
    if call.run.more == Some(More::MayCome) {
        let by = call.place();
        call.run.wait = Some(Wait { bytes: wanted, by });
        call.context.ended.set(true);
        // Only an error leaves the script at once; that it is none is known by `ended`.
        return Err(Raise::End);
    }
    let why = why_no_more(call.run);
    Err(call.error(format!("{wanted} bytes wanted, {buffered} buffered: {why}")))
}

fn why_no_more(run: &Run) -> Cow<'static, str> {
    let sender = match run.event {
        Event::L4Request => "the client",
        Event::L4Response => "the server",
    };
    match (run.more, run.protocol) {
        (Some(More::Late), _) => {
            "`inspect_timeout` has run out, so the script decides without".into()
        }
        (Some(_), _) => format!("{sender} has closed its side, no more will come").into(),
        (None, Protocol::Udp) => "the datagram is all there is".into(),
        (None, Protocol::Tcp) => format!(
            "virtual service \"{}\" decides at the SYN, and packets of the handshake have no \
             payload; set tcp_mode = \"inspect\" for it",
            run.service
        )
        .into(),
    }
}

/// A decided flow's payload is given to no script again, whether one says so or not.
pub(super) fn ds_done(_: &mut Call<'_>) -> Answer {
    Ok(())
}
