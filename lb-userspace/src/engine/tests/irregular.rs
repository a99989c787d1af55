//! What the program leaves to workers: options, fragments, ICMP errors; and VLAN tags.

use lb_common::{next_hop::NextHop, path::Verdict};

use super::{frames::*, world::*, *};

const IRREGULAR: Verdict = Verdict::Punt(Event::PuntIrregular);
const ICMP: Verdict = Verdict::Punt(Event::PuntIcmpError);

fn packets(step: &Step) -> Vec<Vec<u8>> {
    step.sent.iter().map(|(_, packet)| packet.clone()).collect()
}

#[test]
fn packets_with_ip_options_are_decided_and_forwarded_with_them() {
    let mut world = Setup::default().world();
    let optional = |message| Message { options: vec![7, 7, 4, 0, 0, 0, 0, 0], ..message };
    let syn = optional(tcp(client(1), web(), SYN));
    let expected = syn.between(snat(1024), server(11, 8080));
    assert_eq!(world.send(&syn, IRREGULAR, &[]).to(hop(11)), expected);
    let answer = optional(tcp(server(11, 8080), snat(1024), SYN | ACK));
    let expected = answer.between(web(), client(1));
    assert_eq!(world.send(&answer, IRREGULAR, &[]).to(ROUTER), expected);
    world.passes(&tcp(client(1), web(), ACK)).to(hop(11));
}

/// A datagram in three fragments, and a script that logs the length of what it reads.
fn fragmented() -> (World, Message, Vec<Vec<u8>>) {
    let request = "avi.vs.log(#avi.l4.read())";
    let world = Setup { request, ..Setup::default() }.world();
    let datagram = udp(client(1), dns(), &[b'q'; 2501]);
    let fragments = datagram.fragments(1000);
    assert_eq!(fragments.len(), 3);
    (world, datagram, fragments)
}

#[test]
fn a_datagram_in_fragments_is_decided_whole_and_sent_on_in_fragments() {
    let (mut world, datagram, fragments) = fragmented();
    let link = link_from(ROUTER);
    for (last, order) in [[1, 2, 0], [0, 2, 1]].iter().enumerate() {
        world.send_by(link, &fragments[order[0]], IRREGULAR, &[]).nothing();
        world.send_by(link, &fragments[order[1]], IRREGULAR, &[]).nothing();
        let step = world.send_by(link, &fragments[order[2]], IRREGULAR, &[]);
        assert!(step.sent.iter().all(|(link, _)| *link == link_to(hop(21))), "round {last}");
        let sizes: Vec<_> = step.sent.iter().map(|(_, packet)| packet.len()).collect();
        assert_eq!(sizes, [1020, 1020, 529]);
        let expected = datagram.between(snat(1024), server(21, 53));
        assert_eq!(reassemble(&packets(&step)), expected);
    }
    let step = world.wait(11 * SECOND);
    let ended = step.ended();
    assert_eq!((&*ended.ds_log, ended.packets), ("2501", 6));
    assert_eq!(ended.bytes, 2 * (1020 + 1020 + 529 + 3 * 14), "whole frames");
}

#[test]
fn an_answer_in_fragments_finds_its_client() {
    let mut world = Setup::default().world();
    world.begin(&udp(client(1), dns(), b"?")).to(hop(21));
    let answer = udp(server(21, 53), snat(1024), &[b'a'; 3000]);
    let fragments = answer.fragments(1480);
    let link = link_from(hop(21));
    for fragment in &fragments[..2] {
        world.send_by(link, fragment, IRREGULAR, &[]).nothing();
    }
    let step = world.send_by(link, &fragments[2], IRREGULAR, &[]);
    assert_eq!(reassemble(&packets(&step)), answer.between(dns(), client(1)));
}

#[test]
fn a_segment_in_fragments_keeps_its_checksum() {
    let mut world = Setup::default().world();
    world.begin(&tcp(client(1), web(), SYN)).to(hop(11));
    let segment = tcp(client(1), web(), ACK).with_payload(&[b'd'; 2000]);
    let fragments = segment.fragments(1480);
    let link = link_from(ROUTER);
    world.send_by(link, &fragments[1], IRREGULAR, &[]).nothing();
    let step = world.send_by(link, &fragments[0], IRREGULAR, &[]);
    assert_eq!(reassemble(&packets(&step)), segment.between(snat(1024), server(11, 8080)));
}

