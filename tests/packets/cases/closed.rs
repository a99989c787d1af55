//! Known flows whose packets are not forwarded here.

use lb_common::{
    address::Protocol::{Tcp, Udp},
    event::Event,
    flow::Flags,
    path::Verdict::Transmit,
    wire::TcpFlags,
};

use crate::{
    fixture::{Case, check},
    setup::{NO_SUCH, Setup, UNRESOLVED, dnat, dnat_reply, snat, snat_reply},
};

#[test]
fn a_syn_on_a_known_flow_is_shown_to_the_worker() {
    let syn = |flags| snat(Tcp).packet().flags(flags).payload(b"").bytes();
    let fast_open = snat(Tcp).packet().flags(TcpFlags::SYN);
    let cases = [
        Case::punt("SYN", syn(TcpFlags::SYN), Event::PuntSyn),
        Case::punt("SYN with data (RFC 7413)", fast_open.bytes(), Event::PuntSyn),
        Case::punt("SYN to expire", fast_open.ttl(1).bytes(), Event::PuntSyn),
    ];
    check(&Setup::ordinary(), &cases);
}

#[test]
fn a_closed_flow_takes_nothing() {
    let closed = [snat(Tcp), snat(Udp), snat_reply(Udp)];
    let closed = closed.map(|flow| {
        let flags = flow.flags.and(Flags::CLOSED);
        flow.flags(flags)
    });
    let mut cases = closed
        .clone()
        .map(|flow| Case::drop(format!("{flow:?}"), flow.packet().bytes(), Event::DropClosed));
    let syn = snat(Tcp).packet().flags(TcpFlags::SYN);
    cases[0] = Case::drop("a SYN on a closed flow", syn.bytes(), Event::DropClosed);
    check(&Setup::new(closed), &cases);
}

#[test]
fn closed_counts_more_than_a_response_to_show() {
    let both = Flags::REPLY.and(Flags::CLOSED).and(Flags::PUNT_RESPONSE);
    let flow = snat_reply(Udp).flags(both);
    let case = Case::drop("both", flow.packet().bytes(), Event::DropClosed);
    check(&Setup::new([flow]), &[case]);
}

#[test]
fn the_first_response_is_shown_to_the_worker() {
    let flags = Flags::REPLY.and(Flags::PUNT_RESPONSE);
    let [udp, tcp] = [dnat_reply(Udp).flags(flags), dnat_reply(Tcp).flags(flags)];
    let synack = tcp.packet().flags(TcpFlags::SYN | TcpFlags::ACK);
    let cases = [
        Case::punt("a datagram", udp.packet().bytes(), Event::PuntResponse),
        Case::punt("a SYN-ACK", synack.bytes(), Event::PuntResponse),
    ];
    check(&Setup::new([udp, tcp]), &cases);
}

#[test]
fn a_next_hop_that_is_not_known_is_the_workers_to_find() {
    let unresolved = snat(Tcp).by(UNRESOLVED);
    let missing = dnat(Udp).by(NO_SUCH);
    let cases = [
        Case::punt("not resolved", unresolved.packet().bytes(), Event::PuntNextHop),
        Case::punt("beyond the map", missing.packet().bytes(), Event::PuntNextHop),
    ];
    check(&Setup::new([unresolved, missing]), &cases);
}

#[test]
fn the_time_to_live_ends_here() {
    let flow = snat(Udp);
    let last = flow.packet().ttl(2);
    let cases = [
        Case::drop("1", flow.packet().ttl(1).bytes(), Event::DropTtlExpired),
        Case::drop("0", flow.packet().ttl(0).bytes(), Event::DropTtlExpired),
        Case::forwarded("2", &last, &flow.sent(&last), Transmit),
    ];
    check(&Setup::ordinary(), &cases);
}
