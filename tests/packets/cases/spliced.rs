//! Packets of inspected connections, before and after they were spliced.

use lb_common::{
    address::Protocol::Tcp,
    event::Event,
    flow::Flags,
    path::Verdict::Transmit,
    splice::{ClientScales, Handshakes, Sender, Splice},
    wire::TcpFlags,
};

use crate::{
    fixture::{Case, check},
    packet::{Packet, Tcp as Numbers},
    setup::{Flow, Setup, VLAN_100, dnat, dnat_reply, snat, snat_reply},
};

/// The server's numbers are those that the client knows and this, which takes most over the end.
const DELTA: u32 = 0x8000_0000;
/// Windows of the server go to the right by so many bits.
const RIGHT: u32 = 7;

fn splice(sender: Sender) -> Splice {
    let handshakes = Handshakes {
        cookie: 0xffff_0000,
        server: 0x7fff_0000,
        client_scales: Some(ClientScales { its_own: 2, ours: 7 }),
        server_scale: Some(0),
    };
    handshakes.splice(sender)
}

/// Directions, and who sends.
fn directions() -> [(&'static str, Flow, Sender); 4] {
    let directions = [
        ("snat", snat(Tcp), Sender::Client),
        ("snat reply", snat_reply(Tcp).by(VLAN_100), Sender::Server),
        ("dnat", dnat(Tcp).by(VLAN_100), Sender::Client),
        ("dnat reply", dnat_reply(Tcp), Sender::Server),
    ];
    directions.map(|(name, flow, sender)| (name, flow.spliced(splice(sender)), sender))
}

fn setup() -> Setup {
    Setup::new(directions().map(|(_, flow, _)| flow))
}

/// As it leaves, with what is translated.
fn sent(flow: &Flow, packet: &Packet, translated: Numbers) -> Packet {
    let sent = flow.sent(packet).numbered(translated);
    if flow.next_hop == VLAN_100 { sent.tag(packet.tag.unwrap_or(0) & 0xf000 | 100) } else { sent }
}

/// The numbers of a segment without options after the splice.
fn translated(sender: Sender, numbers: &Numbers) -> Numbers {
    let Numbers { sequence, acknowledgement, window, ref options } = *numbers;
    let options = options.clone();
    match sender {
        Sender::Client => {
            let acknowledgement = acknowledgement.wrapping_add(DELTA);
            Numbers { sequence, acknowledgement, window, options }
        }
        Sender::Server => {
            let sequence = sequence.wrapping_sub(DELTA);
            Numbers { sequence, acknowledgement, window: window >> RIGHT, options }
        }
    }
}

#[test]
fn numbers_and_windows_are_translated_in_every_direction() {
    let mut cases = Vec::new();
    for (name, flow, sender) in directions() {
        for (kind, packet) in [
            ("data", flow.packet()),
            ("data of an odd length", flow.packet().payload(b"abc")),
            ("FIN", flow.packet().flags(TcpFlags::FIN | TcpFlags::ACK)),
            ("an acknowledgement", flow.packet().payload(b"").flags(TcpFlags::ACK)),
            ("padded", flow.packet().payload(b"").flags(TcpFlags::ACK).padding(6)),
            ("tagged", flow.packet().tag(0xa000 | 200)),
        ] {
            let out = sent(&flow, &packet, translated(sender, &packet.tcp));
            cases.push(Case::forwarded(&format!("{name}: {kind}"), &packet, &out, Transmit));
        }
    }
    check(&setup(), &cases);
}

#[test]
fn an_open_window_stays_open_and_a_closed_one_closed() {
    let (_, flow, _) = &directions()[3];
    let cases = [(0, 0), (1, 1), (127, 1), (128, 1), (256, 2), (65_535, 511)].map(|(told, is)| {
        let numbers = Numbers { window: told, ..flow.packet().tcp };
        let packet = flow.packet().numbered(numbers);
        let out = Numbers { window: is, ..translated(Sender::Server, &packet.tcp) };
        let out = sent(flow, &packet, out);
        Case::forwarded(&format!("{told} becomes {is}"), &packet, &out, Transmit)
    });
    check(&setup(), &cases);
}

#[test]
fn a_window_too_large_for_its_field_is_cut_and_none_in_a_syn_is_scaled() {
    let splice = Splice { sender: Sender::Server, delta: 5, shift: 4 };
    let flow = snat_reply(Tcp).spliced(splice);
    let case = |name, flags, told, is| {
        let numbers = Numbers { window: told, ..flow.packet().tcp };
        let packet = flow.packet().flags(flags).numbered(numbers.clone());
        let sequence = numbers.sequence + 5;
        let out = flow.sent(&packet).numbered(Numbers { window: is, sequence, ..numbers });
        Case::forwarded(name, &packet, &out, Transmit)
    };
    let cases = [
        case("fits", TcpFlags::ACK, 4095, 65_520),
        case("is cut", TcpFlags::ACK, 4096, 65_535),
        case("a late SYN-ACK", TcpFlags::SYN | TcpFlags::ACK, 4095, 4095),
    ];
    check(&Setup::new([flow]), &cases);
}

#[test]
fn an_acknowledgement_that_does_not_count_stays() {
    let (_, flow, _) = &directions()[0];
    let packet = flow.packet().flags(TcpFlags::RST);
    let out = flow.sent(&packet);
    check(&setup(), &[Case::forwarded("RST", &packet, &out, Transmit)]);
}

/// So many blocks, whose edges are these numbers and this.
fn blocks(count: u32, plus: u32) -> Vec<u8> {
    let edges = (0..2 * count).flat_map(|n| (0x7fff_fff0 + 9 * n).wrapping_add(plus).to_be_bytes());
    [5, 2 + 8 * count as u8].into_iter().chain(edges).collect()
}

#[test]
fn a_clients_sack_blocks_are_translated() {
    let mut cases = Vec::new();
    for (name, flow, sender) in directions() {
        for count in 1..=4 {
            let with = |plus| [vec![1, 1], blocks(count, plus)].concat();
            let packet = flow.packet().payload(b"").flags(TcpFlags::ACK);
            let numbers = Numbers { options: with(0), ..packet.tcp.clone() };
            for packet in [packet.clone(), packet.tag(9), flow.packet().payload(b"odd")] {
                let packet = packet.numbered(numbers.clone());
                let own = if sender == Sender::Client { DELTA } else { 0 };
                let out = Numbers { options: with(own), ..translated(sender, &numbers) };
                let out = sent(&flow, &packet, out);
                let name = format!("{name}: {count} blocks, {} bytes", packet.payload.len());
                cases.push(Case::forwarded(&name, &packet, &out, Transmit));
            }
        }
    }
    check(&setup(), &cases);
}

#[test]
fn other_options_of_a_client_are_the_workers_to_look_at() {
    let (_, flow, _) = &directions()[0];
    let (_, reply, _) = &directions()[3];
    let options = [
        ("SACK before NOPs", [blocks(1, 0), vec![1, 1]].concat()),
        ("SACK at an odd place", [vec![1], blocks(1, 0), vec![1]].concat()),
        ("NOPs alone", vec![1; 4]),
        ("timestamps", [&[1, 1, 8, 10][..], &[7; 8]].concat()),
        ("a length that lies", [&[1, 1, 5, 18][..], &[7; 8]].concat()),
    ];
    let mut cases = Vec::new();
    for (name, options) in options {
        let numbers = Numbers { options, ..flow.packet().tcp };
        let packet = flow.packet().numbered(numbers.clone());
        cases.push(Case::punt(name, packet.bytes(), Event::PuntOptions));
        // Nothing in a server's options is translated.
        let packet = reply.packet().numbered(numbers);
        let out = sent(reply, &packet, translated(Sender::Server, &packet.tcp));
        cases.push(Case::forwarded(&format!("{name}, of a server"), &packet, &out, Transmit));
    }
    let mut short = flow.packet().bytes();
    short[46] = 4 << 4;
    cases.push(Case::punt("a header too short", short.clone(), Event::PuntOptions));
    // Reaches into the padding behind the packet.
    let numbers = Numbers { options: [vec![1, 1], blocks(1, 0)].concat(), ..flow.packet().tcp };
    let mut beyond = flow.packet().payload(b"").numbered(numbers).padding(8).bytes();
    beyond[17] -= 4;
    cases.push(Case::punt("a header beyond its packet", beyond, Event::PuntOptions));
    check(&setup(), &cases);
}

#[test]
fn what_is_inspected_is_the_workers_whatever_it_is() {
    let inspected = |flow: Flow, more: Flags| {
        let flags = flow.flags.and(Flags::INSPECTED).and(more);
        flow.flags(flags)
    };
    let none = Flags::default();
    let (snat, reply) = (inspected(snat(Tcp), none), inspected(snat_reply(Tcp), none));
    let response = inspected(dnat_reply(Tcp), Flags::PUNT_RESPONSE);
    let closed = inspected(dnat(Tcp), Flags::CLOSED);
    let punt = |name, packet: Packet| Case::punt(name, packet.bytes(), Event::PuntInspected);
    let cases = [
        punt("data", snat.packet()),
        punt("a SYN", snat.packet().flags(TcpFlags::SYN)),
        punt("a RST", snat.packet().flags(TcpFlags::RST)),
        punt("to expire", snat.packet().ttl(1)),
        punt("SYN-ACK", reply.packet().flags(TcpFlags::SYN | TcpFlags::ACK)),
        punt("for a script of responses", response.packet()),
        Case::drop("closed", closed.packet().bytes(), Event::DropClosed),
    ];
    check(&Setup::new([snat, reply, response, closed]), &cases);
}

#[test]
fn of_a_spliced_flow_a_syn_of_the_client_is_the_workers() {
    let (_, flow, _) = &directions()[0];
    let syn = flow.packet().flags(TcpFlags::SYN).payload(b"");
    check(&setup(), &[Case::punt("SYN", syn.bytes(), Event::PuntSyn)]);
}
