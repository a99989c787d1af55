//! Packets without a flow.

use lb_common::{
    address::Protocol::{self, Tcp, Udp},
    event::Event,
    wire::TcpFlags,
};

use crate::{
    fixture::{Case, check},
    packet::{Packet, endpoints, framed, seal},
    setup::{
        CLIENT, DNAT_SERVER, FOREIGN, Flow, PORT, Place, SERVER, SNAT, Setup, VIP, dnat_reply, snat,
    },
};

fn packet(protocol: Protocol, from: ([u8; 4], u16), to: ([u8; 4], u16)) -> Packet {
    Packet::of(protocol, endpoints(from, to))
}

#[test]
fn first_packets_of_a_service_are_punted() {
    let mut cases = Vec::new();
    for protocol in [Tcp, Udp] {
        let first = packet(protocol, (CLIENT, 5), (VIP, PORT)).bytes();
        cases.push(Case::punt(format!("first {protocol}"), first, Event::PuntFirstPacket));
    }
    // Whether it may begin a flow is the worker's to say.
    for flags in [0, TcpFlags::SYN, TcpFlags::ACK, TcpFlags::RST, TcpFlags::FIN, 0xff] {
        let segment = packet(Tcp, (CLIENT, 5), (VIP, PORT)).flags(flags).bytes();
        cases.push(Case::punt(format!("flags {flags:x}"), segment, Event::PuntFirstPacket));
    }
    // RFC 791: the destination may have it though no hop follows.
    let last = packet(Udp, (CLIENT, 5), (VIP, PORT)).ttl(1).bytes();
    cases.push(Case::punt("no hop left", last, Event::PuntFirstPacket));
    check(&Setup::ordinary(), &cases);
}

#[test]
fn what_is_not_ours_is_passed() {
    let pass = |name: &str, packet: &Packet| Case::pass(name, packet.bytes(), Event::PassNotOurs);
    let cases = [
        pass("other port of a service's address", &packet(Tcp, (CLIENT, 5), (VIP, 22))),
        pass("other host", &packet(Udp, (CLIENT, 5), (FOREIGN, PORT))),
        pass("SNAT address without a flow", &packet(Udp, (SERVER, 53), (SNAT, 9))),
        pass("a dnat server's own traffic", &packet(Tcp, (DNAT_SERVER, 5), (FOREIGN, 443))),
        pass("from a service's address", &packet(Tcp, (VIP, PORT), (CLIENT, 5))),
    ];
    check(&Setup::ordinary(), &cases);
}

/// The address filter comes before all but the first bucket.
#[test]
fn between_addresses_that_are_not_ours_only_one_bucket_is_looked_at() {
    let from = endpoints((CLIENT, 5), (FOREIGN, PORT));
    let elsewhere = Flow { from, place: Place::Second, ..snat(Tcp) };
    let packet = elsewhere.packet().bytes();
    check(&Setup::new([elsewhere]), &[Case::pass("a flow", packet, Event::PassNotOurs)]);
}

/// A flow's key is all of it: one part changed, and it is another flow.
#[test]
fn a_near_miss_is_a_miss() {
    let flow = snat(Tcp);
    let reversed = Packet { endpoints: flow.from.reversed(), ..flow.packet() };
    let first =
        |name: &str, packet: &Packet| Case::punt(name, packet.bytes(), Event::PuntFirstPacket);
    let cases = [
        first("other source port", &packet(Tcp, (CLIENT, 40_002), (VIP, PORT))),
        first("other source", &packet(Tcp, (FOREIGN, 40_000), (VIP, PORT))),
        first("other protocol", &packet(Udp, (CLIENT, 40_000), (VIP, PORT))),
        Case::pass("other way round", reversed.bytes(), Event::PassNotOurs),
        Case::pass(
            "other destination port",
            packet(Tcp, (CLIENT, 40_000), (VIP, PORT + 1)).bytes(),
            Event::PassNotOurs,
        ),
    ];
    check(&Setup::new([flow, dnat_reply(Tcp)]), &cases);
}

#[test]
fn what_is_not_ipv4_is_passed() {
    let ethertype = |number: u16, rest: &[u8]| {
        let mut frame = framed(rest);
        frame[12..14].copy_from_slice(&number.to_be_bytes());
        frame
    };
    let network = snat(Tcp).packet().network();
    let cases = [
        ("nothing but Ethernet", framed(&[])),
        ("ARP", ethertype(0x0806, &[0; 46])),
        ("IPv6", ethertype(0x86dd, &network)),
        ("802.3 length", ethertype(0x0026, &network)),
    ];
    let cases = cases.map(|(name, frame)| Case::pass(name, frame, Event::PassNotIpv4));
    check(&Setup::ordinary(), &cases);
}

#[test]
fn other_protocols_to_a_service_are_passed() {
    let mut cases = Vec::new();
    for protocol in (0..=255).filter(|number| ![6, 17].contains(number)) {
        let mut network = snat(Tcp).packet().network();
        network[9] = protocol;
        seal(&mut network);
        let name = format!("protocol {protocol}");
        cases.push(Case::pass(name, framed(&network), Event::PassNotOurs));
    }
    check(&Setup::ordinary(), &cases);
}
