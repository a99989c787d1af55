//! When flows end, and what becomes of their slots, ports and counts.

use lb_common::{path::Verdict, wire::TcpFlags};

use super::{frames::*, world::*, *};
use crate::engine::log::EndReason;

const NEW: Verdict = Verdict::Punt(Event::PuntFirstPacket);
const AGAIN: Verdict = Verdict::Punt(Event::PuntSyn);

fn from_client(flags: u8) -> Message {
    tcp(client(40_000), web(), flags)
}

fn from_server(flags: u8) -> Message {
    tcp(server(11, 8080), snat(1024), flags)
}

/// A world with a connection whose handshake is complete.
fn established(instance: &str) -> World {
    let mut world = Setup { instance, ..Setup::default() }.world();
    world.begin(&from_client(SYN)).to(hop(11));
    world.passes(&from_server(SYN | ACK)).to(ROUTER);
    world.passes(&from_client(ACK)).to(hop(11));
    world.wait(ROUND).nothing();
    world
}

/// The flow lives for `timeout`, less a round of the clock hand, and then ends for this reason.
fn ends(world: &mut World, timeout: Duration, reason: EndReason) {
    world.wait(timeout - 2 * ROUND).nothing();
    assert_eq!(world.wait(3 * ROUND).ended().reason, reason);
    assert_eq!((world.gauge(), world.slots()), ((0, 0), (0, 0)));
}

#[test]
fn a_connection_that_is_never_completed_ends_soon() {
    let mut world = Setup::default().world();
    world.begin(&from_client(SYN)).to(hop(11));
    world.passes(&from_server(SYN | ACK)).to(ROUTER);
    assert_eq!(world.gauge(), (1, 1));
    ends(&mut world, 10 * SECOND, EndReason::HalfOpen);
}

#[test]
fn an_established_connection_ends_when_idle() {
    let mut world = established("");
    assert_eq!(world.gauge(), (1, 0));
    world.wait(500 * SECOND).nothing();
    world.passes(&from_server(ACK)).to(ROUTER);
    ends(&mut world, 600 * SECOND, EndReason::Idle);
}

#[test]
fn a_connection_closed_by_one_side_lives_on_and_by_both_ends_soon() {
    let mut world = established("tcp_closing_timeout = \"5s\"");
    world.passes(&from_client(FIN | ACK)).to(hop(11));
    world.wait(20 * SECOND).nothing();
    world.passes(&from_server(FIN | ACK)).to(ROUTER);
    world.passes(&from_client(ACK)).to(hop(11));
    ends(&mut world, 5 * SECOND, EndReason::Finished);
}

#[test]
fn a_reset_ends_a_connection_soon() {
    let mut world = established("tcp_closing_timeout = \"5s\"");
    world.passes(&from_server(RST)).to(ROUTER);
    ends(&mut world, 5 * SECOND, EndReason::Reset);
}

#[test]
fn a_server_that_refuses_is_noticed_however_soon_the_flow_ends() {
    let instance = "tcp_closing_timeout = \"100ms\"";
    let mut world = Setup { instance, ..Setup::default() }.world();
    world.begin(&from_client(SYN)).to(hop(11));
    let server = world.flow(&from_client(SYN)).unwrap().record.server;
    world.passes(&from_server(RST | ACK)).to(ROUTER);
    assert_eq!(world.wait(SECOND).ended().reason, EndReason::Reset);
    assert!(world.shared.servers.standing(server).is_failing());
}

#[test]
fn datagrams_of_one_side_end_soon_and_of_both_when_idle() {
    let mut world = Setup { instance: "udp_one_way_timeout = \"4s\"", ..Setup::default() }.world();
    let query = udp(client(1), dns(), b"?");
    world.begin(&query).to(hop(21));
    ends(&mut world, 4 * SECOND, EndReason::OneWay);
    let port = world.begin(&query).to(hop(21)).from;
    world.passes(&udp(server(21, 53), port, b"!")).to(ROUTER);
    ends(&mut world, 30 * SECOND, EndReason::Idle);
}

