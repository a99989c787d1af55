//! Limits, backups, servers that come and go: who takes new flows.

use lb_common::path::Verdict;

use super::{frames::*, world::*, *};
use crate::{
    config::{DisableType, PoolIndex, ServerIndex},
    engine::{Explanation, Query, log::EndReason},
    pool::Order,
};

const NEW: Verdict = Verdict::Punt(Event::PuntFirstPacket);

/// Pool `web` of servers 11 and 12, with these lines in it, and `spare` of server 31.
fn pools(lines: &str) -> String {
    format!(
        r#"
[[pool]]
name = "web"
servers = [{{ address = "10.0.0.11", port = 80 }}, {{ address = "10.0.0.12", port = 80 }}]
{lines}
[[pool]]
name = "spare"
servers = [{{ address = "10.0.0.31", port = 80 }}]
[[pool]]
name = "resolvers"
servers = [{{ address = "10.0.0.21", port = 53 }}]
[[persistence_profile]]
name = "by-client""#
    )
}

fn world(pools: &str, web: &str) -> World {
    Setup { pools, web, ..Setup::default() }.world()
}

fn syn(port: u16) -> Message {
    tcp(client(port), web(), SYN)
}

/// The servers that `count` flows from different ports get.
fn servers(world: &mut World, ports: std::ops::Range<u16>) -> Vec<u8> {
    let one = |port| Message::read(&world.begin(&syn(port)).sent[0].1).to.ip().octets()[3];
    ports.map(one).collect()
}

fn refused(world: &mut World, port: u16, event: Event) {
    let step = world.send(&syn(port), NEW, &[event]);
    let [reset] = &step.messages()[..] else { panic!("{:?}", step.sent) };
    assert_eq!((reset.to, reset.from), (client(port), web()));
    assert_eq!(step.log[0].reason, EndReason::Refused);
}

fn explain(world: &mut World) -> Explanation {
    let (protocol, client, vip) = (Protocol::Tcp, client(999).into(), web().into());
    let (now, query) = (world.now(), Query { protocol, client, vip, payload: b"", stream: None });
    world.workers[0].engine.explain(now, query).unwrap()
}

fn whys(world: &mut World) -> Vec<String> {
    explain(world).candidates.iter().map(|it| it.why.to_string()).collect()
}

fn number(world: &World, server: usize) -> u32 {
    world.generation.server_number(PoolIndex(0), ServerIndex(server))
}

#[test]
fn a_server_takes_no_more_connections_than_it_may() {
    let pools = pools("max_concurrent_connections_per_server = 2");
    let mut world = world(&pools, "");
    assert_eq!(servers(&mut world, 1..5), [11, 12, 11, 12]);
    refused(&mut world, 5, Event::DropServerLimit);
    assert_eq!(whys(&mut world), ["full", "full"]);
    let steps = explain(&mut world).steps;
    assert_eq!(steps.last().unwrap().result, "every server that is up is full");
    world.passes(&tcp(client(2), web(), RST));
    world.wait(11 * SECOND);
    assert_eq!(servers(&mut world, 6..7).len(), 1, "a place is free again");
}

#[test]
fn a_server_gets_no_more_connections_a_second_than_it_may() {
    let pools = pools("max_connection_rate_per_server = 2");
    let mut world = world(&pools, "");
    assert_eq!(servers(&mut world, 1..5), [11, 12, 11, 12]);
    refused(&mut world, 5, Event::DropServerLimit);
    world.time += SECOND;
    assert_eq!(servers(&mut world, 6..10), [11, 12, 11, 12]);
    refused(&mut world, 10, Event::DropServerLimit);
}

#[test]
fn a_full_server_that_a_script_selects_is_replaced_and_the_log_says_so() {
    let pools = pools("max_concurrent_connections_per_server = 1");
    let request = "avi.pool.select('web', '10.0.0.12')";
    let mut world = Setup { pools: &pools, request, ..Setup::default() }.world();
    assert_eq!(servers(&mut world, 1..3), [12, 11]);
    world.wait(ROUND);
    let step = world.wait(60 * SECOND);
    let logs: Vec<_> = step.log.iter().map(|log| log.ds_log.as_str()).collect();
    assert!(logs.contains(&"[selected server 10.0.0.12:80 is full]"), "{logs:?}");
}

#[test]
fn a_virtual_service_takes_no_more_connections_than_it_may_whatever_its_scripts_say() {
    let pools = pools("");
    let limit = "max_concurrent_connections = 2";
    let request = "avi.vs.log('run') if avi.vs.client_port() == '4' then avi.vs.close_conn() end";
    let mut world = Setup { pools: &pools, web: limit, request, ..Setup::default() }.world();
    assert_eq!(servers(&mut world, 1..3), [11, 12]);
    for port in [3, 4] {
        refused(&mut world, port, Event::DropServiceLimit);
    }
    let explanation = explain(&mut world);
    assert_eq!(explanation.steps.len(), 1);
    assert_eq!((explanation.steps[0].number, &*explanation.log), (2, ""));
    // Another service has room.
    world.begin(&udp(client(3), dns(), b"")).to(hop(21));
    world.wait(60 * SECOND);
    assert_eq!(servers(&mut world, 5..7).len(), 2);
}

