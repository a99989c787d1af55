//! Which server a flow gets, and what becomes of one that none can take.

use lb_common::path::Verdict;

use super::{frames::*, world::*, *};
use crate::{
    config::{PoolIndex, ServerIndex},
    engine::{Query, log::EndReason},
};

fn pools(web: &str) -> String {
    format!(
        r#"
[[pool]]
name = "web"
{web}
[[pool]]
name = "resolvers"
servers = [{{ address = "10.0.0.21", port = 53, enabled = false }}]"#
    )
}

/// The servers that `count` flows from different ports get.
fn servers(world: &mut World, ports: std::ops::Range<u16>) -> Vec<u8> {
    let mut host = |port| {
        let step = world.begin(&tcp(client(port), web(), SYN));
        Message::read(&step.sent[0].1).to.ip().octets()[3]
    };
    ports.map(&mut host).collect()
}

#[test]
fn servers_take_turns_as_often_as_their_ratio_says() {
    let pools = pools(
        r#"servers = [
  { address = "10.0.0.11", port = 80 },
  { address = "10.0.0.12", port = 80, ratio = 3 },
]"#,
    );
    let mut world = Setup { pools: &pools, ..Setup::default() }.world();
    let hosts = servers(&mut world, 1..41);
    let of = |host| hosts.iter().filter(|h| **h == host).count();
    assert_eq!((of(11), of(12)), (10, 30), "{hosts:?}");
}

#[test]
fn a_server_that_is_disabled_takes_no_flow() {
    let pools = pools(
        r#"servers = [
  { address = "10.0.0.11", port = 80, enabled = false },
  { address = "10.0.0.12", port = 80 },
]"#,
    );
    let mut world = Setup { pools: &pools, ..Setup::default() }.world();
    assert_eq!(servers(&mut world, 1..5), [12; 4]);
}

