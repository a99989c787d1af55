//! ICMP errors about connections that are inspected, or were.

use super::*;

const ICMP: Verdict = Verdict::Punt(Event::PuntIcmpError);

/// An error with this code of *destination unreachable*, and the word behind its checksum.
fn unreachable(code: u8, word: u32, quoted: &Message) -> Vec<u8> {
    let quoted = quoted.packet();
    let mut icmp = vec![3, code, 0, 0];
    icmp.extend_from_slice(&word.to_be_bytes());
    icmp.extend_from_slice(&quoted[..28]);
    let checksum = lb_common::checksum::Sum::default().bytes(&icmp).checksum();
    icmp[2..4].copy_from_slice(&checksum);
    let mut packet = Vec::new();
    let to = quoted[12..16].try_into().unwrap();
    let header = etherparse::PacketBuilder::ipv4([10, 0, 9, 9], to, 64);
    header.write(&mut packet, etherparse::IpNumber::ICMP, &icmp).unwrap();
    packet
}

fn from_servers_side(world: &mut World, packet: &[u8]) -> Step {
    world.send_by(link_from(hop(11)), packet, ICMP, &[])
}

fn syn_of(connection: &Connection) -> Message {
    let transport = Transport::Tcp { flags: SYN, sequence: C, acknowledgement: 0 };
    Message { transport, ..tcp(connection.snat, server(connection.host, 8080), SYN) }
}

#[test]
fn a_server_that_cannot_be_reached_is_followed_by_the_next() {
    let mut world = Setup { pools: TWO, ..inspecting(FOUR) }.world();
    let first = opening(&mut world, 1);
    // Somebody who has not seen the SYN does not know its number.
    let transport = Transport::Tcp { flags: SYN, sequence: 1, acknowledgement: 0 };
    let guessed = Message { transport, ..syn_of(&first) };
    from_servers_side(&mut world, &unreachable(1, 0, &guessed)).nothing();
    let step = from_servers_side(&mut world, &unreachable(1, 0, &syn_of(&first)));
    let [reset, syn] = &step.messages()[..] else { panic!("{step:?}") };
    assert_eq!((numbers(reset).0, reset.to), (RST, server(11, 8080)));
    assert_eq!((numbers(syn), syn.to), ((SYN, C, 0), server(12, 8080)));
}

#[test]
fn what_is_too_big_for_a_link_to_the_server_is_sent_in_smaller_pieces() {
    let mut world = inspecting("avi.l4.collect(1200)").world();
    let connection = shake(&mut world, 1);
    let step = world.send(&connection.client(ACK, 0, 0, &[b'x'; 1200]), INSPECTED, &[]);
    let syn = step.messages().into_iter().find(|sent| numbers(sent).0 == SYN).unwrap();
    let connection = Connection { snat: syn.from, ..connection };
    let size = 1460u16.to_be_bytes();
    let mut packet = connection.syn_ack().packet();
    // With a segment size: else it were 536 bytes.
    packet.extend_from_slice(&[2, 4, size[0], size[1]]);
    packet[2..4].copy_from_slice(&44u16.to_be_bytes());
    packet[32] = 6 << 4;
    let (mut header, segment) = etherparse::Ipv4Header::from_slice(&packet).unwrap();
    let (mut tcp, _) = etherparse::TcpHeader::from_slice(segment).unwrap();
    header.header_checksum = header.calc_header_checksum();
    tcp.checksum = tcp.calc_checksum_ipv4(&header, &[]).unwrap();
    let packet = [&header.to_bytes()[..], &tcp.to_bytes()].concat();
    let step = world.send_by(link_from(hop(11)), &packet, INSPECTED, &[]);
    let lengths = |step: &Step| {
        let to_server = step.sent.iter().filter(|(link, _)| *link == link_to(hop(11)));
        to_server.map(|(_, packet)| packet.len()).collect::<Vec<_>>()
    };
    // A client that names no size takes 536 bytes, and a cookie says so to the server.
    assert_eq!(lengths(&step).iter().map(|length| length - 40).sum::<usize>(), 1200);
    let longest = step.messages().pop().unwrap();
    let quoted = connection.client(ACK, 0, 0, b"");
    let quoted = Message { from: longest.from, to: longest.to, ..quoted };
    let step = from_servers_side(&mut world, &unreachable(4, 400, &quoted));
    assert!(!step.sent.is_empty());
    assert!(lengths(&step).iter().all(|length| *length <= 400), "{:?}", lengths(&step));
}

#[test]
fn an_error_about_what_the_client_was_sent_changes_nothing() {
    let mut world = inspecting(FOUR).world();
    let connection = shake(&mut world, 1);
    let ours = Transport::Tcp { flags: ACK, sequence: connection.cookie, acknowledgement: 0 };
    let quoted = Message { transport: ours, ..tcp(web(), client(1), ACK) };
    let packet = unreachable(1, 0, &quoted);
    world.send_by(link_from(ROUTER), &packet, ICMP, &[]).nothing();
    assert_eq!(inspections(&world), 1);
}

/// Whoever gets the error knows the number that it has sent.
#[test]
fn errors_about_spliced_connections_quote_numbers_as_their_sender_knows_them() {
    let mut world = inspecting(FOUR).world();
    let connection = spliced(&mut world, 1);
    let sent = world.passes(&connection.server(ACK, 0, 4, b"answer")).to(ROUTER);
    let step = world.send_by(link_from(ROUTER), &unreachable(4, 1280, &sent), ICMP, &[]);
    assert_eq!(step.sent[0].0, link_to(hop(11)));
    let (_, to, quoted) = read_icmp_error(&step.sent[0].1);
    assert_eq!((to, &quoted[24..28]), ([10, 0, 0, 11], &S.wrapping_add(1).to_be_bytes()[..]));

    let sent = world.passes(&connection.client(ACK, 4, 6, b"more")).to(hop(11));
    let step = from_servers_side(&mut world, &unreachable(4, 1280, &sent));
    assert_eq!(step.sent[0].0, link_to(ROUTER));
    let (_, to, quoted) = read_icmp_error(&step.sent[0].1);
    assert_eq!((to, &quoted[24..28]), ([198, 51, 100, 7], &C.wrapping_add(5).to_be_bytes()[..]));
}
