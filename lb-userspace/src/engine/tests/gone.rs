//! Flows of a server that is gone end, and both sides of a connection find out.

use std::collections::HashSet;

use lb_common::path::Verdict;

use super::{adoption::restart, frames::*, world::*, *};
use crate::{config::ServerIndex, engine::log::EndReason, pool::ServerStates};

const NEW: Verdict = Verdict::Punt(Event::PuntFirstPacket);

const TWO: &str = r#"
[[pool]]
name = "web"
servers = [{ address = "10.0.0.11", port = 8080 }, { address = "10.0.0.12", port = 8080 }]

[[pool]]
name = "resolvers"
servers = [{ address = "10.0.0.21", port = 53 }]"#;

fn number(world: &World, pool: &str, server: usize) -> u32 {
    let pool = world.generation.pools.find(pool).unwrap();
    world.generation.server_number(pool, ServerIndex(server))
}

fn goes(world: &World, pool: &str, server: usize) {
    world.shared.servers.set_gone(number(world, pool, server), true);
}

/// Of a connection to the first server, whose handshake is complete.
fn connect(world: &mut World, port: u16) -> std::net::SocketAddrV4 {
    let snat = world.begin(&tcp(client(port), web(), SYN)).to(hop(11)).from;
    world.passes(&tcp(server(11, 8080), snat, SYN | ACK)).to(ROUTER);
    world.passes(&tcp(client(port), web(), ACK)).to(hop(11));
    snat
}

fn probe(
    from: std::net::SocketAddrV4,
    to: std::net::SocketAddrV4,
    sequence: u32,
) -> (NextHopId, Message) {
    let transport = Transport::Tcp { flags: ACK, sequence, acknowledgement: 0 };
    let via = if to.ip().octets()[0] == 10 { hop(to.ip().octets()[3]) } else { ROUTER };
    (via, Message { transport, ..tcp(from, to, ACK) })
}

fn sent(step: &Step) -> Vec<(NextHopId, Message)> {
    let hop_of =
        |link: &Link| [ROUTER, hop(11), hop(12)].into_iter().find(|it| link_to(*it) == *link);
    let links = step.sent.iter().map(|(link, _)| hop_of(link).expect("a known next hop"));
    links.zip(step.messages()).collect()
}

#[test]
fn both_sides_of_a_silent_connection_are_made_to_speak_and_the_client_is_reset() {
    let mut world = Setup::default().world();
    let snat = connect(&mut world, 40_000);
    world.wait(ROUND).nothing();
    goes(&world, "web", 0);
    let probes = |sequence| {
        vec![probe(web(), client(40_000), sequence), probe(snat, server(11, 8080), sequence)]
    };
    world.time += ROUND;
    let first = world.tick();
    assert_eq!((sent(&first), first.log.len()), (probes(0), 0));
    assert_eq!((world.gauge(), world.slots()), ((0, 0), (0, 2)), "ended, not given back");
    assert_eq!(world.connections("web", 0), 0);

    // The client answers with its own numbers, and is reset with these.
    let answer = tcp(client(40_000), web(), ACK);
    let reset = world.send(&answer, Verdict::Answer(Event::AnswerReset), &[]).to(ROUTER);
    let Transport::Tcp { flags, sequence, .. } = reset.transport else { panic!() };
    assert_eq!((flags, sequence, reset.from, reset.to), (RST, 5000, web(), client(40_000)));

    // Said once more, half of all numbers away, when nothing can use the slot any more.
    world.shared.grace.pass(|| ());
    let second = world.tick();
    assert_eq!(sent(&second), probes(1 << 31));
    let [ended] = &second.log[..] else { panic!("{:?}", second.log) };
    assert_eq!((ended.reason, ended.packets, ended.reply_packets), (EndReason::ServerGone, 2, 1));
    assert_eq!(world.slots(), (0, 0));
    world.wait(ROUND).nothing();
}

#[test]
fn a_server_that_sees_the_clients_address_is_left_to_find_out() {
    let pools = Setup::default().pools.replace("servers", "forwarding = \"dnat\"\nservers");
    let mut world = Setup { pools: &pools, ..Setup::default() }.world();
    connect(&mut world, 40_000);
    goes(&world, "web", 0);
    world.time += ROUND;
    assert_eq!(sent(&world.tick()), [probe(web(), client(40_000), 0)]);
}

#[test]
fn who_asks_by_himself_or_is_done_is_not_asked() {
    let mut world = Setup { instance: "tcp_closing_timeout = \"60s\"", ..Setup::default() }.world();
    // Never answered; reset; closed by both; datagrams.
    world.begin(&tcp(client(1), web(), SYN)).to(hop(11));
    let snat = connect(&mut world, 2);
    world.passes(&tcp(server(11, 8080), snat, RST)).to(ROUTER);
    let snat = connect(&mut world, 3);
    world.passes(&tcp(client(3), web(), FIN | ACK)).to(hop(11));
    world.passes(&tcp(server(11, 8080), snat, FIN | ACK)).to(ROUTER);
    let snat = world.begin(&udp(client(4), dns(), b"?")).to(hop(21)).from;
    world.passes(&udp(server(21, 53), snat, b"!")).to(ROUTER);
    world.wait(ROUND).nothing();
    goes(&world, "web", 0);
    goes(&world, "resolvers", 0);
    let step = world.wait(ROUND);
    assert_eq!((step.sent.len(), step.log.len()), (0, 4));
    assert!(step.log.iter().all(|ended| ended.reason == EndReason::ServerGone));
    assert_eq!((world.gauge(), world.slots()), ((0, 0), (0, 0)));
}

