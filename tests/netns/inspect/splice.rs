//! Connections that are spliced are the program's alone.

use std::{
    io::{Read as _, Write as _},
    thread,
};

use lb_tests::require_root;

use super::{
    WAITS,
    echo::{Echo, Speaks, name, ping},
    inspected, punted,
};
use crate::site::{Site, VIP, events, pseudo_random};

/// Each way, at the same time.
const LENGTH: usize = 64 << 20;

#[test]
fn no_packet_of_a_spliced_connection_reaches_a_worker() {
    if !require_root() {
        return;
    }
    let site = Site::new();
    let _server = Echo::start(&site, 1, 80, Speaks::WhenSpokenTo);
    let balancer = site.balance(&inspected("by.lua", ""), &[("by.lua", WAITS)]);
    let mut stream = site.connect(VIP).unwrap();
    stream.write_all(b"ping").unwrap();
    assert_eq!(name(&mut stream), "1");
    stream.read_exact(&mut [0; 4]).unwrap();
    for _ in 0..3 {
        assert_eq!(ping(&mut stream, b"pong").unwrap(), b"pong");
    }
    let before = punted(&balancer);
    let content = pseudo_random(LENGTH);
    let mut answer = vec![0; LENGTH];
    thread::scope(|scope| {
        let mut writing = stream.try_clone().unwrap();
        let content = &content;
        scope.spawn(move || writing.write_all(content).unwrap());
        stream.read_exact(&mut answer).unwrap();
    });
    assert!(answer == content, "bytes differ");
    assert_eq!(punted(&balancer), before, "{:?}", events(&balancer, "punt_"));
}
