//! TCP of no flow to a service that answers with cookies.

mod returned;
mod syn;

use lb_common::{
    address::Protocol::{Tcp, Udp},
    admission::Rate,
    event::Event,
    path::Verdict,
    service::{Cookies, Service},
    tcp::{
        cookie::{Check, Data, Handshake},
        options::SynOptions,
    },
    wire::TcpFlags,
};

use crate::{
    fixture::{self, Case},
    observed,
    packet::{Packet, Tcp as Numbers, endpoints},
    setup::{CLIENT, POLICY, PORT, SECRETS, Setup, VIP, snat},
};

const SEQUENCE: u32 = 0xffff_fffe;

fn check(setup: &Setup, cases: impl FnOnce() -> Vec<Case>) {
    observed::wait_for_an_epoch();
    fixture::check(setup, &cases());
}

fn with(cookies: Cookies) -> Setup {
    Setup::ordinary().asking(Service { id: 1, cookies, ..Service::default() })
}

/// A segment without payload of a client that has no flow.
fn segment(flags: u8) -> Packet {
    let packet = Packet::tcp(endpoints((CLIENT, 5000), (VIP, PORT)));
    packet.flags(flags).numbers(SEQUENCE, 0).payload(b"")
}

fn syn(options: &[u8]) -> Packet {
    segment(TcpFlags::SYN).options(options)
}

fn handshake() -> Handshake {
    Handshake::new(&segment(0).endpoints, SEQUENCE)
}

/// The cookie for this offer, made so many epochs ago.
fn cookie(data: Data, epochs: u64) -> u32 {
    let nanos = observed::nanos().checked_sub(epochs << 36);
    SECRETS.make(nanos.expect("the machine runs for minutes"), &handshake(), data)
}

fn nothing() -> Data {
    Data::new(&SynOptions::default())
}

/// Turned around, and padded as Ethernet wants it.
fn answer(to: &Packet, flags: u8, numbers: [u32; 2], window: u16, options: &[u8]) -> Packet {
    let [sequence, acknowledgement] = numbers;
    let [own, client] = to.macs;
    Packet {
        macs: [client, own],
        ttl: 64,
        endpoints: to.endpoints.reversed(),
        tcp: Numbers { sequence, acknowledgement, window, options: options.to_vec() },
        payload: Vec::new(),
        padding: 46usize.saturating_sub(40 + options.len()),
        ..to.clone()
    }
    .flags(flags)
}

fn syn_ack(to: &Packet, cookie: u32, options: &[u8]) -> Packet {
    let numbers = [cookie, to.tcp.sequence.wrapping_add(1)];
    answer(to, TcpFlags::SYN | TcpFlags::ACK, numbers, 0xffff, options)
}

fn reset(name: &str, packet: &Packet) -> Case {
    let reset = answer(packet, TcpFlags::RST, [packet.tcp.acknowledgement, 0], 0, &[]);
    Case::answered(name, packet, &reset, Event::AnswerReset)
}

/// The segment that returns a cookie.
fn ack(flags: u8, cookie: u32) -> Packet {
    segment(flags).numbers(SEQUENCE.wrapping_add(1), cookie.wrapping_add(1))
}

/// A number that is nobody's cookie, and does not look like one that its sender has gone on from:
/// one in 128 does, each in other epochs.
fn no_cookie() -> u32 {
    let check = |number: &u32| SECRETS.check(observed::nanos(), &handshake(), *number);
    let mut numbers = (0..8).map(|number: u32| number << 29);
    numbers.find(|number| check(number) == Check::Foreign).expect("most are foreign")
}

const MSS: [u8; 4] = [2, 4, 5, 180];
const LINUX: [u8; 20] = [2, 4, 5, 180, 4, 2, 8, 10, 1, 2, 3, 4, 0, 0, 0, 0, 1, 3, 3, 7];
const WINDOWS: [u8; 12] = [2, 4, 5, 180, 1, 3, 3, 8, 1, 1, 4, 2];
const MACOS: [u8; 24] = [2, 4, 5, 180, 1, 3, 3, 6, 1, 1, 8, 10, 1, 2, 3, 4, 0, 0, 0, 0, 4, 2, 0, 0];
const EVERYTHING: [u8; 12] = [2, 4, 5, 180, 1, 1, 4, 2, 1, 3, 3, 7];

