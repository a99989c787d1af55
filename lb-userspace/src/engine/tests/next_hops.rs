//! Packets that cannot leave yet, or never.

use std::net::Ipv4Addr;

use lb_common::{next_hop::NextHop, path::Verdict};

use super::{frames::*, world::*, *};
use crate::engine::log::EndReason;

const NEW: Verdict = Verdict::Punt(Event::PuntFirstPacket);
const WAITS: Verdict = Verdict::Punt(Event::PuntNextHop);
const NEIGHBOUR: NextHopId = NextHopId(7);

fn query(text: &[u8]) -> Message {
    udp(neighbour(1), dns(), text)
}

/// The client's MAC becomes known.
fn answer_for_client(world: &mut World) {
    world.net.toward.insert(Ipv4Addr::new(192, 0, 2, 77), Toward::Known(NEIGHBOUR));
}

#[test]
fn a_client_that_nobody_knows_is_asked_for_and_its_packets_leave_in_order() {
    let mut world = Setup::default().world();
    for text in [b"1", b"2"] {
        let step = world.send(&query(text), NEW, &[]);
        assert_eq!(step.resolve, [IpAddr::from([192, 0, 2, 77])]);
        assert_eq!((step.sent.len(), step.log.len()), (0, 0));
    }
    world.tick().nothing();
    assert_eq!(world.slots(), (0, 0), "nothing is decided yet");
    answer_for_client(&mut world);
    world.send(&query(b"3"), NEW, &[]).nothing();
    let sent = world.wait(SECOND).messages();
    assert_eq!(sent, [b"1", b"2", b"3"].map(|t| query(t).between(snat(1024), server(21, 53))));
    let answer = udp(server(21, 53), snat(1024), b"");
    world.passes(&answer).to(NEIGHBOUR);
}

#[test]
fn a_client_that_never_answers_costs_its_packets_after_three_seconds() {
    let mut world = Setup::default().world();
    world.send(&query(b"1"), NEW, &[]);
    world.wait(2 * SECOND).nothing();
    world.wait_counting(SECOND, &[Event::DropNextHopUnresolved]).nothing();
    answer_for_client(&mut world);
    world.wait(SECOND).nothing();
}

#[test]
fn a_client_that_turns_out_unreachable_is_counted_as_that() {
    let mut world = Setup::default().world();
    world.send(&query(b"1"), NEW, &[]);
    world.net.toward.insert(Ipv4Addr::new(192, 0, 2, 77), Toward::Unreachable);
    world.wait_counting(SECOND, &[Event::DropUnreachable]).nothing();
}

#[test]
fn packets_for_a_server_whose_mac_is_unknown_leave_in_order_when_it_is() {
    let mut world = Setup::default().world();
    world.net.entries.insert(hop(21), NextHop::default());
    let query = |text: &[u8]| udp(client(1), dns(), text);
    world.begin(&query(b"1")).nothing();
    world.send(&query(b"2"), WAITS, &[]).nothing();
    world.net.entries.clear();
    // One more was punted just before.
    let frame = link_from(ROUTER).frame(&query(b"3").packet());
    world.punt(0, 1, &frame, &[]).nothing();
    let sent = world.wait(SECOND).messages();
    assert_eq!(sent, [b"1", b"2", b"3"].map(|t| query(t).between(snat(1024), server(21, 53))));
    world.passes(&query(b"4")).to(hop(21));
}

#[test]
fn a_server_that_never_answers_costs_the_packets_and_not_the_flow() {
    let mut world = Setup::default().world();
    world.net.entries.insert(hop(21), NextHop::default());
    let query = udp(client(1), dns(), b"");
    world.begin(&query).nothing();
    world.send(&query, WAITS, &[]).nothing();
    world.wait_counting(3 * SECOND, &[Event::DropNextHopUnresolved; 2]).nothing();
    assert_eq!(world.gauge().0, 1);
}

#[test]
fn no_more_than_a_bounded_number_waits() {
    let mut world = Setup::default().world();
    for port in 0..128 {
        world.send(&udp(neighbour(port), dns(), b""), NEW, &[]);
    }
    world.send(&udp(neighbour(2000), dns(), b""), NEW, &[Event::DropNextHopUnresolved]);
    // No other has to suffer for it.
    world.net.entries.insert(hop(21), NextHop::default());
    world.begin(&udp(client(1), dns(), b"")).nothing();
}

#[test]
fn what_cannot_be_reached_is_refused_and_counted() {
    let mut world = Setup::default().world();
    let unreachable = [Event::DropUnreachable];
    let nowhere = udp(at([203, 0, 113, 1], 1), dns(), b"");
    world.send(&nowhere, NEW, &unreachable).nothing();
    world.net.toward.insert(Ipv4Addr::new(10, 0, 0, 11), Toward::Unreachable);
    let step = world.send(&tcp(client(1), web(), SYN), NEW, &unreachable);
    assert_eq!((step.sent.len(), step.log[0].reason), (1, EndReason::Refused));
    assert_eq!(step.log[0].server, Some(server(11, 8080).into()));
    assert_eq!((world.gauge(), world.slots()), ((0, 0), (0, 0)));
}