#[test]
fn a_client_whose_next_hop_is_not_known_now_is_told_later() {
    let mut world = Setup::default().world();
    connect(&mut world, 40_000);
    goes(&world, "web", 0);
    for id in [ROUTER, hop(11)] {
        world.net.entries.insert(id, lb_common::next_hop::NextHop::default());
    }
    world.time += ROUND;
    world.tick().nothing();
    world.net.entries.clear();
    assert_eq!(sent(&world.wait(SECOND)).len(), 2);
}

#[test]
fn new_flows_go_elsewhere_and_others_flows_go_on() {
    let mut world = Setup { pools: TWO, ..Setup::default() }.world();
    connect(&mut world, 1);
    let snat = world.begin(&tcp(client(2), web(), SYN)).to(hop(12)).from;
    world.passes(&tcp(server(12, 8080), snat, SYN | ACK)).to(ROUTER);
    world.passes(&tcp(client(2), web(), ACK)).to(hop(12));
    goes(&world, "web", 0);
    for port in 3..6 {
        world.begin(&tcp(client(port), web(), SYN)).to(hop(12));
    }
    assert_eq!(world.wait(ROUND).log.len(), 1);
    world.passes(&tcp(client(2), web(), ACK)).to(hop(12));
    assert_eq!((world.connections("web", 0), world.connections("web", 1)), (0, 4));
    // A datagram without its flow is decided anew.
    world.shared.servers.set_gone(number(&world, "web", 0), false);
    world.begin(&tcp(client(1), web(), SYN)).to(hop(11));
}

#[test]
fn a_datagram_of_an_ended_flow_is_decided_anew() {
    let pools = TWO.replace("port = 53 }", "port = 53 }, { address = \"10.0.0.22\", port = 53 }");
    let mut world = Setup { pools: &pools, ..Setup::default() }.world();
    world.begin(&udp(client(1), dns(), b"?")).to(hop(21));
    goes(&world, "resolvers", 0);
    assert_eq!(world.wait(ROUND).ended().reason, EndReason::ServerGone);
    world.begin(&udp(client(1), dns(), b"?")).to(hop(22));
}

#[test]
fn flows_that_a_script_closed_have_no_server_that_could_go() {
    let mut world = Setup { request: "avi.vs.close_conn()", ..Setup::default() }.world();
    let closed = [Event::DropScriptClosed];
    world.send(&udp(client(1), dns(), b""), NEW, &closed).nothing();
    goes(&world, "resolvers", 0);
    world.wait(ROUND).nothing();
    assert_eq!(world.gauge(), (1, 1));
}

#[test]
fn each_worker_ends_its_own_and_none_is_asked_for_another() {
    let mut world = Setup { workers: 2, ..Setup::default() }.world();
    for (worker, port) in [(0, 1), (1, 2), (1, 3)] {
        let frame = link_from(ROUTER).frame(&tcp(client(port), web(), SYN).packet());
        world.punt(worker, 1, &frame, &[]).to(hop(11));
    }
    goes(&world, "web", 0);
    let step = world.wait(ROUND);
    let workers: Vec<_> = step.log.iter().map(|ended| ended.worker).collect();
    assert_eq!((workers, world.gauge()), (vec![0, 1, 1], (0, 0)));
}

#[test]
fn adopted_flows_end_if_their_server_is_gone() {
    let mut world = Setup { workers: 2, ..Setup::default() }.world();
    connect(&mut world, 1);
    let number = number(&world, "web", 0);
    // As the daemon does: before any worker runs.
    let states = ServerStates::default();
    states.set_gone(number, true);
    let (mut world, dealt) = restart(world, 2, states);
    assert_eq!((dealt.iter().sum::<usize>(), world.gauge()), (1, (1, 1)));
    world.time += ROUND;
    assert_eq!(world.tick().sent.len(), 2);
    assert_eq!((world.gauge(), world.connections("web", 0)), ((0, 0), 0));
}

#[test]
fn flows_that_end_on_the_way_do_not_make_the_round_longer() {
    let mut world = Setup::default().world();
    for port in 1..=100 {
        world.begin(&tcp(client(port), web(), SYN)).to(hop(11));
    }
    world.wait(ROUND).nothing();
    goes(&world, "web", 0);
    for _ in 0..60 {
        world.time += Duration::from_millis(10);
        world.tick();
    }
    assert_eq!(world.gauge(), (0, 0), "two rounds and a bit");
}

#[test]
fn thousands_are_told_at_a_pace_that_the_way_out_can_take() {
    const FLOWS: u16 = 2000;
    let mut world = Setup { instance: "flow_capacity = 8192", ..Setup::default() }.world();
    for port in 1..=FLOWS {
        connect(&mut world, port);
    }
    world.wait(ROUND).nothing();
    goes(&world, "web", 0);
    let (mut told, mut ticks) = (HashSet::new(), 0);
    while world.gauge().0 > 0 {
        world.time += ROUND;
        ticks += 1;
        let step = world.tick();
        assert!(step.sent.len() <= 4 * crate::engine::gone::AT_ONCE, "{}", step.sent.len());
        told.extend(step.messages().into_iter().map(|message| message.to));
        world.shared.grace.pass(|| ());
    }
    assert_eq!(told.len(), usize::from(FLOWS) + 1, "every client, and the server");
    assert_eq!(ticks, 8);
}
