//! By which interface a packet leaves.

use std::fs::File;

use lb_common::{
    address::Protocol::{Tcp, Udp},
    next_hop::NextHop,
    path::Verdict::Redirect,
};
use lb_tests::{End, Namespace, veth};
use rustix::{
    fd::AsFd as _,
    thread::{LinkNameSpaceType, move_into_link_name_space},
};

use crate::{
    fixture::{Case, check},
    observed::{XDP_REDIRECT, XDP_TX},
    program::{Arrival, Program},
    setup::{BACK, ELSEWHERE, LOOPBACK, REDIRECT, Setup, next_hop, snat, snat_reply},
};

#[test]
fn another_interface_is_a_redirect() {
    let flow = snat(Tcp).by(REDIRECT);
    let [packet, tagged] = [flow.packet(), flow.packet().tag(0x2000 | 5)];
    let out = Redirect { interface: ELSEWHERE };
    let cases = [
        Case::forwarded("untagged", &packet, &flow.sent(&packet), out),
        Case::forwarded("tagged", &tagged, &flow.sent(&tagged), out),
    ];
    check(&Setup::new([flow]), &cases);
}

/// A veth whose far end runs no XDP program.
#[test]
fn an_interface_that_does_not_bounce_is_redirected_to() {
    let flow = snat(Tcp).by(REDIRECT);
    let packet = flow.packet();
    let mut setup = Setup::new([flow.clone()]);
    let kept = NextHop { bounces: 0, ..next_hop(REDIRECT, LOOPBACK, 0) };
    setup.next_hops = vec![(REDIRECT, kept)];
    let out = Redirect { interface: LOOPBACK };
    check(&setup, &[Case::forwarded("kept", &packet, &flow.sent(&packet), out)]);
}

/// Which interface is the same one depends on where the packet came in, not on a number.
#[test]
fn the_way_in_decides_whether_the_way_out_is_another() {
    if !lb_tests::require_root() {
        return;
    }
    let [host, peer] = ["balancer", "peer"].map(|role| Namespace::new(role).unwrap());
    let end = |namespace, device| End { namespace, device, addresses: &[] };
    veth(&end(&host, "eth0"), &end(&peer, "eth0"), 2).unwrap();
    let interface = index(&host, "eth0");
    let (out, back) = (snat(Udp).by(REDIRECT), snat_reply(Udp).by(BACK));
    let mut setup = Setup::new([out.clone(), back.clone()]);
    setup.next_hops =
        vec![(REDIRECT, next_hop(REDIRECT, interface, 0)), (BACK, next_hop(BACK, LOOPBACK, 0))];
    let mut program = Program::load(&setup, 1);
    // The kernel looks the interface up where the calling thread is.
    let run = move || {
        enter(&host);
        for (queue, flow, action) in
            [(0, &out, XDP_TX), (1, &out, XDP_TX), (1, &back, XDP_REDIRECT)]
        {
            let arrival = Arrival { interface, queue, metadata: 0 };
            let observed = program.run_from(&flow.packet().bytes(), arrival).unwrap();
            assert_eq!(observed.action, action, "queue {queue}: {flow:?}");
            assert_eq!(observed.bytes, flow.sent(&flow.packet()).bytes());
        }
    };
    std::thread::spawn(run).join().unwrap();
}

fn index(namespace: &Namespace, device: &str) -> u32 {
    let links = namespace.ip(&["-json", "link", "show", device]).unwrap();
    let links: serde_json::Value = serde_json::from_str(&links).unwrap();
    u32::try_from(links[0]["ifindex"].as_u64().unwrap()).unwrap()
}

fn enter(namespace: &Namespace) {
    let file = File::open(format!("/run/netns/{}", namespace.name())).unwrap();
    move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
}
