//! Source addresses and ports: taken, at rest, used again, exhausted.

use lb_common::path::Verdict;

use super::{frames::*, world::*, *};
use crate::engine::log::EndReason;

const NEW: Verdict = Verdict::Punt(Event::PuntFirstPacket);
const TWO: &str = "\"192.0.2.8\", \"192.0.2.9\"";

fn syn(port: u16) -> Message {
    tcp(client(port), web(), SYN)
}

fn begin(world: &mut World, port: u16) -> std::net::SocketAddrV4 {
    world.begin(&syn(port)).to(hop(11)).from
}

/// Answers of the server to the sender that it sees.
fn answer(to: std::net::SocketAddrV4, flags: u8) -> Message {
    tcp(server(11, 8080), to, flags)
}

/// A connection that the server closes first; its flow has ended on return. Gives its source.
fn closed_by_the_server(world: &mut World, port: u16) -> std::net::SocketAddrV4 {
    let source = begin(world, port);
    world.passes(&answer(source, SYN | ACK)).to(ROUTER);
    world.passes(&tcp(client(port), web(), ACK)).to(hop(11));
    world.passes(&answer(source, FIN | ACK)).to(ROUTER);
    world.passes(&tcp(client(port), web(), FIN | ACK)).to(hop(11));
    world.passes(&answer(source, ACK)).to(ROUTER);
    assert_eq!(world.wait(11 * SECOND).ended().reason, EndReason::Finished);
    source
}

#[test]
fn a_closed_connections_port_rests_from_its_last_packet_for_as_long_as_time_wait_lasts() {
    let mut world = Setup { instance: "snat_ports = \"7-8\"", ..Setup::default() }.world();
    let first = closed_by_the_server(&mut world, 1);
    assert_eq!(world.snat_ports(), (0, 1));
    let other = begin(&mut world, 2);
    assert_eq!((first.port(), other.port()), (7, 8));
    // 67.5 seconds: a minute, and what timers may be late.
    world.passes(&answer(other, RST)).to(ROUTER);
    assert_eq!(world.wait(56 * SECOND).ended().reason, EndReason::Reset);
    assert_eq!(world.snat_ports(), (0, 1), "after a reset a port is free");
    world.wait(SECOND).nothing();
    assert_eq!((world.snat_ports(), world.shared.snat_ports.reused_early()), ((0, 0), 0));
}

#[test]
fn a_resting_port_is_used_early_rather_than_a_flow_refused() {
    let mut world = Setup { instance: "snat_ports = \"7-8\"", ..Setup::default() }.world();
    let first = closed_by_the_server(&mut world, 1);
    let second = closed_by_the_server(&mut world, 2);
    assert_eq!([begin(&mut world, 3), begin(&mut world, 4)], [first, second]);
    assert_eq!((world.snat_ports(), world.shared.snat_ports.reused_early()), ((2, 0), 2));
}

#[test]
fn without_a_time_wait_nothing_rests() {
    let instance = "snat_ports = \"7-7\"\nserver_time_wait = \"0s\"";
    let mut world = Setup { instance, ..Setup::default() }.world();
    let first = closed_by_the_server(&mut world, 1);
    assert_eq!(world.snat_ports(), (0, 0));
    assert_eq!(begin(&mut world, 2), first);
    assert_eq!(world.shared.snat_ports.reused_early(), 0);
}

#[test]
fn ports_of_all_addresses_are_used_before_a_flow_is_refused() {
    let setup = Setup { instance: "snat_ports = \"7-8\"", snat_addresses: TWO, ..Setup::default() };
    let mut world = setup.world();
    let mut given: Vec<_> = (1..=4).map(|port| begin(&mut world, port)).collect();
    assert_eq!(given[0].ip(), given[1].ip(), "a client keeps its address as long as it can");
    given.sort_unstable();
    let all = [(8, 7), (8, 8), (9, 7), (9, 8)];
    assert_eq!(given, all.map(|(host, port)| at([192, 0, 2, host], port)));
    let step = world.send(&syn(5), NEW, &[Event::DropSnatPortsExhausted]);
    assert_eq!(step.messages()[0].from, web(), "the client is told by a reset");
}

