//! Servers that refuse, are silent, or are many.

use std::io::{ErrorKind, Read as _, Write as _};

use lb_tests::require_root;

use super::{
    BY_PATH, WAITS,
    echo::{Echo, Speaks, exchange},
    inspected,
};
use crate::site::{Site, VIP, WEB, pool, wait_logged};

/// The service over one pool of two servers.
fn two_servers() -> String {
    format!(
        "{WEB}tcp_mode = \"inspect\"\ndatascripts = [\"by\"]\n[[datascript]]\nname = \"by\"\n\
         l4_request = \"by.lua\"\n{}",
        pool("web", [1, 2], 80),
    )
}

#[test]
fn the_next_server_answers_where_one_refuses() {
    if !require_root() {
        return;
    }
    let site = Site::new();
    let _server = Echo::start(&site, 2, 80, Speaks::WhenSpokenTo);
    let balancer = site.balance(&two_servers(), &[("by.lua", WAITS)]);
    for _ in 0..4 {
        let mut stream = site.connect(VIP).unwrap();
        assert_eq!(exchange(&mut stream, b"a few words"), ("2".into(), true));
    }
    for record in wait_logged(&balancer, 4) {
        assert_eq!(record["server"], "10.0.0.12:80", "{record:#}");
        assert_eq!(record["reason"], "finished", "{record:#}");
    }
}

#[test]
fn the_next_server_answers_where_one_is_silent() {
    if !require_root() {
        return;
    }
    let site = Site::new();
    let _server = Echo::start(&site, 2, 80, Speaks::WhenSpokenTo);
    let silence = "add table ip quiet
add chain ip quiet in { type filter hook input priority 0 ; }
add rule ip quiet in ip daddr 10.0.0.11 drop";
    silence.lines().for_each(|line| drop(site.servers.run(&["nft", line]).unwrap()));
    let balancer = site.balance(&two_servers(), &[("by.lua", WAITS)]);
    let mut streams = [(); 2].map(|()| site.connect(VIP).unwrap());
    streams.iter_mut().for_each(|stream| stream.write_all(b"a few ").unwrap());
    for stream in &mut streams {
        let mut answer = [0; 8];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"2\na few ");
    }
    drop(streams);
    let records = wait_logged(&balancer, 2);
    assert!(records.iter().all(|record| record["server"] == "10.0.0.12:80"), "{records:#?}");
}

#[test]
fn a_client_is_reset_where_no_server_is_left() {
    if !require_root() {
        return;
    }
    let site = Site::new();
    let balancer = site.balance(&two_servers(), &[("by.lua", WAITS)]);
    let mut stream = site.connect(VIP).unwrap();
    stream.write_all(b"anybody?").unwrap();
    let error = stream.read(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
    let records = wait_logged(&balancer, 1);
    assert_eq!(records[0]["reason"], "refused", "{records:#?}");
    assert!(balancer.flows_json().unwrap().is_empty());
}

/// Connections that are open at once.
const MANY: usize = 1000;

#[test]
fn a_thousand_connections_at_once_are_answered_by_the_right_servers() {
    if !require_root() {
        return;
    }
    let site = Site::new();
    let servers = site.web_servers(2);
    for server in &servers {
        std::fs::write(server.files().join("other"), "other").unwrap();
    }
    let balancer = site.balance(&inspected("by.lua", ""), &[("by.lua", BY_PATH)]);
    let mut streams: Vec<_> = (0..MANY).map(|_| site.connect(VIP).unwrap()).collect();
    let path = |index: usize| if index.is_multiple_of(3) { "other" } else { "" };
    // Cut in the middle: all of them are being collected from at once.
    streams.iter_mut().for_each(|stream| stream.write_all(b"GET /").unwrap());
    for (index, stream) in streams.iter_mut().enumerate() {
        write!(stream, "{} HTTP/1.0\r\n\r\n", path(index)).unwrap();
    }
    for (index, stream) in streams.iter_mut().enumerate() {
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let server = if path(index) == "other" { "X-Server: 2\r\n" } else { "X-Server: 1\r\n" };
        assert!(answer.contains(server), "{index}: {answer}");
    }
    drop(streams);
    let records = wait_logged(&balancer, MANY);
    assert!(records.iter().all(|record| record["reason"] == "finished"));
}
