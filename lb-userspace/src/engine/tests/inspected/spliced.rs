//! Spliced connections: what the program leaves to workers of them.

use etherparse::{TcpHeader, TcpOptionElement};

use super::*;
use crate::engine::inspect::segment::Flags as SegmentFlags;
use lb_common::tcp::options::SynOptions;

const IRREGULAR: Verdict = Verdict::Punt(Event::PuntIrregular);
const OPTIONS: Verdict = Verdict::Punt(Event::PuntOptions);

/// A message's packet with these TCP options.
fn with_options(message: &Message, options: &[TcpOptionElement]) -> Vec<u8> {
    let packet = message.packet();
    let (mut header, segment) = etherparse::Ipv4Header::from_slice(&packet).unwrap();
    let (mut tcp, payload) = TcpHeader::from_slice(segment).unwrap();
    tcp.set_options(options).unwrap();
    tcp.checksum = tcp.calc_checksum_ipv4(&header, payload).unwrap();
    header.set_payload_len(tcp.header_len() + payload.len()).unwrap();
    header.header_checksum = header.calc_header_checksum();
    [&header.to_bytes()[..], &tcp.to_bytes(), payload].concat()
}

fn options_of(packet: &[u8]) -> Vec<TcpOptionElement> {
    let (_, segment) = etherparse::Ipv4Header::from_slice(packet).unwrap();
    let (tcp, _) = TcpHeader::from_slice(segment).unwrap();
    tcp.options_iterator()
        .filter_map(Result::ok)
        .filter(|it| *it != TcpOptionElement::Noop)
        .collect()
}

fn window_of(packet: &[u8]) -> u16 {
    let (_, segment) = etherparse::Ipv4Header::from_slice(packet).unwrap();
    TcpHeader::from_slice(segment).unwrap().0.window_size
}

#[test]
fn packets_with_ip_options_are_translated_by_a_worker() {
    let mut world = inspecting(FOUR).world();
    let connection = spliced(&mut world, 1);
    let optional = |message| Message { options: vec![7, 4, 4, 0], ..message };
    let more = optional(connection.client(ACK, 4, 3, b"more"));
    let sent = world.send(&more, IRREGULAR, &[]).to(hop(11));
    assert_eq!(numbers(&sent), (ACK, C.wrapping_add(5), S.wrapping_add(4)));
    assert_eq!((sent.from, &sent.options[..]), (connection.snat, &[7, 4, 4, 0][..]));
    let answer = optional(connection.server(ACK, 3, 8, b"answer"));
    let sent = world.send(&answer, IRREGULAR, &[]).to(ROUTER);
    assert_eq!(numbers(&sent).1, connection.cookie.wrapping_add(4));
}

#[test]
fn fragments_are_translated_by_a_worker_and_reach_it_while_they_are_inspected() {
    let mut world = inspecting(FOUR).world();
    let connection = shake(&mut world, 1);
    let first = connection.client(ACK, 0, 0, b"GET and much more").fragments(24);
    world.send_by(link_from(ROUTER), &first[1], IRREGULAR, &[]).nothing();
    let step = world.send_by(link_from(ROUTER), &first[0], IRREGULAR, &[]);
    let connection = asked(connection, &step);
    world.send(&connection.syn_ack(), INSPECTED, &[]);
    world.send(&connection.server(ACK, 0, 17, b""), INSPECTED, &[]).to(ROUTER);
    let more = connection.client(ACK, 17, 9, &[b'm'; 2000]).fragments(1480);
    world.send_by(link_from(ROUTER), &more[1], IRREGULAR, &[]).nothing();
    let step = world.send_by(link_from(ROUTER), &more[0], IRREGULAR, &[]);
    let packets: Vec<_> = step.sent.iter().map(|(_, packet)| packet.clone()).collect();
    let sent = reassemble(&packets);
    assert_eq!(numbers(&sent), (ACK, C.wrapping_add(18), S.wrapping_add(10)));
    assert_eq!((sent.from, sent.payload.len()), (connection.snat, 2000));
}

#[test]
fn options_that_the_program_does_not_know_are_a_workers() {
    use TcpOptionElement::{SelectiveAcknowledgement, Timestamp};
    let mut world = inspecting(FOUR).world();
    let connection = spliced(&mut world, 1);
    let at = |number: u32| connection.cookie.wrapping_add(1).wrapping_add(number);
    let sack = SelectiveAcknowledgement((at(10), at(20)), [None; 3]);
    let message = connection.client(ACK, 4, 0, b"x");
    let theirs = |number: u32| S.wrapping_add(1).wrapping_add(number);
    let translated = SelectiveAcknowledgement((theirs(10), theirs(20)), [None; 3]);
    let cases = [
        (vec![Timestamp(1, 2)], vec![Timestamp(1, 2)]),
        (vec![sack.clone(), Timestamp(1, 2)], vec![translated, Timestamp(1, 2)]),
    ];
    for (options, expected) in cases {
        let packet = with_options(&message, &options);
        let step = world.send_by(link_from(ROUTER), &packet, OPTIONS, &[]);
        assert_eq!(numbers(&step.to(hop(11))), (ACK, C.wrapping_add(5), S.wrapping_add(1)));
        assert_eq!(options_of(&step.sent[0].1), expected);
    }
}

