//! What becomes of a TCP segment that belongs to no flow, where a service wants cookies.
//!
//! Policy and rates were asked before: a SYN counts as the beginning of a flow, and what completes
//! its handshake is not counted again.

use super::{
    answer::{Answer, LONG, SHORT},
    cookie::{Check, Data, Handshake},
    options::{Plain, ROOM},
    segment::Segment,
};
use crate::{
    event::Event,
    path::{Frame, Tables, Verdict},
    service::Service,
    wire::{ETHERNET, ETHERNET_VLAN, IPV4, IPV4_TCP, TcpFlags, at, put},
};

/// Whether a segment of no flow is this module's business. One that may return a cookie is for as
/// long as the service has any: the pressure may have ended since the cookie was given.
#[inline(always)]
pub fn is_for<T: Tables>(tables: &T, service: &Service, flags: TcpFlags) -> bool {
    let mode = service.cookies;
    mode.has_any() && (!is_syn(flags) || mode.is_always() || tables.is_pressed())
}

/// Whether a connection is asked for, and nothing else is said.
#[inline(always)]
const fn is_syn(flags: TcpFlags) -> bool {
    flags.opens() && !flags.fin()
}

/// A segment of no flow, behind a header that begins at `L3`: answered, dropped, or a worker's.
///
/// What is done about it is not inlined: what happens to packets of flows must neither be slower
/// nor need more stack for it. It is several functions, one after the other, for a program's stack
/// is 512 bytes, of all functions that call each other.
#[inline(always)]
pub fn treat<const L3: usize, F: Frame, T: Tables>(
    frame: &mut F,
    tables: &T,
    flags: TcpFlags,
) -> Verdict {
    let offered = if is_syn(flags) { offer::<L3, F>(frame) } else { NOTHING };
    let packet = frame.window::<L3, IPV4_TCP>();
    let Some(segment) = packet.and_then(|packet| Segment::read(packet)) else { return MALFORMED };
    if is_syn(flags) {
        let Ok(offered) = u8::try_from(offered) else { return MALFORMED };
        let Segment { addresses, ports, sequence, .. } = segment;
        let cookie = make(tables, addresses, ports, sequence, offered);
        return answer_syn::<L3, F>(frame, offered, cookie);
    }
    if flags.rst() {
        return Verdict::Drop(Event::DropResetNoFlow);
    }
    if flags.ack() && flags.0 & TcpFlags::SYN == 0 {
        let (Handshake { addresses, ports, sequence }, cookie) = segment.completes();
        match check(tables, addresses, ports, sequence, cookie) {
            COMPLETES => return Verdict::Punt(Event::PuntCookie),
            FOLLOWS => return Verdict::Punt(Event::PuntEarly),
            _ => {}
        }
    }
    reset::<L3, F>(frame)
}

const MALFORMED: Verdict = Verdict::Drop(Event::DropMalformed);

/// What a SYN offers, as [`Data`] in a byte; [`NOTHING`] if it is malformed.
#[inline(never)]
fn offer<const L3: usize, F: Frame>(frame: &mut F) -> u32 {
    let packet = frame.window::<L3, IPV4_TCP>();
    let Some(syn) = packet.and_then(|packet| Segment::read(packet)) else { return NOTHING };
    let mut header = [0; ROOM];
    if !frame.load(L3 + IPV4, syn.header, &mut header) {
        return NOTHING;
    }
    Data::of(Plain::read(&header, syn.header)).byte().into()
}

const NOTHING: u32 = 256;

/// The cookie of a client that offers this now. It gets what it needs of the packet, not the
/// frame: the compiler would hand it the packet's bounds by value, which to the verifier are numbers.
#[inline(never)]
fn make<T: Tables>(
    tables: &T,
    addresses: [u8; 8],
    ports: [u8; 4],
    sequence: u32,
    offered: u8,
) -> u32 {
    let handshake = Handshake { addresses, ports, sequence };
    tables.secrets().make(tables.nanos(), &handshake, Data::from_byte(offered))
}

#[inline(never)]
fn answer_syn<const L3: usize, F: Frame>(frame: &mut F, offered: u8, cookie: u32) -> Verdict {
    let packet = frame.window::<L3, IPV4_TCP>();
    let Some(syn) = packet.and_then(|packet| Segment::read(packet)) else { return MALFORMED };
    let answer = Answer::syn_ack(&syn, Data::from_byte(offered), cookie);
    send::<L3, F>(frame, &answer, Event::AnswerCookie)
}

/// [`Check`] in a word.
const FOREIGN: u32 = 0;
const FOLLOWS: u32 = 1;
const COMPLETES: u32 = 2;

/// What an acknowledgement of this cookie shows now.
#[inline(never)]
fn check<T: Tables>(
    tables: &T,
    addresses: [u8; 8],
    ports: [u8; 4],
    sequence: u32,
    cookie: u32,
) -> u32 {
    let handshake = Handshake { addresses, ports, sequence };
    match tables.secrets().check(tables.nanos(), &handshake, cookie) {
        Check::Completes(_) => COMPLETES,
        Check::Follows => FOLLOWS,
        Check::Foreign => FOREIGN,
    }
}

#[inline(never)]
fn reset<const L3: usize, F: Frame>(frame: &mut F) -> Verdict {
    let packet = frame.window::<L3, IPV4_TCP>();
    let Some(segment) = packet.and_then(|packet| Segment::read(packet)) else {
        return MALFORMED;
    };
    send::<L3, F>(frame, &Answer::reset(&segment), Event::AnswerReset)
}

/// Writes an answer over the packet, and turns the frame around.
#[inline(always)]
fn send<const L3: usize, F: Frame>(frame: &mut F, answer: &Answer, event: Event) -> Verdict {
    if !turn_around(frame) {
        return MALFORMED;
    }
    let written = if answer.is_long() {
        write::<L3, LONG, F>(frame, answer)
    } else {
        write::<L3, SHORT, F>(frame, answer)
    };
    if written { Verdict::Answer(event) } else { Verdict::Drop(Event::DropNoTailroom) }
}

#[inline(always)]
fn write<const L3: usize, const N: usize, F: Frame>(frame: &mut F, answer: &Answer) -> bool {
    if frame.length() != L3 + N && !frame.set_length(L3 + N) {
        return false;
    }
    frame.window::<L3, N>().map(|packet| answer.write(packet)).is_some()
}

/// Back to where it came from, a tag staying as it is. Not if it came to a group: TCP has none
/// (RFC 9293 §3.9.2.3), and a group sends nothing.
#[inline(always)]
fn turn_around<F: Frame>(frame: &mut F) -> bool {
    let Some(ethernet) = frame.window::<0, ETHERNET>() else { return false };
    if ethernet[0] & 1 != 0 {
        return false;
    }
    let (to, from) = (at::<0, 6, _>(ethernet), at::<6, 6, _>(ethernet));
    put::<0, 6, _>(ethernet, from);
    put::<6, 6, _>(ethernet, to);
    true
}

const _: () = assert!(ETHERNET + SHORT == 60 && ETHERNET_VLAN + SHORT == 64);
