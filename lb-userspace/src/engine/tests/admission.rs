//! Who may begin a flow, and how often: in the program, and where it cannot read a packet, here.

use lb_common::path::Verdict;

use super::{frames::*, world::*, *};
use crate::engine::explanation::{Explanation, Query, Ruling};

const DENIED: Verdict = Verdict::Drop(Event::DropDenied);
const LIMITED: Verdict = Verdict::Drop(Event::DropRateLimited);

/// 198.51.100.7 is the usual client.
const POLICY: &str = r#"
[[network_security_policy]]
name = "internal"
allow = ["198.51.100.0/24"]
deny = ["198.51.100.4/30"]
[[pool]]
name = "web"
servers = [{ address = "10.0.0.11", port = 8080 }]
[[pool]]
name = "resolvers"
servers = [{ address = "10.0.0.21", port = 53 }]"#;

fn guarded() -> Setup<'static> {
    let policy = "network_security_policy = \"internal\"";
    Setup { web: policy, dns: policy, pools: POLICY, ..Setup::default() }
}

fn limited(web: &'static str) -> World {
    Setup { web, ..Setup::default() }.world()
}

fn syn(port: u16) -> Message {
    tcp(client(port), web(), SYN)
}

fn explain(world: &mut World, client: std::net::SocketAddrV4) -> Explanation {
    let (now, vip) = (world.now(), web().into());
    let query =
        Query { protocol: Protocol::Tcp, client: client.into(), vip, payload: b"", stream: None };
    world.workers[0].engine.explain(now, query).unwrap()
}

#[test]
fn a_client_that_the_policy_denies_begins_no_flow() {
    let mut world = guarded().world();
    world.send(&syn(1), DENIED, &[]).nothing();
    let allowed = tcp(at([198, 51, 100, 8], 1), web(), SYN);
    world.begin(&allowed).to(hop(11));
    world.send(&tcp(at([203, 0, 113, 1], 1), web(), SYN), DENIED, &[]).nothing();
}

#[test]
fn a_flow_that_was_let_in_goes_on_when_the_policy_changes() {
    let mut world = Setup { pools: POLICY, ..Setup::default() }.world();
    world.begin(&syn(1)).to(hop(11));
    world.replace(&guarded()).unwrap();
    world.passes(&tcp(client(1), web(), ACK)).to(hop(11));
    world.send(&syn(2), DENIED, &[]).nothing();
}

#[test]
fn a_denied_client_does_not_get_in_by_options_or_in_fragments() {
    let mut world = guarded().world();
    let datagram = udp(client(1), dns(), &[b'q'; 64]);
    let with_options = Message { options: vec![7, 7, 4, 0, 0, 0, 0, 0], ..datagram.clone() };
    let irregular = Verdict::Punt(Event::PuntIrregular);
    world.send(&with_options, irregular, &[Event::DropDenied]).nothing();
    let fragments = datagram.fragments(40);
    let link = link_from(ROUTER);
    world.send_by(link, &fragments[0], irregular, &[]).nothing();
    world.send_by(link, &fragments[1], irregular, &[Event::DropDenied]).nothing();
}

#[test]
fn each_client_has_a_limit_of_its_own_and_all_have_one_together() {
    let mut world = limited("connection_rate_limit = 3\nclient_connection_rate_limit = 2");
    world.begin(&syn(1)).to(hop(11));
    world.begin(&syn(2)).to(hop(11));
    world.send(&syn(3), LIMITED, &[]).nothing();
    let other = |port| tcp(at([198, 51, 100, 9], port), web(), SYN);
    world.begin(&other(1)).to(hop(11));
    world.send(&other(2), LIMITED, &[]).nothing();
    // Half a second later each client has one more, and all have one.
    world.time += SECOND / 2;
    world.begin(&other(3)).to(hop(11));
    world.send(&syn(4), LIMITED, &[]).nothing();
    // Packets of flows that stand are not counted.
    for _ in 0..5 {
        world.passes(&tcp(client(1), web(), ACK)).to(hop(11));
    }
}

#[test]
fn an_explanation_tells_what_the_program_asks() {
    let mut world = guarded().world();
    let denied = explain(&mut world, client(1));
    assert_eq!((denied.decision, denied.server), (Ruling::Refused, None));
    let reason = "The service's network security policy denies the client.";
    assert_eq!(denied.reason.as_deref(), Some(reason));
    let [step] = &denied.steps[..] else { panic!("{denied:?}") };
    assert_eq!((step.number, &*step.result), (1, "198.51.100.4/30 is denied"));
    let allowed = explain(&mut world, at([198, 51, 100, 8], 1));
    assert_eq!(allowed.decision, Ruling::Server);
    assert_eq!(allowed.steps[0].result, "198.51.100.0/24 is allowed");
    let elsewhere = explain(&mut world, at([203, 0, 113, 1], 1));
    assert_eq!(elsewhere.steps[0].result, "in no prefix: denied");
    let mut world = limited("client_connection_rate_limit = 5");
    let limited = explain(&mut world, client(1));
    assert_eq!(limited.steps[0].number, 2);
    assert_eq!(limited.steps[0].what, "5 new flows a second of each client");
}
