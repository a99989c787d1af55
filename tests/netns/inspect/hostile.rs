//! Clients and scripts that do not do what one hopes for.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

use etherparse::PacketBuilder;
use lb_tests::{http_get, require_root, wait_until};
use rustix::net::{
    AddressFamily, SendFlags, SocketFlags, SocketType, ipproto, sendto, socket_with,
};
use serde_json::Value;

use super::{
    WAITS,
    echo::{Echo, Speaks, name, ping},
    inspected,
};
use crate::site::{SOON, Site, URL, VIP, WEB, client, event, pool, pseudo_random, wait_logged};

#[test]
fn a_server_that_speaks_first_is_heard_after_the_inspect_timeout() {
    if !require_root() {
        return;
    }
    let site = Site::new();
    let _server = Echo::start(&site, 1, 80, Speaks::First);
    let script = "avi.vs.log('bytes: ', #avi.l4.read())";
    let more = "inspect_timeout = \"300ms\"\n";
    let balancer = site.balance(&inspected("by.lua", more), &[("by.lua", script)]);
    let begun = Instant::now();
    let mut stream = site.connect(VIP).unwrap();
    assert_eq!(name(&mut stream), "1");
    let waited = begun.elapsed();
    assert!(waited >= Duration::from_millis(300), "{waited:?}");
    assert!(waited < Duration::from_secs(3), "{waited:?}");
    assert_eq!(ping(&mut stream, b"HELO").unwrap(), b"HELO");
    drop(stream);
    // Who speaks is not kept waiting.
    let mut stream = site.connect(VIP).unwrap();
    stream.write_all(b"HELO").unwrap();
    assert_eq!(name(&mut stream), "1");
    drop(stream);
    let records = wait_logged(&balancer, 2);
    let logged: Vec<_> = records.iter().map(|record| record["ds_log"].clone()).collect();
    assert_eq!(logged, ["bytes: 0", "bytes: 4"], "{records:#?}");
}

/// Sends a byte now and then, until that fails.
fn trickle(stream: &mut TcpStream) -> std::io::Error {
    stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    loop {
        if let Err(error) = stream.write_all(b".") {
            return error;
        }
        match stream.read(&mut [0]) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return error,
            Ok(length) => panic!("{length} bytes came"),
        }
    }
}

#[test]
fn a_byte_now_and_then_is_not_enough() {
    if !require_root() {
        return;
    }
    let site = Site::new();
    let more = "collect_timeout = \"1s\"\n";
    let script = "avi.l4.collect(1000)";
    let balancer = site.balance(&inspected("by.lua", more), &[("by.lua", script)]);
    let begun = Instant::now();
    let error = trickle(&mut site.connect(VIP).unwrap());
    assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
    let waited = begun.elapsed();
    assert!(waited >= Duration::from_millis(900), "{waited:?}");
    assert!(waited < Duration::from_secs(4), "{waited:?}");
    let records = wait_logged(&balancer, 1);
    assert_eq!(records[0]["reason"], "no_payload", "{records:#?}");
    assert_eq!(event(&balancer, "drop_no_payload"), 1);
}

#[test]
fn a_script_closes_with_a_fin_or_a_reset_and_fails_with_a_reset() {
    if !require_root() {
        return;
    }
    let site = Site::new();
    let script = "avi.l4.collect(4)
local word = avi.l4.read(4)
if word == 'fin.' then avi.vs.close_conn() end
if word == 'rst.' then avi.vs.close_conn(true) end
if word == 'fail' then error('on purpose') end
if word == 'more' then avi.l4.collect(70000) end
";
    let balancer = site.balance(&inspected("by.lua", ""), &[("by.lua", script)]);
    let expected = [
        ("fin.", None, "closed_by_script"),
        ("rst.", Some(ErrorKind::ConnectionReset), "closed_by_script"),
        ("fail", Some(ErrorKind::ConnectionReset), "script_error"),
        ("more", Some(ErrorKind::ConnectionReset), "script_error"),
    ];
    for (index, (word, error, reason)) in expected.into_iter().enumerate() {
        let mut stream = site.connect(VIP).unwrap();
        stream.write_all(word.as_bytes()).unwrap();
        let read = stream.read(&mut [0]);
        assert_eq!(read.map_err(|error| error.kind()), error.map_or(Ok(0), Err), "{word}");
        drop(stream);
        let records = wait_logged(&balancer, index + 1);
        assert_eq!(records[index]["reason"], reason, "{word}: {:#}", records[index]);
        let failure = records[index]["error"].to_string();
        assert_eq!(failure.contains("on purpose"), word == "fail", "{word}: {failure}");
    }
}