#[test]
fn exhaustion_is_told_once_a_minute_and_survived() {
    let instance = "snat_ports = \"7-7\"\ntcp_half_open_timeout = \"90s\"";
    let mut world = Setup { instance, ..Setup::default() }.world();
    begin(&mut world, 1);
    let exhausted = [Event::DropSnatPortsExhausted];
    let peer = Peer { server: server(11, 8080).into(), protocol: Protocol::Tcp };
    for (seconds, told) in [(0, vec![peer]), (1, vec![]), (58, vec![]), (1, vec![peer])] {
        world.wait(seconds * SECOND).nothing();
        assert_eq!(world.send(&syn(2), NEW, &exhausted).out_of_ports, told);
    }
    // Another transport, another server.
    world.begin(&udp(client(1), dns(), b"")).to(hop(21));
    let query = udp(client(2), dns(), b"");
    assert_eq!(world.send(&query, NEW, &exhausted).out_of_ports.len(), 1);
    assert_eq!(world.wait(31 * SECOND).log.len(), 2);
    begin(&mut world, 2);
}

#[test]
fn flows_of_an_address_that_leaves_go_on_and_new_ones_use_what_there_is() {
    let setup = Setup { instance: "snat_ports = \"7-8\"", ..Setup::default() };
    let mut world = setup.world();
    let old = begin(&mut world, 1);
    let other = Setup { snat_addresses: "\"192.0.2.8\"", ..setup };
    world.replace(&other).unwrap();
    let new = begin(&mut world, 2);
    assert_eq!((old, new), (snat(7), at([192, 0, 2, 8], 7)));
    world.passes(&answer(old, SYN | ACK)).to(ROUTER);
    world.passes(&tcp(client(1), web(), ACK)).to(hop(11));
    let of =
        |world: &World, host| world.shared.snat_ports.by_source().remove(&[192, 0, 2, host].into());
    assert_eq!(of(&world, 9), Some(PortCount { in_use: 1, resting: 0 }));
    world.wait(11 * SECOND).ended();
    world.passes(&answer(old, FIN | ACK)).to(ROUTER);
    world.passes(&tcp(client(1), web(), FIN | ACK)).to(hop(11));
    assert_eq!(world.wait(11 * SECOND).ended().snat, Some(old.into()));
    assert_eq!(of(&world, 9), Some(PortCount { in_use: 0, resting: 1 }));
    // Back again, while the port still rests.
    world.replace(&setup).unwrap();
    assert_eq!([3, 4].map(|port| begin(&mut world, port)), [snat(8), snat(7)]);
    world.wait(130 * SECOND);
    world.wait(SECOND).nothing();
    assert_eq!((of(&world, 9), of(&world, 8)), (Some(PortCount::default()), None));
}

#[test]
fn ports_that_another_worker_has_from_an_earlier_share_are_passed_over() {
    let shared = |range: &'static str| Setup { instance: range, workers: 2, ..Setup::default() };
    let mut world = shared("snat_ports = \"1000-1199\"").world();
    let punt = |world: &mut World, worker, port, counts: &[Event]| {
        let frame = link_from(ROUTER).frame(&udp(client(port), dns(), b"").packet());
        world.punt(worker, 1, &frame, counts)
    };
    // The second worker has 1100 to 1199.
    for port in 1..=100 {
        punt(&mut world, 1, port, &[]).to(hop(21));
    }
    world.replace(&shared("snat_ports = \"1100-1401\"")).unwrap();
    // The first worker has 1100 to 1250 now, of which a hundred are in use.
    for port in 101..=151 {
        assert_eq!(punt(&mut world, 0, port, &[]).to(hop(21)).from.port(), 1200 + port - 101);
    }
    punt(&mut world, 0, 152, &[Event::DropSnatPortsExhausted]);
    assert_eq!(world.snat_ports().0, 151);
    // When these have ended, it has them all.
    world.wait(11 * SECOND);
    world.wait(ROUND);
    assert_eq!(world.snat_ports(), (0, 0));
    for port in 1..=151 {
        punt(&mut world, 0, port, &[]).to(hop(21));
    }
    punt(&mut world, 0, 152, &[Event::DropSnatPortsExhausted]);
}