fn tcp_header(options: &[u8]) -> Vec<u8> {
    syn(options).network()[20..].to_vec()
}

#[test]
fn what_a_service_wants_and_whether_there_is_pressure_decides() {
    let first = || Case::punt("SYN", syn(&LINUX).bytes(), Event::PuntFirstPacket);
    let stray = || ack(TcpFlags::ACK, no_cookie());
    let stray_is_reset = || reset("stray", &stray());
    let returned =
        |event| Case::punt("cookie", ack(TcpFlags::ACK, cookie(nothing(), 0)).bytes(), event);
    let answered = || {
        let (packet, read) = (syn(&WINDOWS), SynOptions::of(&tcp_header(&WINDOWS)).unwrap());
        let answer = syn_ack(&packet, cookie(Data::new(&read), 0), &EVERYTHING);
        Case::answered("SYN", &packet, &answer, Event::AnswerCookie)
    };
    let datagram = || {
        let packet = Packet::udp(segment(0).endpoints);
        Case::punt("UDP", packet.bytes(), Event::PuntFirstPacket)
    };
    let never = || {
        let stray = Case::punt("stray", stray().bytes(), Event::PuntFirstPacket);
        vec![first(), stray, returned(Event::PuntFirstPacket), datagram()]
    };
    check(&with(Cookies::NEVER), never);
    check(&with(Cookies::NEVER).pressed(), never);
    check(&with(Cookies::UNDER_PRESSURE), || {
        vec![first(), stray_is_reset(), returned(Event::PuntCookie), datagram()]
    });
    check(&with(Cookies::UNDER_PRESSURE).pressed(), || {
        vec![answered(), stray_is_reset(), returned(Event::PuntCookie), datagram()]
    });
}

#[test]
fn policy_and_rates_come_first_and_a_handshake_counts_once() {
    let rate = Rate { interval: u32::MAX, burst: 2 };
    let service = Service {
        id: 1,
        client_rate: rate,
        cookies: Cookies::ALWAYS,
        policy: POLICY,
        ..Service::default()
    };
    check(&Setup::ordinary().asking(service), || {
        let packet = syn(&[]);
        let answered = |name| {
            let answer = syn_ack(&packet, cookie(nothing(), 0), &MSS);
            Case::answered(name, &packet, &answer, Event::AnswerCookie)
        };
        let returned = |name| {
            let packet = ack(TcpFlags::ACK, cookie(nothing(), 0));
            Case::punt(name, packet.bytes(), Event::PuntCookie)
        };
        let denied = |flags| {
            let endpoints = endpoints(([10, 0, 0, 1], 5000), (VIP, PORT));
            let packet = Packet { endpoints, ..segment(flags) };
            Case::drop("denied", packet.bytes(), Event::DropDenied)
        };
        vec![
            answered("the first"),
            returned("its cookie"),
            returned("and again"),
            answered("the second"),
            Case::drop("the third", packet.bytes(), Event::DropRateLimited),
            returned("what has been given"),
            denied(TcpFlags::SYN),
            denied(TcpFlags::ACK),
            denied(TcpFlags::RST),
        ]
    });
}

#[test]
fn flows_go_on() {
    check(&with(Cookies::ALWAYS), || {
        let flow = snat(Tcp);
        let packet = flow.packet();
        let again = flow.packet().flags(TcpFlags::SYN);
        vec![
            Case::forwarded("a segment", &packet, &flow.sent(&packet), Verdict::Transmit),
            Case::punt("a SYN", again.bytes(), Event::PuntSyn),
            Case::forwarded(
                "a datagram",
                &snat(Udp).packet(),
                &snat(Udp).sent(&snat(Udp).packet()),
                Verdict::Transmit,
            ),
        ]
    });
}