#[test]
fn while_a_pool_is_down_its_backup_takes_flows_and_keeps_its_clients() {
    let pools = pools("backup_pool = \"spare\"\nmin_servers_up = 2");
    let mut world = world(&pools, "persistence_profile = \"by-client\"");
    let first = servers(&mut world, 1..3);
    assert_eq!(first[0], first[1]);
    let other = number(&world, usize::from(first[0] == 11));
    world.shared.servers.set_down(other, true);
    assert_eq!(servers(&mut world, 3..5), [31, 31], "one is up, of two that must be");
    let explanation = explain(&mut world);
    assert_eq!((explanation.pool.as_deref(), explanation.steps.len()), (Some("spare"), 3));
    assert_eq!(explanation.steps[1].result, "is down: a backup stands in");
    world.shared.servers.set_down(other, false);
    let back = servers(&mut world, 5..7);
    assert!(back[0] == back[1] && back[0] != 31, "{back:?}");
}

#[test]
fn without_a_backup_a_pool_with_too_few_servers_refuses() {
    let pools = pools("min_servers_up = 2");
    let mut world = world(&pools, "");
    world.shared.servers.set_down(number(&world, 0), true);
    refused(&mut world, 1, Event::DropNoServer);
    let steps = explain(&mut world).steps;
    assert_eq!(steps.last().unwrap().result, "1 up, of 2 that it must have");
}

#[test]
fn a_group_falls_back_on_the_backups_of_its_members() {
    let pools = pools("backup_pool = \"spare\"")
        + "\n[[pool_group]]\nname = \"g\"\nmembers = [{ pool = \"web\" }]";
    let mut world = Setup { pools: &pools, ..Setup::default() }.with_group("g").world();
    assert_eq!(servers(&mut world, 1..3), [11, 12]);
    for server in [0, 1] {
        world.shared.servers.set_down(number(&world, server), true);
    }
    assert_eq!(servers(&mut world, 3..5), [31, 31]);
}

#[test]
fn a_disabled_server_may_still_take_clients_that_persistence_leads_to_it() {
    let pools = pools("");
    let mut world = world(&pools, "persistence_profile = \"by-client\"");
    let first = servers(&mut world, 1..2)[0];
    let order = |world: &World, order| {
        let number = number(world, usize::from(first == 12));
        world.shared.servers.set_order(number, order);
    };
    order(&world, Some(Order::Disable(DisableType::AllowPersistent)));
    assert_eq!(servers(&mut world, 2..4), [first; 2]);
    let stranger = tcp(at([198, 51, 100, 8], 1), web(), SYN);
    let other = 23 - first;
    assert_eq!(Message::read(&world.begin(&stranger).sent[0].1).to.ip().octets()[3], other);
    order(&world, Some(Order::Disable(DisableType::DisallowNew)));
    assert_eq!(servers(&mut world, 4..6), [other; 2]);
}

#[test]
fn a_server_that_refuses_or_ignores_connections_gets_fewer_until_it_answers_again() {
    let pools = pools("");
    let mut world = world(&pools, "");
    for port in (1..9u16).filter(|port| port % 2 == 1) {
        assert_eq!(servers(&mut world, port..port + 2), [11, 12]);
        let from = world.flow(&syn(port)).unwrap().snat().unwrap();
        world.passes(&tcp(server(11, 80), snat(from.port()), RST | ACK));
    }
    world.wait(ROUND);
    let of = |hosts: &[u8], host| hosts.iter().filter(|it| **it == host).count();
    let hosts = servers(&mut world, 100..140);
    assert!((3..=14).contains(&of(&hosts, 11)), "four of four were refused: {hosts:?}");
    assert!(whys(&mut world)[0].contains("its share is 3"), "{:?}", whys(&mut world));
    // Nobody answers any of the forty: for long enough, both fail.
    world.wait(4 * SECOND);
    assert!(whys(&mut world)[1].contains("its share is"), "{:?}", whys(&mut world));
    world.wait(100 * SECOND);
    let hosts = servers(&mut world, 200..240);
    assert_eq!((of(&hosts, 11), of(&hosts, 12)), (20, 20), "it is forgotten");
}

#[test]
fn a_server_that_comes_up_takes_its_share_little_by_little() {
    let pools = pools("connection_ramp_duration = \"100s\"\npassive_monitor = false");
    let mut world = world(&pools, "");
    assert_eq!(servers(&mut world, 1..3), [11, 12], "at the start nothing ramps");
    world.shared.servers.set_down(number(&world, 0), true);
    world.shared.servers.set_down(number(&world, 0), false);
    let mut hosts = |port: u16| {
        let hosts = servers(&mut world, port..port + 80);
        world.wait(33 * SECOND);
        hosts.iter().filter(|host| **host == 11).count()
    };
    let risen = [hosts(100), hosts(200), hosts(300), hosts(400)];
    // Of 40 that would be its own: a sixteenth at first, then a third more each time.
    let expected = [2..=4, 12..=16, 24..=28, 40..=40];
    assert!(risen.iter().zip(expected).all(|(count, range)| range.contains(count)), "{risen:?}");
}
