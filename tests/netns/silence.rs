//! The balancer's kernel has no word in what concerns a virtual service.

use std::{
    io::{ErrorKind, Read, Write},
    net::UdpSocket,
};

use lb_tests::{require_root, wait_until};

use crate::site::{SOON, Site, URL, VIP, WEB, event, kernel_answers, pool, wait_logged};

#[test]
fn the_kernel_answers_no_packet_of_a_service() {
    if !require_root() {
        return;
    }
    let site = Site::new();
    let _servers = site.web_servers(1);
    let tcp = format!("{WEB}datascripts = [\"close\"]\nidle_timeout = \"300ms\"\n");
    let udp = WEB.replace("\"tcp\"", "\"udp\"").replace("name = \"web\"", "name = \"udp\"");
    let set = "[[datascript]]\nname = \"close\"\nl4_request = \"close.lua\"\n";
    let script = "if avi.vs.client_ip() == '192.0.2.9' then avi.vs.close_conn(true) end";
    let rest = [tcp, udp, set.into(), pool("web", [1], 80)].concat();
    let mut balancer = site.balance(&rest, &[("close.lua", script)]);
    assert_eq!(kernel_answers(&site.balancer), [0, 0]);

    assert_eq!(site.ask(), "1");
    let closed = ["curl", "--silent", "--interface", "192.0.2.9", URL];
    let closed = site.client.try_run(&closed, SOON).unwrap();
    assert_eq!(closed.status.code(), Some(7), "curl: failed to connect");

    // A late packet, of a flow that is known no more.
    let mut late = site.connect(VIP).unwrap();
    wait_until("the flow's end", SOON, || Ok(balancer.flows_json()?.is_empty())).unwrap();
    late.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    let error = late.read(&mut [0; 1]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
    assert_eq!(event(&balancer, "answer_reset"), 1);
    wait_logged(&balancer, 3);

    // A server's port that nobody listens on: the server's ICMP is not the balancer's own.
    let udp = site.client.enter(|| UdpSocket::bind("192.0.2.2:0")).unwrap().unwrap();
    udp.connect(VIP).unwrap();
    udp.set_read_timeout(Some(SOON)).unwrap();
    udp.send(b"anybody?").unwrap();
    udp.recv(&mut [0; 1]).unwrap_err();

    balancer.kill_9();
    let syn = ["curl", "--silent", "--connect-timeout", "0.3", URL];
    let unanswered = site.client.try_run(&syn, SOON).unwrap();
    assert_eq!(unanswered.status.code(), Some(28), "curl: timed out");
    udp.send(b"still?").unwrap();
    assert_eq!(kernel_answers(&site.balancer), [0, 0]);
}

#[test]
fn what_is_no_service_is_the_kernels() {
    if !require_root() {
        return;
    }
    let site = Site::new();
    let balancer = site.balance(&format!("{WEB}{}", pool("web", [1], 80)), &[]);
    let error = site.connect("192.0.2.10:81").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{error}");
    assert_eq!(kernel_answers(&site.balancer), [1, 0]);
    assert!(event(&balancer, "pass_not_ours") > 0);
    let udp = site.client.enter(|| UdpSocket::bind("192.0.2.2:0")).unwrap().unwrap();
    udp.connect("192.0.2.10:81").unwrap();
    udp.set_read_timeout(Some(SOON)).unwrap();
    udp.send(b"anybody?").unwrap();
    let error = udp.recv(&mut [0; 1]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{error}");
    assert_eq!(kernel_answers(&site.balancer), [1, 1]);
}
