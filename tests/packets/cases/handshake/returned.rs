//! Segments of no flow that are no SYN: with a cookie, with another's, with none.

use lb_common::{
    event::Event,
    service::Cookies,
    tcp::{
        cookie::{Check, Data, Handshake},
        options::SynOptions,
    },
    wire::TcpFlags,
};

use super::{
    LINUX, MSS, SEQUENCE, ack, answer, check, cookie, nothing, reset, segment, syn, tcp_header,
    with,
};
use crate::{
    fixture::Case,
    observed,
    packet::{Packet, endpoints, framed, seal},
    setup::{CLIENT, PORT, SECRETS, VIP},
};

#[test]
fn an_acknowledgement_with_a_good_cookie_goes_to_a_worker() {
    check(&with(Cookies::ALWAYS), || {
        let linux = Data::new(&SynOptions::of(&tcp_header(&LINUX)).unwrap());
        let good = cookie(linux, 0);
        let punted =
            |name: &str, packet: Packet| Case::punt(name, packet.bytes(), Event::PuntCookie);
        let (ack_only, push) = (TcpFlags::ACK, TcpFlags::ACK | TcpFlags::PSH);
        let mut cases = vec![
            punted("bare", ack(ack_only, good)),
            punted("tagged and padded", ack(ack_only, good).tag(7).padding(6)),
            punted("with payload", ack(push, good).payload(b"GET / HTTP/1.1\r\n\r\n")),
            punted("with options", ack(ack_only, good).options(&[1, 1, 1, 0])),
            punted("that is also the end", ack(ack_only | TcpFlags::FIN, good)),
            punted("of the epoch before", ack(ack_only, cookie(linux, 1))),
        ];
        cases.extend([1, 1460, u32::from(u16::MAX)].map(|ahead| {
            let later = SEQUENCE.wrapping_add(1 + ahead);
            let packet = ack(push, good).numbers(later, good.wrapping_add(1));
            Case::punt("a later segment", packet.bytes(), Event::PuntEarly)
        }));
        cases
    });
}

#[test]
fn an_acknowledgement_without_a_good_cookie_is_reset() {
    check(&with(Cookies::ALWAYS), || {
        let good = cookie(nothing(), 0);
        let flags = TcpFlags::ACK;
        let (other_client, other_port) = (
            endpoints(([198, 51, 100, 8], 5000), (VIP, PORT)),
            endpoints((CLIENT, 5001), (VIP, PORT)),
        );
        let packets = [
            ("none", ack(flags, 0)),
            ("the number itself", ack(flags, good.wrapping_sub(1))),
            ("another mask", ack(flags, good ^ 1)),
            ("another tag", ack(flags, good ^ 0x1000_0000)),
            ("an old one", ack(flags, cookie(nothing(), 2))),
            ("another client's", Packet { endpoints: other_client, ..ack(flags, good) }),
            ("another connection's", Packet { endpoints: other_port, ..ack(flags, good) }),
        ];
        let more = |packet: &Packet| {
            let payload = packet.clone().payload(b"in the middle");
            [packet.clone(), packet.clone().tag(5), packet.clone().padding(6), payload]
        };
        packets
            .iter()
            .flat_map(|(name, packet)| {
                // Those few that look as if they followed, in this epoch, are for the tests of lb-common.
                let handshake =
                    Handshake::new(&packet.endpoints, packet.tcp.sequence.wrapping_sub(1));
                let cookie = packet.tcp.acknowledgement.wrapping_sub(1);
                let foreign =
                    SECRETS.check(observed::nanos(), &handshake, cookie) == Check::Foreign;
                let cases = more(packet).map(|packet| reset(name, &packet));
                foreign.then_some(cases).into_iter().flatten()
            })
            .collect()
    });
}

#[test]
fn what_neither_begins_nor_acknowledges_is_reset_and_a_reset_is_dropped() {
    use TcpFlags as F;
    check(&with(Cookies::ALWAYS), || {
        let mut cases = Vec::new();
        for flags in [F::RST, F::RST | F::ACK, F::RST | F::SYN, !F::SYN] {
            let packet = ack(flags, cookie(nothing(), 0));
            let name = format!("flags {flags:x}");
            cases.push(Case::drop(name, packet.bytes(), Event::DropResetNoFlow));
        }
        for flags in [F::SYN | F::ACK, F::SYN | F::ACK | F::FIN] {
            cases.push(reset("answers nothing of ours", &ack(flags, cookie(nothing(), 0))));
        }
        for (flags, length) in [(0, 0), (F::PSH, 0), (F::FIN, 1), (F::SYN | F::FIN, 2)] {
            let packet = segment(flags).payload(b"abc");
            let numbers = [0, SEQUENCE.wrapping_add(length + 3)];
            let reset = answer(&packet, F::RST | F::ACK, numbers, 0, &[]);
            let name = format!("flags {flags:x}");
            cases.push(Case::answered(name, &packet, &reset, Event::AnswerReset));
        }
        cases
    });
}

#[test]
fn headers_that_lie_and_frames_to_groups_are_dropped() {
    let drop = |name: String, frame| Case::drop(name, frame, Event::DropMalformed);
    check(&with(Cookies::ALWAYS), || {
        let mut cases = Vec::new();
        for (flags, words) in
            [(TcpFlags::SYN, 0), (TcpFlags::SYN, 4), (TcpFlags::SYN, 15), (TcpFlags::ACK, 7)]
        {
            let mut frame = segment(flags).options(&MSS).padding(100).bytes();
            frame[46] = words << 4;
            cases.push(drop(format!("{words} words"), frame));
        }
        let mut lie = syn(&LINUX).network();
        lie[2..4].copy_from_slice(&59u16.to_be_bytes());
        seal(&mut lie);
        cases.push(drop("cut within the options".to_owned(), framed(&lie)));
        for flags in [TcpFlags::SYN, TcpFlags::ACK] {
            let mut packet = segment(flags);
            packet.macs[0] = [0xff; 6];
            cases.push(drop("broadcast".to_owned(), packet.bytes()));
        }
        cases
    });
}
