//! Cookies that are wrong, old, or come again.

use std::{
    io::{Read as _, Write as _},
    net::SocketAddr,
};

use etherparse::PacketBuilder;
use lb_tests::{require_root, wait_until};
use rustix::net::{SendFlags, sendto};

use super::{
    WAITS,
    capture::{Capture, Segment},
    echo::{Echo, Speaks, name},
    hostile::raw_socket,
    inspected,
};
use crate::site::{SOON, Site, VIP, event, wait_logged};

#[test]
fn a_cookie_that_comes_again_gets_nowhere_and_an_old_or_a_wrong_one_is_reset() {
    if !require_root() {
        return;
    }
    let site = Site::new();
    let _server = Echo::start(&site, 1, 80, Speaks::WhenSpokenTo);
    let more = "collect_timeout = \"1s\"\n";
    let balancer = site.balance(&inspected("by.lua", more), &[("by.lua", WAITS)]);
    let [near, far] = [&site.client, &site.servers].map(|host| Capture::start(host, "eth0"));
    let mut stream = site.connect(VIP).unwrap();
    stream.write_all(b"ping").unwrap();
    assert_eq!(name(&mut stream), "1");
    stream.read_exact(&mut [0; 4]).unwrap();
    drop(stream);
    wait_logged(&balancer, 1);
    let said = near.segments();
    let returned = said.iter().find(|one| one.to.port() == 80 && !one.tcp.syn).unwrap();
    let socket = raw_socket(&site);
    let send = |acknowledgement: u32| {
        let Segment { from, to, tcp, .. } = returned;
        let packet = PacketBuilder::ipv4(from.ip().octets(), to.ip().octets(), 64)
            .tcp(from.port(), to.port(), tcp.sequence_number, 64240)
            .ack(acknowledgement);
        let mut bytes = Vec::new();
        packet.write(&mut bytes, &[]).unwrap();
        sendto(&socket, &bytes, SendFlags::empty(), &SocketAddr::from(*to)).unwrap();
    };
    let good = returned.tcp.acknowledgment_number;

    // It is waited for payload, which its sender does not have. The server hears nothing of it.
    far.segments();
    let before = event(&balancer, "punt_cookie");
    send(good);
    let records = wait_logged(&balancer, 2);
    assert_eq!(records[1]["reason"], "no_payload", "{records:#?}");
    assert_eq!(records[1]["client"], returned.from.to_string(), "{records:#?}");
    assert_eq!(event(&balancer, "punt_cookie"), before + 1);
    let to_server = far.segments().iter().filter(|one| one.tcp.syn).count();
    assert_eq!(to_server, 0);

    // A bit of the proof that is not what it was; then secrets as they are after two changes. One in
    // 128 looks like a later segment of a connection, which is dropped: then another serves.
    near.segments();
    let is_reset = |acknowledgement: u32| {
        let counts = || ["answer_reset", "punt_early"].map(|name| event(&balancer, name));
        let before = counts();
        send(acknowledgement);
        wait_until("an outcome", SOON, || Ok(counts() != before)).unwrap();
        counts()[0] == before[0] + 1
    };
    let before = event(&balancer, "punt_cookie");
    assert!([1 << 30, 1 << 29, 1 << 28].into_iter().any(|bit| is_reset(good ^ bit)));
    let map = balancer.pins().join("cookies");
    let words =
        ["bpftool", "map", "update", "pinned", map.to_str().unwrap(), "key", "0", "0", "0", "0"];
    assert!([1, 65, 129].into_iter().any(|first: u8| {
        let other: Vec<_> = (first..first + 32).map(|byte| byte.to_string()).collect();
        let value = std::iter::once("value").chain(other.iter().map(String::as_str));
        balancer.run(&[&words[..], &value.collect::<Vec<_>>()].concat()).unwrap();
        is_reset(good)
    }));
    assert_eq!(event(&balancer, "punt_cookie"), before);
    assert_eq!(
        near.segments().iter().filter(|one| one.from.port() == 80 && one.tcp.rst).count(),
        2
    );
    assert!(balancer.flows_json().unwrap().is_empty());
}
