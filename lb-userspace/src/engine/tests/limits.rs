//! What is bounded, refused and counted; what is established is never the victim.

use lb_common::path::Verdict;

use super::{frames::*, world::*, *};
use crate::engine::log::EndReason;

const NEW: Verdict = Verdict::Punt(Event::PuntFirstPacket);

#[test]
fn a_full_table_takes_no_new_flow_and_keeps_the_old() {
    let instance = "flow_capacity = 64\nhalf_open_share = 100";
    let mut world = Setup { instance, ..Setup::default() }.world();
    for port in 1..=64 {
        world.begin(&udp(client(port), dns(), b"")).to(hop(21));
    }
    // Nothing is logged and no script runs for what a flood sends.
    let full = [Event::DropFlowTableFull];
    world.send(&udp(client(65), dns(), b""), NEW, &full).nothing();
    world.send(&tcp(client(65), web(), SYN), NEW, &full).nothing();
    world.passes(&udp(client(1), dns(), b"")).to(hop(21));
    assert_eq!(world.gauge(), (64, 64));
    assert_eq!(world.wait(60 * SECOND).log.len(), 64);
    world.begin(&udp(client(65), dns(), b"")).to(hop(21));
}

#[test]
fn flows_that_are_not_established_take_only_their_share() {
    let instance = "flow_capacity = 64\nhalf_open_share = 50";
    let mut world = Setup { instance, ..Setup::default() }.world();
    for port in 1..=32 {
        world.begin(&udp(client(port), dns(), b"")).to(hop(21));
    }
    let limit = [Event::DropHalfOpenLimit];
    world.send(&udp(client(33), dns(), b""), NEW, &limit).nothing();
    world.passes(&udp(server(21, 53), snat(1024), b"")).to(ROUTER);
    world.wait(ROUND).nothing();
    assert_eq!(world.gauge(), (32, 31));
    world.begin(&udp(client(33), dns(), b"")).to(hop(21));
    world.send(&udp(client(34), dns(), b""), NEW, &limit).nothing();
}

/// What a flood leaves to others: half of what may be half open is for clients that prove themselves.
#[test]
fn a_syn_is_answered_with_a_cookie_once_half_of_the_share_is_taken() {
    let instance = "flow_capacity = 64\nhalf_open_share = 50";
    let mut world = Setup { instance, ..Setup::default() }.world();
    for port in 1..=16 {
        world.begin(&tcp(client(port), web(), SYN)).to(hop(11));
    }
    let syn = tcp(client(17), web(), SYN);
    let answer = world.send(&syn, NEW, &[Event::AnswerCookie]).to(ROUTER);
    let Transport::Tcp { flags, sequence: cookie, acknowledgement } = answer.transport else {
        panic!("{answer:?}");
    };
    assert_eq!((flags, world.gauge()), (SYN | ACK, (16, 16)));
    let acknowledgement_of_ours = cookie.wrapping_add(1);
    let transport = Transport::Tcp {
        flags: ACK,
        sequence: acknowledgement,
        acknowledgement: acknowledgement_of_ours,
    };
    let returned = Message { transport, ..tcp(client(17), web(), ACK) };
    world.send(&returned, Verdict::Punt(Event::PuntCookie), &[]).to(hop(11));
    assert_eq!(world.gauge(), (17, 17));
}

#[test]
fn flows_closed_by_a_script_do_not_fill_the_table() {
    let instance = "flow_capacity = 64\nhalf_open_share = 50";
    let request = "avi.vs.close_conn()";
    let mut world = Setup { instance, request, ..Setup::default() }.world();
    for port in 1..=32 {
        let closed = [Event::DropScriptClosed];
        world.send(&udp(client(port), dns(), b""), NEW, &closed).nothing();
    }
    world.wait(ROUND).nothing();
    assert_eq!(world.gauge(), (32, 32));
    let limit = [Event::DropHalfOpenLimit];
    world.send(&udp(client(33), dns(), b""), NEW, &limit).nothing();
}

#[test]
fn without_a_free_port_flows_are_refused_until_one_is_given_back() {
    let mut world = Setup { instance: "snat_ports = \"7-8\"", ..Setup::default() }.world();
    world.begin(&tcp(client(1), web(), SYN)).to(hop(11));
    world.begin(&tcp(client(2), web(), SYN)).to(hop(11));
    let exhausted = [Event::DropSnatPortsExhausted];
    let step = world.send(&tcp(client(3), web(), SYN), NEW, &exhausted);
    assert_eq!((step.sent.len(), step.log.len()), (1, 1));
    assert_eq!(step.log[0].reason, EndReason::Refused);
    assert_eq!(step.log[0].server, Some(server(11, 8080).into()));
    assert_eq!((world.gauge(), world.slots()), ((2, 2), (4, 0)));
    world.begin(&udp(client(3), dns(), b"")).to(hop(21));
    assert_eq!(world.wait(20 * SECOND).log.len(), 3);
    world.begin(&tcp(client(3), web(), SYN)).to(hop(11));
}

#[test]
fn a_reply_key_that_another_dnat_flow_uses_is_refused() {
    let pools = Setup::default().pools.replace("servers", "forwarding = \"dnat\"\nservers");
    let extra = r#"
[[virtual_service]]
name = "web2"
address = "192.0.2.11"
port = 80
protocol = "tcp"
pool = "web""#;
    let mut world = Setup { pools: &pools, dns: extra, ..Setup::default() }.world();
    world.begin(&tcp(client(1), web(), SYN)).to(hop(11));
    let other = tcp(client(1), at([192, 0, 2, 11], 80), SYN);
    let step = world.send(&other, NEW, &[Event::DropReplyConflict]);
    assert_eq!((step.sent.len(), step.log.len(), world.slots()), (1, 1, (2, 0)));
}
