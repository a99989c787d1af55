//! Packets of established flows.

use lb_common::{
    address::Protocol::{self, Tcp, Udp},
    path::Verdict::Transmit,
    wire::TcpFlags,
};

use crate::{
    fixture::{Case, check, check_after_removal},
    packet::{Packet, Transport, seal},
    setup::{Flow, Setup, dnat, dnat_reply, snat, snat_reply},
};

fn hit(name: &str, flow: &Flow, packet: &Packet) -> Case {
    Case::forwarded(name, packet, &flow.sent(packet), Transmit)
}

fn directions(protocol: Protocol) -> [(&'static str, Flow); 4] {
    [
        ("snat", snat(protocol)),
        ("snat reply", snat_reply(protocol)),
        ("dnat", dnat(protocol)),
        ("dnat reply", dnat_reply(protocol)),
    ]
}

fn in_every_direction(
    name: &str,
    protocol: Protocol,
    vary: impl Fn(Packet) -> Packet,
) -> Vec<Case> {
    let case = |(direction, flow): (&str, Flow)| {
        let name = format!("{protocol} {direction}: {name}");
        hit(&name, &flow, &vary(flow.packet()))
    };
    directions(protocol).map(case).to_vec()
}

/// The one packet that is written out: were builder and rewrite wrong alike, this would show.
#[test]
fn a_segment_from_the_wire() {
    let hex = |text: &str| -> Vec<u8> {
        let digits: String = text.split_whitespace().collect();
        let pairs = digits.as_bytes().as_chunks::<2>().0;
        let byte =
            |pair: &[u8; 2]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
        pairs.iter().map(byte).collect()
    };
    let input = hex("
        0200000000fe 020000000001 0800
        4500002a 00004000 40064e89 c6336407 c000020a
        9c400050 12345678 9abcdef0 50181000 cc310000 6869");
    let output = hex("
        020100000001 0200000000aa 0800
        4500002a 00004000 3f066fba c0000209 0a00000b
        4e211f90 12345678 9abcdef0 50181000 1b420000 6869");
    let described = snat(Tcp).packet().payload(b"hi");
    assert_eq!(input, described.bytes());
    let case = hit("from the wire", &snat(Tcp), &described);
    check(&Setup::ordinary(), &[Case { input, output, ..case }]);
}

#[test]
fn both_directions_of_both_modes() {
    let cases = [Tcp, Udp].map(|protocol| in_every_direction("hit", protocol, |packet| packet));
    check(&Setup::ordinary(), &cases.concat());
}

#[test]
fn flows_go_on_whose_service_and_addresses_are_gone() {
    let cases = [Tcp, Udp].map(|protocol| in_every_direction("hit", protocol, |packet| packet));
    check_after_removal(&Setup::ordinary(), &cases.concat());
}

#[test]
fn payloads_of_every_kind_of_length() {
    let mut cases = Vec::new();
    for length in [0, 1, 2, 3, 17, 255, 536, 1399, 1400] {
        let payload: Vec<u8> = (1..=255).cycle().take(length).collect();
        for protocol in [Tcp, Udp] {
            let name = format!("{length} bytes");
            cases.extend(in_every_direction(&name, protocol, |p| p.payload(&payload)));
        }
    }
    check(&Setup::ordinary(), &cases);
}

#[test]
fn short_frames_with_and_without_padding() {
    let smallest = snat(Udp).packet().payload(b"");
    assert_eq!(smallest.bytes().len(), 42);
    let padded = smallest.clone().padding(18);
    let segment = snat(Tcp).packet().payload(b"").padding(6);
    assert_eq!((padded.bytes().len(), segment.bytes().len()), (60, 60));
    let cases = [
        hit("the smallest datagram", &snat(Udp), &smallest),
        hit("the same as Ethernet has it", &snat(Udp), &padded),
        hit("an acknowledgement as Ethernet has it", &snat(Tcp), &segment),
    ];
    check(&Setup::ordinary(), &cases);
}

#[test]
fn a_datagram_without_checksum_gets_none() {
    let without = |packet| Packet { transport: Transport::UdpWithoutChecksum, ..packet };
    check(&Setup::ordinary(), &in_every_direction("no checksum", Udp, without));
}

/// RFC 768: a checksum that computes to zero is sent as all ones.
#[test]
fn a_checksum_that_becomes_zero_is_sent_as_all_ones() {
    let flow = snat(Udp);
    let checksum = |packet: &Packet| packet.bytes()[40..42].to_vec();
    let zero = flow.packet().payload(&[0, 0]);
    // The sum plus its own complement is all ones, of which the complement is zero.
    let becomes = zero.clone().payload(&checksum(&flow.sent(&zero)));
    assert_eq!(checksum(&flow.sent(&becomes)), [0xff, 0xff]);
    let was = zero.clone().payload(&checksum(&zero));
    assert_eq!(checksum(&was), [0xff, 0xff]);
    let cases = [hit("becomes zero", &flow, &becomes), hit("was zero", &flow, &was)];
    check(&Setup::ordinary(), &cases);
}

#[test]
fn a_tcp_checksum_may_be_zero() {
    let flow = snat(Tcp);
    let checksum = |packet: &Packet| packet.bytes()[50..52].to_vec();
    let zero = flow.packet().payload(&[0, 0]);
    let becomes = zero.clone().payload(&checksum(&flow.sent(&zero)));
    assert_eq!(checksum(&flow.sent(&becomes)), [0, 0]);
    check(&Setup::ordinary(), &[hit("becomes zero", &flow, &becomes)]);
}

#[test]
fn fin_and_rst_are_noted_where_they_passed() {
    let marks = [
        ("FIN", snat(Tcp), TcpFlags::FIN | TcpFlags::ACK),
        ("FIN of the server", snat_reply(Tcp), TcpFlags::FIN | TcpFlags::ACK),
        ("RST", dnat(Tcp), TcpFlags::RST),
        ("RST of the server", dnat_reply(Tcp), TcpFlags::RST | TcpFlags::ACK),
    ];
    let cases = marks.map(|(name, flow, flags)| hit(name, &flow, &flow.packet().flags(flags)));
    check(&Setup::ordinary(), &cases);
}

#[test]
fn the_servers_half_of_the_handshake_is_forwarded() {
    let flow = snat_reply(Tcp);
    let packet = flow.packet().flags(TcpFlags::SYN | TcpFlags::ACK).payload(b"");
    // RFC 9293 §3.5: both ends may open at once.
    let simultaneous = flow.packet().flags(TcpFlags::SYN).payload(b"");
    let cases = [hit("SYN-ACK", &flow, &packet), hit("SYN", &flow, &simultaneous)];
    check(&Setup::ordinary(), &cases);
}

#[test]
fn what_belongs_to_hosts_is_left_as_it_is() {
    // Type of service and identification.
    let flow = snat(Tcp);
    let change = |packet: &Packet| {
        let mut network = packet.network();
        network[1] = 0xb9;
        network[4..6].copy_from_slice(&[0xbe, 0xef]);
        seal(&mut network);
        network
    };
    let packet = flow.packet();
    let sent = flow.sent(&packet);
    let frame = |packet: &Packet| [&packet.bytes()[..14], &change(packet)[..]].concat();
    let case = hit("service and identification", &flow, &packet);
    check(&Setup::ordinary(), &[Case { input: frame(&packet), output: frame(&sent), ..case }]);
}
