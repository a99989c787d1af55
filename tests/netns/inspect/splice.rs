//! Connections that are spliced are the program's alone.

use std::{
    io::{Read, Write},
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
const LENGTH: usize = 1 << 30;

/// After so many bytes they come again: a prime, which no number of segments or of buffers is.
const PERIOD: usize = 1_048_573;

/// Writes the bytes.
fn write(mut to: impl Write, content: &[u8]) {
    let mut left = LENGTH;
    while left > 0 {
        let piece = &content[..left.min(PERIOD)];
        to.write_all(piece).unwrap();
        left -= piece.len();
    }
}

/// Reads the same bytes.
fn read(mut from: impl Read, content: &[u8]) {
    let mut buffer = vec![0; 1 << 18];
    let mut done = 0;
    while done < LENGTH {
        let place = done % PERIOD;
        let most = buffer.len().min(LENGTH - done).min(PERIOD - place);
        let length = from.read(&mut buffer[..most]).unwrap();
        assert!(length > 0, "the end after {done} bytes");
        assert!(buffer[..length] == content[place..place + length], "bytes differ after {done}");
        done += length;
    }
}

#[test]
fn a_gibibyte_each_way_arrives_and_no_packet_of_it_reaches_a_worker() {
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
    let content = pseudo_random(PERIOD);
    thread::scope(|scope| {
        let writing = stream.try_clone().unwrap();
        let content = &content;
        scope.spawn(move || write(writing, content));
        read(&mut stream, content);
    });
    assert_eq!(punted(&balancer), before, "{:?}", events(&balancer, "punt_"));
}
