//! Who may begin a flow, and how often.

use lb_common::{
    address::Protocol::{Tcp, Udp},
    admission::Rate,
    event::Event,
    path::Verdict,
    service::Service,
    wire::TcpFlags,
};

use crate::{
    fixture::{Case, check},
    packet::{Packet, endpoints},
    setup::{CLIENT, POLICY, PORT, Setup, VIP, snat},
};

fn from(client: [u8; 4]) -> Vec<u8> {
    Packet::of(Udp, endpoints((client, 5000), (VIP, PORT))).bytes()
}

fn denied(name: &str, client: [u8; 4]) -> Case {
    Case::drop(name, from(client), Event::DropDenied)
}

fn allowed(name: &str, client: [u8; 4]) -> Case {
    Case::punt(name, from(client), Event::PuntFirstPacket)
}

fn limited(name: &str, client: [u8; 4]) -> Case {
    Case::drop(name, from(client), Event::DropRateLimited)
}

#[test]
fn the_longest_prefix_of_the_policy_says_who_may_begin_a_flow() {
    let service = Service { id: 1, policy: POLICY, ..Service::default() };
    let cases = [
        allowed("in the allowed prefix", [198, 51, 100, 7]),
        allowed("at its end", [198, 51, 100, 255]),
        denied("in a denied prefix within it", [198, 51, 100, 64]),
        denied("at the end of that", [198, 51, 100, 127]),
        allowed("an allowed host within that", [198, 51, 100, 65]),
        allowed("an allowed host elsewhere", [203, 0, 113, 9]),
        denied("its neighbour", [203, 0, 113, 8]),
        denied("in no prefix", [10, 0, 0, 1]),
    ];
    check(&Setup::ordinary().asking(service), &cases);
}

#[test]
fn a_policy_is_not_asked_about_flows_that_are_established_or_for_others() {
    let service = Service { id: 1, policy: POLICY, ..Service::default() };
    let mut established = snat(Tcp);
    established.from.source = [10, 0, 0, 1];
    let packet = established.packet();
    let out = established.sent(&packet);
    let cases = [
        Case::forwarded("a denied client's flow", &packet, &out, Verdict::Transmit),
        Case::pass(
            "not to a service",
            Packet::of(Udp, endpoints(([10, 0, 0, 1], 5000), (VIP, PORT + 1))).bytes(),
            Event::PassNotOurs,
        ),
    ];
    check(&Setup::new([established]).asking(service), &cases);
}

#[test]
fn a_client_may_begin_so_many_flows_and_others_as_many() {
    // One in a thousand seconds: no test runs so long.
    let client_rate = Rate { interval: u32::MAX, burst: 2 };
    let service = Service { id: 1, client_rate, ..Service::default() };
    let other = [198, 51, 100, 8];
    let cases = [
        allowed("the first", CLIENT),
        allowed("the second", CLIENT),
        limited("the third", CLIENT),
        allowed("another client's first", other),
        limited("the fourth", CLIENT),
        allowed("another client's second", other),
        limited("another client's third", other),
    ];
    check(&Setup::ordinary().asking(service), &cases);
}

#[test]
fn all_clients_together_may_begin_so_many_and_one_that_is_refused_costs_nothing() {
    let service = Service {
        id: 1,
        rate: Rate { interval: u32::MAX, burst: 3 },
        client_rate: Rate { interval: u32::MAX, burst: 1 },
        ..Service::default()
    };
    let client = |host| [198, 51, 100, host];
    let cases = [
        allowed("one", client(1)),
        limited("one again", client(1)),
        limited("and again", client(1)),
        allowed("two", client(2)),
        allowed("three", client(3)),
        limited("four", client(4)),
    ];
    check(&Setup::ordinary().asking(service), &cases);
}

/// What belongs to a connection that is gone is reset by a worker, however many flows begin.
#[test]
fn limits_count_only_packets_that_begin_flows() {
    let rate = Rate { interval: u32::MAX, burst: 1 };
    let service = Service { id: 1, rate, client_rate: rate, ..Service::default() };
    let tcp = |flags| Packet::tcp(endpoints((CLIENT, 5000), (VIP, PORT))).flags(flags).bytes();
    let punted = |name, flags| Case::punt(name, tcp(flags), Event::PuntFirstPacket);
    let limited = |name, flags| Case::drop(name, tcp(flags), Event::DropRateLimited);
    let cases = [
        punted("of no connection", TcpFlags::ACK),
        punted("of none either", TcpFlags::ACK | TcpFlags::FIN),
        punted("the one new flow", TcpFlags::SYN),
        limited("another", TcpFlags::SYN),
        punted("of no connection, after that", TcpFlags::ACK),
    ];
    check(&Setup::ordinary().asking(service), &cases);
}

#[test]
fn limits_do_not_touch_established_flows() {
    let rate = Rate { interval: u32::MAX, burst: 1 };
    let service = Service { id: 1, rate, client_rate: rate, ..Service::default() };
    let flow = snat(Tcp);
    let packet = flow.packet();
    let forwarded = |name| Case::forwarded(name, &packet, &flow.sent(&packet), Verdict::Transmit);
    let cases = [
        allowed("the one new flow", CLIENT),
        forwarded("of an established flow"),
        limited("another new flow", CLIENT),
        forwarded("still"),
    ];
    check(&Setup::ordinary().asking(service), &cases);
}
