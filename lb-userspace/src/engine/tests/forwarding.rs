//! A flow from its first packet to its last, in each forwarding mode.

use lb_common::path::Verdict;

use super::{frames::*, world::*, *};
use crate::engine::log::{DecidedBy, EndReason};

/// What the client's packets become toward the server, and the server's toward the client.
fn exchange(world: &mut World, source: std::net::SocketAddrV4) {
    let syn = tcp(client(40_000), web(), SYN);
    let to_server = |packet: &Message| packet.between(source, server(11, 8080));
    assert_eq!(world.begin(&syn).to(hop(11)), to_server(&syn));
    let answer = tcp(server(11, 8080), source, SYN | ACK);
    assert_eq!(world.passes(&answer).to(ROUTER), answer.between(web(), client(40_000)));
    for payload in [&b""[..], b"GET / HTTP/1.0\r\n\r\n"] {
        let packet = tcp(client(40_000), web(), ACK).with_payload(payload);
        assert_eq!(world.passes(&packet).to(hop(11)), to_server(&packet));
    }
}

#[test]
fn a_connection_in_snat_mode_is_decided_once_and_forwarded_both_ways() {
    let mut world = Setup::default().world();
    exchange(&mut world, snat(1024));
    assert_eq!(world.slots(), (2, 0));
    let found = world.flow(&tcp(client(40_000), web(), ACK)).unwrap();
    assert_eq!((found.forward.packets, found.reply.packets), (3, 1));
    assert_eq!(found.state(), State::Established);
}

#[test]
fn a_connection_in_dnat_mode_keeps_the_clients_address() {
    let pools = Setup::default().pools.replacen("servers", "forwarding = \"dnat\"\nservers", 1);
    let mut world = Setup { pools: &pools, ..Setup::default() }.world();
    exchange(&mut world, client(40_000));
    assert_eq!(world.flow(&tcp(client(40_000), web(), ACK)).unwrap().snat(), None);
}

#[test]
fn datagrams_go_both_ways() {
    let mut world = Setup::default().world();
    let query = udp(client(5000), dns(), b"odd");
    let to_server = query.between(snat(1024), server(21, 53));
    assert_eq!(world.begin(&query).to(hop(21)), to_server);
    assert_eq!(world.passes(&query).to(hop(21)), to_server);
    let answer = udp(server(21, 53), snat(1024), b"the answer");
    assert_eq!(world.passes(&answer).to(ROUTER), answer.between(dns(), client(5000)));
}

#[test]
fn a_packet_of_a_known_flow_that_reaches_a_worker_is_forwarded_as_the_program_would() {
    let mut world = Setup::default().world();
    let first = tcp(client(40_000), web(), SYN);
    world.begin(&first).to(hop(11));
    let packet = tcp(client(40_000), web(), ACK).with_payload(b"data");
    let by_program = world.passes(&packet);
    let frame = link_from(ROUTER).frame(&packet.packet());
    let by_worker = world.punt(0, 1, &frame, &[]);
    assert_eq!(by_worker.sent, by_program.sent);
    let found = world.flow(&packet).unwrap();
    assert_eq!(found.forward.packets, 3, "each side counts what it forwards");
    let bytes = 2 * frame.len() + first.packet().len() + 14;
    assert_eq!(found.forward.bytes, bytes as u64, "both count whole frames");
}

#[test]
fn ports_are_unique_toward_a_server_and_rest_after_use() {
    let mut world = Setup { instance: "snat_ports = \"2000-2003\"", ..Setup::default() }.world();
    let source = |world: &mut World, port| {
        world.begin(&udp(client(port), dns(), b"x")).to(hop(21)).from.port()
    };
    assert_eq!([1, 2, 3].map(|port| source(&mut world, port)), [2000, 2001, 2002]);
    world.begin(&tcp(client(1), web(), SYN)).to(hop(11));
    assert_eq!(world.wait(60 * SECOND).log.len(), 4);
    assert_eq!([4, 5].map(|port| source(&mut world, port)), [2003, 2000]);
}

#[test]
fn a_flow_that_ends_is_logged_with_all_that_is_known() {
    let mut world = Setup::default().world();
    exchange(&mut world, snat(1024));
    world.wait(ROUND).nothing();
    let step = world.wait(600 * SECOND);
    let ended = step.ended();
    assert_eq!(serde_json::to_value(ended).unwrap()["time"], "1970-01-01T00:26:40.300Z");
    assert_eq!((ended.client, ended.vip), (client(40_000).into(), web().into()));
    assert_eq!((&*ended.virtual_service, ended.pool.as_deref()), ("web", Some("web")));
    assert_eq!(
        (ended.server, ended.snat),
        (Some(server(11, 8080).into()), Some(snat(1024).into()))
    );
    assert_eq!((ended.protocol, ended.reason), ("tcp", EndReason::Idle));
    assert_eq!((ended.decided_by, &ended.script), (Some(DecidedBy::Algorithm), &None));
    assert_eq!((ended.packets, ended.bytes), (3, 54 + 54 + 72));
    assert_eq!((ended.reply_packets, ended.reply_bytes), (1, 54));
    assert_eq!((ended.generation, ended.worker), (1, 0));
    assert!(ended.significance.is_empty() && ended.error.is_none() && ended.ds_log.is_empty());
    assert_eq!((world.gauge(), world.slots()), ((0, 0), (0, 0)));
}

#[test]
fn a_time_to_live_that_ends_here_ends_here() {
    let mut world = Setup::default().world();
    let last = |flags| Message { ttl: 1, ..tcp(client(1), web(), flags) };
    let first = Verdict::Punt(Event::PuntFirstPacket);
    world.send(&last(SYN), first, &[Event::DropTtlExpired]).nothing();
    world.begin(&tcp(client(1), web(), SYN)).to(hop(11));
    world.send(&last(ACK), Verdict::Drop(Event::DropTtlExpired), &[]).nothing();
    world.send(&last(SYN), Verdict::Punt(Event::PuntSyn), &[Event::DropTtlExpired]).nothing();
}

#[test]
fn what_is_nobodys_is_left_to_the_kernel() {
    let mut world = Setup::default().world();
    let pass = Verdict::Pass(Event::PassNotOurs);
    world.send(&tcp(client(1), at([192, 0, 2, 10], 81), SYN), pass, &[]).nothing();
    world.send(&udp(client(1), web(), b""), pass, &[]).nothing();
    let frame = link_from(ROUTER).frame(&udp(client(1), web(), b"").packet());
    world.punt(0, 1, &frame, &[Event::DropNoFlow]).nothing();
}