#[test]
fn a_server_that_goes_down_takes_no_new_flow_and_keeps_those_it_has() {
    let pools = pools(
        r#"servers = [
  { address = "10.0.0.11", port = 80 },
  { address = "10.0.0.12", port = 80 },
]"#,
    );
    let mut world = Setup { pools: &pools, ..Setup::default() }.world();
    assert_eq!(servers(&mut world, 1..3), [11, 12]);
    let numbers = [0, 1].map(|n| world.generation.server_number(PoolIndex(0), ServerIndex(n)));
    world.shared.servers.set_down(numbers[0], true);
    assert_eq!(servers(&mut world, 5..9), [12; 4]);
    let step = world.passes(&tcp(client(1), web(), ACK));
    assert_eq!(Message::read(&step.sent[0].1).to.ip().octets()[3], 11, "its flow stays");
    let why = |world: &mut World| {
        let (protocol, client, vip) = (Protocol::Tcp, client(9).into(), web().into());
        let (now, query) =
            (world.now(), Query { protocol, client, vip, payload: b"", stream: None });
        let explanation = world.workers[0].engine.explain(now, query).unwrap();
        explanation.candidates.iter().map(|it| it.why.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(why(&mut world), ["down", "its turn"]);
    world.shared.servers.set_down(numbers[1], true);
    assert_eq!(why(&mut world), ["down", "down"]);
    world.shared.servers.set_down(numbers[0], false);
    assert_eq!(servers(&mut world, 20..22), [11; 2]);
}

#[test]
fn consistent_hashing_keeps_a_client_at_its_server_on_every_worker() {
    let list: Vec<_> =
        (11..31).map(|host| format!("{{ address = \"10.0.0.{host}\", port = 80 }}")).collect();
    let web_pool = format!("algorithm = \"consistent-hash\"\nservers = [{}]", list.join(", "));
    let pools = pools(&web_pool);
    let mut world = Setup { pools: &pools, workers: 2, ..Setup::default() }.world();
    let first = servers(&mut world, 1..2)[0];
    assert_eq!(servers(&mut world, 2..10), [first; 8]);
    let frame = link_from(ROUTER).frame(&tcp(client(10), web(), SYN).packet());
    world.punt(1, 1, &frame, &[]).to(hop(first));
    let others = (100..150).map(|host| {
        let from = at([198, 51, 100, host], 1);
        world.begin(&tcp(from, web(), SYN)).messages()[0].to
    });
    let others: std::collections::HashSet<_> = others.collect();
    assert!(others.len() > 5, "other clients get other servers: {}", others.len());
}

#[test]
fn without_a_server_a_connection_is_reset_and_a_datagram_dropped() {
    let pools = pools(r#"servers = [{ address = "10.0.0.11", port = 80, enabled = false }]"#);
    let mut world = Setup { pools: &pools, ..Setup::default() }.world();
    let first = Verdict::Punt(Event::PuntFirstPacket);
    let step = world.send(&tcp(client(1), web(), SYN), first, &[Event::DropNoServer]);
    let reset = Transport::Tcp { flags: RST | ACK, sequence: 0, acknowledgement: 1001 };
    let expected = Message { transport: reset, ..tcp(web(), client(1), RST) };
    assert_eq!(step.messages(), [expected]);
    assert_eq!(step.sent[0].0, link_to(ROUTER));
    let [refused] = &step.log[..] else { panic!("{:?}", step.log) };
    assert_eq!((refused.reason, refused.server, refused.packets), (EndReason::Refused, None, 1));
    let step = world.send(&udp(client(1), dns(), b"x"), first, &[Event::DropNoServer]);
    assert_eq!((step.ended().reason, &*step.ended().virtual_service), (EndReason::Refused, "dns"));
    assert_eq!((world.gauge(), world.slots()), ((0, 0), (0, 0)));
}

const TWO: &str = r#"servers = [
  { address = "10.0.0.11", port = 80 },
  { address = "10.0.0.12", port = 80 },
]"#;

#[test]
fn connections_are_counted_on_every_worker_until_they_end() {
    let pools = pools(TWO);
    let mut world = Setup { pools: &pools, workers: 2, ..Setup::default() }.world();
    for (worker, port) in [(0, 1), (1, 2), (0, 3)] {
        let frame = link_from(ROUTER).frame(&tcp(client(port), web(), SYN).packet());
        world.punt(worker, 1, &frame, &[]);
    }
    assert_eq!(world.connections("web", 0) + world.connections("web", 1), 3);
    assert_eq!(world.wait(60 * SECOND).log.len(), 3);
    assert_eq!((world.connections("web", 0), world.connections("web", 1)), (0, 0));
}

#[test]
fn least_connections_sends_flows_where_others_have_ended() {
    let pools = pools(&format!("algorithm = \"least-connections\"\n{TWO}"));
    let mut world = Setup { pools: &pools, ..Setup::default() }.world();
    assert_eq!(servers(&mut world, 1..5), [11, 12, 11, 12]);
    // Those of 12 are reset and go, while the others answer and stay.
    for port in [1, 3] {
        let flow = world.flow(&tcp(client(port), web(), SYN)).unwrap();
        world.passes(&tcp(server(11, 80), snat(flow.snat().unwrap().port()), SYN | ACK));
        world.passes(&tcp(client(port), web(), ACK));
    }
    for port in [2, 4] {
        world.passes(&tcp(client(port), web(), RST));
    }
    assert_eq!(world.wait(11 * SECOND).log.len(), 2);
    assert_eq!((world.connections("web", 0), world.connections("web", 1)), (2, 0));
    assert_eq!(servers(&mut world, 5..9), [12, 12, 11, 12]);
}

#[test]
fn a_server_that_answers_late_takes_fewer_flows() {
    let pools = pools(&format!("algorithm = \"fastest-response\"\n{TWO}"));
    let mut world = Setup { pools: &pools, ..Setup::default() }.world();
    // Each is tried once; 12 takes three times as long to answer.
    for (port, host, millis) in [(1, 11, 2), (2, 12, 6)] {
        assert_eq!(servers(&mut world, port..port + 1), [host]);
        world.time += Duration::from_millis(millis);
        let flow = world.flow(&tcp(client(port), web(), SYN)).unwrap();
        let snat = flow.snat().unwrap().port();
        let answer = tcp(server(host, 80), self::snat(snat), SYN | ACK);
        world.send(&answer, Verdict::Punt(Event::PuntResponse), &[]).to(ROUTER);
        world.passes(&answer);
    }
    let hosts = servers(&mut world, 3..41);
    let of = |host| hosts.iter().filter(|h| **h == host).count() + 1;
    assert_eq!((of(11), of(12)), (30, 10), "{hosts:?}");
}