#[test]
fn a_response_script_sees_the_server_s_first_payload() {
    if !require_root() {
        return;
    }
    let site = Site::new();
    let _server = Echo::start(&site, 1, 80, Speaks::WhenSpokenTo);
    let response = "avi.l4.collect(2)\navi.vs.log('server: ', avi.l4.read(1))";
    let configuration = inspected("by.lua", "")
        .replace("l4_request = \"by.lua\"", "l4_request = \"by.lua\"\nl4_response = \"back.lua\"");
    let scripts = [
        ("by.lua", "avi.l4.collect(4)\navi.vs.log('client: ', avi.l4.read(4), ' ')"),
        ("back.lua", response),
    ];
    let balancer = site.balance(&configuration, &scripts);
    let content = pseudo_random(200_000);
    let content = [b"ping", &content[..]].concat();
    let mut stream = site.connect(VIP).unwrap();
    assert_eq!(super::echo::exchange(&mut stream, &content), ("1".into(), true));
    drop(stream);
    let records = wait_logged(&balancer, 1);
    assert_eq!(records[0]["ds_log"], "client: ping server: 1", "{records:#?}");
}

#[test]
fn an_acknowledgement_alone_is_no_response() {
    if !require_root() {
        return;
    }
    let site = Site::new();
    let listener = site.servers.enter(|| TcpListener::bind("10.0.0.11:80")).unwrap().unwrap();
    let response = "avi.vs.log('server: ', avi.l4.read())";
    let configuration = inspected("by.lua", "")
        .replace("l4_request = \"by.lua\"", "l4_request = \"by.lua\"\nl4_response = \"back.lua\"");
    let scripts = [("by.lua", WAITS), ("back.lua", response)];
    let balancer = site.balance(&configuration, &scripts);
    let mut stream = site.connect(VIP).unwrap();
    let sockets = || site.client.run(&["ss", "-Htin", "state", "established"]);
    for word in ["ping", "pong"] {
        stream.write_all(word.as_bytes()).unwrap();
        let acknowledged = || Ok(!sockets()?.contains("unacked:"));
        wait_until("an acknowledgement", SOON, acknowledged).unwrap();
    }
    let (mut server, _) = listener.accept().unwrap();
    server.write_all(b"late").unwrap();
    stream.read_exact(&mut [0; 4]).unwrap();
    drop((stream, server));
    let records = wait_logged(&balancer, 1);
    assert_eq!(records[0]["ds_log"], "server: late", "{records:#?}");
}

#[test]
fn clients_of_a_service_that_is_always_protected_prove_themselves() {
    if !require_root() {
        return;
    }
    let site = Site::new();
    let servers = site.web_servers(1);
    std::fs::write(servers[0].files().join("file"), pseudo_random(1 << 20)).unwrap();
    let protected = format!("{WEB}syn_protection = \"always\"\n{}", pool("web", [1], 80));
    let balancer = site.balance(&protected, &[]);
    for host in 2..10 {
        assert_eq!(http_get(&site.client, URL, Some(client(host))).unwrap().server, "1");
    }
    let mut body = Vec::new();
    site.begin_download("file").read_to_end(&mut body).unwrap();
    assert!(body == pseudo_random(1 << 20), "{} bytes", body.len());
    // A client asks again if its kernel thinks that it takes too long.
    assert!(event(&balancer, "answer_cookie") >= 9);
    let records = wait_logged(&balancer, 9);
    // On a busy machine a client sends again what a server that has closed answers with a reset.
    let closed = |record: &Value| matches!(record["reason"].as_str(), Some("finished" | "reset"));
    assert!(records.iter().all(closed), "{records:#?}");
}

/// A socket of the client's that takes packets with their IP header.
pub fn raw_socket(site: &Site) -> OwnedFd {
    let protocol = Some(ipproto::RAW);
    let raw = || socket_with(AddressFamily::INET, SocketType::RAW, SocketFlags::empty(), protocol);
    site.client.enter(raw).unwrap().unwrap()
}

#[test]
fn who_was_given_no_cookie_begins_nothing() {
    if !require_root() {
        return;
    }
    let site = Site::new();
    let _server = Echo::start(&site, 1, 80, Speaks::WhenSpokenTo);
    let balancer = site.balance(&inspected("by.lua", ""), &[("by.lua", WAITS)]);
    let socket = raw_socket(&site);
    let to: std::net::SocketAddr = "192.0.2.10:0".parse().unwrap();
    const MANY: u16 = 1000;
    for number in 0..MANY {
        let ack = PacketBuilder::ipv4([198, 18, 0, 1], [192, 0, 2, 10], 64)
            .tcp(1024 + number, 80, 7, 64240)
            .ack(u32::from(number).wrapping_mul(0x9e37_79b9));
        let mut packet = Vec::new();
        ack.write(&mut packet, b"payload").unwrap();
        sendto(&socket, &packet, SendFlags::empty(), &to).unwrap();
    }
    // One in 128 looks as if it followed a cookie; nothing begins by that.
    let reset = || Ok(event(&balancer, "answer_reset") > u64::from(MANY) - 40);
    wait_until("resets", SOON, reset).unwrap();
    assert_eq!(event(&balancer, "punt_cookie"), 0);
    assert!(balancer.flows_json().unwrap().is_empty());
}