#[test]
fn a_slot_is_used_again_only_after_a_grace_period_and_late_counts_are_logged() {
    let mut world = established("");
    let found = world.flow(&from_client(ACK)).unwrap();
    world.time += 601 * SECOND;
    world.tick().nothing();
    assert_eq!((world.gauge(), world.slots()), ((0, 0), (0, 2)), "retired, not free");
    for id in [found.id.0, found.record.partner] {
        let slot = world.shared.flows.slot(SlotId(id));
        assert!(!slot.claim());
        // A run of the program that found the slot before counts only now.
        slot.touch(tick(world.time), 100, TcpFlags(0));
    }
    world.send(&from_client(ACK), Verdict::Answer(Event::AnswerReset), &[]);
    let step = world.wait(SECOND);
    let ended = step.ended();
    assert_eq!((ended.packets, ended.reply_packets), (3, 2));
    assert_eq!((ended.bytes, ended.reply_bytes), (54 + 54 + 100, 54 + 100));
    assert_eq!(world.slots(), (0, 0));
}

#[test]
fn a_syn_on_a_finished_connection_begins_a_new_one() {
    let mut world = established("");
    world.passes(&from_client(FIN | ACK)).to(hop(11));
    world.passes(&from_server(FIN | ACK)).to(ROUTER);
    let begun = world.send(&from_client(SYN), AGAIN, &[]).to(hop(11));
    assert_eq!(begun.from, snat(1025), "the old port still rests");
    assert_eq!(world.gauge(), (1, 1));
    assert_eq!(world.wait(ROUND).ended().reason, EndReason::Reused);
    assert_eq!(world.gauge(), (1, 1));
    ends(&mut world, 10 * SECOND, EndReason::HalfOpen);
}

#[test]
fn a_syn_that_comes_to_another_worker_has_the_owner_end_the_finished_flow() {
    let mut world = Setup { workers: 2, ..Setup::default() }.world();
    world.begin(&from_client(SYN)).to(hop(11));
    world.passes(&from_server(SYN | ACK)).to(ROUTER);
    world.passes(&from_client(RST)).to(hop(11));
    let again = link_from(ROUTER).frame(&from_client(SYN).packet());
    world.punt(1, 1, &again, &[Event::DropClosed]).nothing();
    let step = world.wait(ROUND);
    assert_eq!((step.ended().reason, step.ended().worker), (EndReason::Reused, 0));
    assert_eq!((world.gauge(), world.slots()), ((0, 0), (0, 0)));
    world.punt(1, 1, &again, &[]).to(hop(11));
    assert_eq!(world.gauge(), (1, 1));
}

#[test]
fn a_syn_that_is_repeated_is_forwarded_and_decides_nothing() {
    let request = "avi.vs.log('ran')";
    let mut world = Setup { request, ..Setup::default() }.world();
    let first = world.begin(&from_client(SYN)).to(hop(11));
    assert_eq!(world.send(&from_client(SYN), AGAIN, &[]).to(hop(11)), first);
    assert_eq!(world.gauge(), (1, 1));
    let step = world.wait(11 * SECOND);
    assert_eq!((&*step.ended().ds_log, step.ended().packets), ("ran", 2));
}

#[test]
fn a_segment_without_a_flow_is_answered_with_a_reset_and_a_reset_is_not() {
    // Where a service never answers with cookies, the program knows of no segment what it is.
    let mut world = Setup { web: "syn_protection = \"off\"", ..Setup::default() }.world();
    let step = world.send(&from_client(ACK), NEW, &[Event::DropNoFlow]);
    let reset = Transport::Tcp { flags: RST, sequence: 5000, acknowledgement: 0 };
    let expected = Message { transport: reset, ..tcp(web(), client(40_000), RST) };
    assert_eq!(step.to(ROUTER), expected);
    let step =
        world.send(&from_client(SYN | FIN | ACK).with_payload(b"abc"), NEW, &[Event::DropNoFlow]);
    assert_eq!(step.to(ROUTER), expected);
    world.send(&from_client(RST), NEW, &[Event::DropNoFlow]).nothing();
    world.send(&from_client(RST | ACK), NEW, &[Event::DropNoFlow]).nothing();
}