/// RFC 1858 §3: a transport header cut in two serves only to slip past filters. Its checksum may
/// stand in the second fragment, where none would be looked for.
#[test]
fn a_transport_header_that_is_cut_in_two_is_dropped() {
    let mut world = Setup::default().world();
    let fragments = tcp(client(1), web(), SYN).fragments(8);
    let link = link_from(ROUTER);
    world.send_by(link, &fragments[0], IRREGULAR, &[]).nothing();
    world.send_by(link, &fragments[1], IRREGULAR, &[]).nothing();
    world.send_by(link, &fragments[2], IRREGULAR, &[Event::DropFragment; 3]).nothing();
    assert_eq!(world.slots(), (0, 0));
}

#[test]
fn fragments_of_a_client_that_nobody_knows_wait_and_leave_in_order() {
    let mut world = Setup::default().world();
    let datagram = udp(neighbour(1), dns(), &[b'q'; 2000]);
    let fragments = datagram.fragments(1000);
    let link = link_from(ROUTER);
    world.send_by(link, &fragments[0], IRREGULAR, &[]).nothing();
    world.send_by(link, &fragments[1], IRREGULAR, &[]).nothing();
    let step = world.send_by(link, &fragments[2], IRREGULAR, &[]);
    assert_eq!((step.sent.len(), step.resolve.len()), (0, 1));
    world.net.toward.insert(*neighbour(1).ip(), Toward::Known(NextHopId(7)));
    let step = world.wait(SECOND);
    assert_eq!(reassemble(&packets(&step)), datagram.between(snat(1024), server(21, 53)));
}

#[test]
fn fragments_that_never_become_whole_are_dropped_and_counted() {
    let (mut world, _, fragments) = fragmented();
    let link = link_from(ROUTER);
    world.send_by(link, &fragments[0], IRREGULAR, &[]).nothing();
    world.send_by(link, &fragments[2], IRREGULAR, &[]).nothing();
    world.wait(4 * SECOND).nothing();
    world.wait_counting(SECOND, &[Event::DropFragment; 2]).nothing();
    world.send_by(link, &fragments[1], IRREGULAR, &[]).nothing();
}

#[test]
fn fragments_that_contradict_each_other_are_dropped_and_counted() {
    let (mut world, _, fragments) = fragmented();
    let link = link_from(ROUTER);
    let other = udp(client(1), dns(), &[b'z'; 2501]).fragments(1000);
    world.send_by(link, &fragments[0], IRREGULAR, &[]).nothing();
    world.send_by(link, &other[0], IRREGULAR, &[Event::DropFragment; 2]).nothing();
}

/// A router on the servers' side, or one on the clients'.
const ROUTER_THERE: [u8; 4] = [10, 0, 9, 9];
const ROUTER_HERE: [u8; 4] = [198, 51, 100, 254];

#[test]
fn an_icmp_error_from_the_servers_side_reaches_the_client_about_its_own_packet() {
    let mut world = Setup::default().world();
    let query = udp(client(1), dns(), b"?");
    let sent = world.begin(&query).to(hop(21));
    for ttl in [0, 1, 63] {
        let quoted = Message { ttl, ..sent.clone() }.packet();
        let error = icmp_error(ROUTER_THERE, [192, 0, 2, 9], &quoted);
        let step = world.send_by(link_from(hop(21)), &error, ICMP, &[]);
        assert_eq!(step.sent[0].0, link_to(ROUTER));
        let (from, to, quoted) = read_icmp_error(&step.sent[0].1);
        assert_eq!((from, to), ([192, 0, 2, 10], [198, 51, 100, 7]), "servers do not show");
        let expected = Message { ttl, ..query.clone() }.packet();
        assert_eq!(quoted, expected[..28]);
    }
}