/// The client has offered scales and selective acknowledgements, the server takes no scale: windows
/// change their unit on the way.
#[test]
fn what_was_agreed_on_in_both_handshakes_is_kept() {
    let mut world = inspecting(FOUR).world();
    let ends = {
        let packet = tcp(client(1), web(), SYN).packet();
        Packet::new(Network::new(&packet).unwrap()).unwrap().endpoints
    };
    let options = SynOptions { mss: Some(1460), window_scale: Some(3), sack_permitted: true };
    let sequence = inspect::SequenceNumber(C);
    let syn = inspect::Outgoing {
        sequence,
        flags: SegmentFlags::SYN,
        window: 1000,
        options,
        ..inspect::Outgoing::default()
    };
    let mut packet = Vec::new();
    syn.write(&ends, &[], &mut packet);
    let step = world.send_by(link_from(ROUTER), &packet, COOKIE_GIVEN, &[]);
    let cookie = numbers(&step.to(ROUTER)).1;
    let connection = Connection { port: 1, cookie, snat: snat(0), host: 11 };
    let step = world.send(&connection.client(ACK, 0, 0, b"GET "), COOKIE, &[]);
    use TcpOptionElement::{MaximumSegmentSize, SelectiveAcknowledgementPermitted, WindowScale};
    let mut offered = options_of(&step.sent[0].1);
    offered.sort_by_key(|option| format!("{option:?}"));
    let expected = [MaximumSegmentSize(1460), SelectiveAcknowledgementPermitted, WindowScale(3)];
    assert_eq!(offered, expected);
    let connection = asked(connection, &step);
    let size = [MaximumSegmentSize(1000)];
    let syn_ack = with_options(&connection.syn_ack(), &size);
    world.send_by(link_from(hop(11)), &syn_ack, INSPECTED, &[]);
    world.send(&connection.server(ACK, 0, 4, b""), INSPECTED, &[]).to(ROUTER);
    // 8,192 bytes: in units of 128 to the client, of eight from it.
    let step = world.passes(&connection.server(ACK, 0, 4, b""));
    assert_eq!(window_of(&step.sent[0].1), 64);
    let step = world.passes(&connection.client(ACK, 4, 0, b""));
    assert_eq!(window_of(&step.sent[0].1), u16::MAX, "65,536 bytes do not fit the field");
}

#[test]
fn a_daemon_that_comes_after_keeps_what_is_spliced_and_frees_what_is_inspected() {
    let instance = "snat_ports = \"1024-1043\"";
    let mut world = Setup { instance, ..inspecting(FOUR) }.world();
    let kept = spliced(&mut world, 1);
    shake(&mut world, 2);
    opening(&mut world, 3);
    delivering(&mut world, 4);
    assert_eq!((world.gauge().0, world.slots()), (4, (7, 0)));
    let (mut world, dealt) = adoption::restart(world, 2, crate::pool::ServerStates::default());
    assert_eq!((dealt.iter().sum::<usize>(), world.slots()), (1, (2, 0)));
    assert_eq!((world.gauge(), world.snat_ports().0), ((1, 1), 1));
    let answer = world.passes(&kept.server(ACK, 0, 4, b"200")).to(ROUTER);
    assert_eq!(numbers(&answer).1, kept.cookie.wrapping_add(1));
    let more = world.passes(&kept.client(ACK, 4, 3, b"more")).to(hop(11));
    assert_eq!(numbers(&more), (ACK, C.wrapping_add(5), S.wrapping_add(4)));
    world.wait(ROUND).nothing();
    assert_eq!(world.gauge(), (1, 0));
    // Of the others nobody knows anything any more.
    let lost = Connection { port: 2, ..kept }.client(ACK, 4, 0, b"x");
    world.send(&lost, Verdict::Answer(Event::AnswerReset), &[]).to(ROUTER);
}

#[test]
fn a_server_that_goes_takes_its_spliced_connections_with_it() {
    let mut world = inspecting(FOUR).world();
    spliced(&mut world, 1);
    world.wait(ROUND).nothing();
    let pool = world.generation.pools.find("web").unwrap();
    let number = world.generation.server_number(pool, crate::config::ServerIndex(0));
    world.shared.servers.set_gone(number, true);
    world.time += ROUND;
    assert_eq!(world.tick().sent.len(), 2, "both are made to speak");
    let step = world.wait(ROUND);
    assert_eq!(step.log[0].reason, EndReason::ServerGone);
}