#[test]
fn an_icmp_error_from_the_clients_side_reaches_the_server_about_its_own_packet() {
    let mut world = Setup::default().world();
    world.begin(&udp(client(1), dns(), b"?")).to(hop(21));
    let answer = udp(server(21, 53), snat(1024), b"!");
    let sent = world.passes(&answer).to(ROUTER);
    let error = icmp_error(ROUTER_HERE, [192, 0, 2, 10], &sent.packet());
    let step = world.send_by(link_from(ROUTER), &error, ICMP, &[]);
    assert_eq!(step.sent[0].0, link_to(hop(21)));
    let (from, to, quoted) = read_icmp_error(&step.sent[0].1);
    assert_eq!((from, to), ([192, 0, 2, 9], [10, 0, 0, 21]));
    assert_eq!(quoted, Message { ttl: 63, ..answer }.packet()[..28]);
}

#[test]
fn in_dnat_mode_the_server_sees_which_router_reports() {
    let pools = Setup::default().pools.replace("servers", "forwarding = \"dnat\"\nservers");
    let mut world = Setup { pools: &pools, ..Setup::default() }.world();
    world.begin(&udp(client(1), dns(), b"?")).to(hop(21));
    let answer = udp(server(21, 53), client(1), b"!");
    let sent = world.passes(&answer).to(ROUTER);
    let error = icmp_error(ROUTER_HERE, [192, 0, 2, 10], &sent.packet());
    let step = world.send_by(link_from(ROUTER), &error, ICMP, &[]);
    let (from, to, _) = read_icmp_error(&step.sent[0].1);
    assert_eq!((from, to), (ROUTER_HERE, [10, 0, 0, 21]));
}

#[test]
fn an_icmp_error_about_nothing_of_ours_is_dropped_and_counted() {
    let mut world = Setup::default().world();
    let foreign = udp(snat(1), server(21, 53), b"").packet();
    let error = icmp_error(ROUTER_THERE, [192, 0, 2, 9], &foreign);
    let frame = link_from(hop(21)).frame(&error);
    world.punt(0, 2, &frame, &[Event::DropNoFlow]).nothing();
}

#[test]
fn tags_are_taken_off_and_put_on_as_the_next_hop_says() {
    let mut world = Setup::default().world();
    let tagged = NextHop { vlan: 300, ..resolved(hop(21)) };
    world.net.entries.insert(hop(21), tagged);
    let tagged_to_server = Link { vlan: 300, ..link_to(hop(21)) };
    let tagged_from_client = Link { vlan: 20, ..link_from(ROUTER) };
    let query = udp(client(1), dns(), b"?");
    let forwarded = query.between(snat(1024), server(21, 53)).packet();
    let first = Verdict::Punt(Event::PuntFirstPacket);
    let step = world.send_by(tagged_from_client, &query.packet(), first, &[]);
    assert_eq!(step.sent, [(tagged_to_server, forwarded.clone())]);
    let there = Verdict::Redirect { interface: 2 };
    for link in [tagged_from_client, link_from(ROUTER)] {
        let step = world.send_by(link, &query.packet(), there, &[]);
        assert_eq!(step.sent, [(tagged_to_server, forwarded.clone())]);
    }
    let answer = udp(server(21, 53), snat(1024), b"!");
    let tagged_from_server = Link { vlan: 300, ..link_from(hop(21)) };
    let back = Verdict::Redirect { interface: 1 };
    let step = world.send_by(tagged_from_server, &answer.packet(), back, &[]);
    assert_eq!(step.to(ROUTER), answer.between(dns(), client(1)));
}

#[test]
fn a_reset_leaves_with_the_tag_that_the_packet_came_with() {
    let mut world = Setup { web: "syn_protection = \"off\"", ..Setup::default() }.world();
    let link = Link { vlan: 20, ..link_from(ROUTER) };
    let packet = tcp(client(1), web(), ACK).packet();
    let first = Verdict::Punt(Event::PuntFirstPacket);
    let step = world.send_by(link, &packet, first, &[Event::DropNoFlow]);
    assert_eq!(step.sent[0].0, Link { vlan: 20, ..link_to(ROUTER) });
}
