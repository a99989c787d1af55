//! A daemon that is killed, and its successor.

use std::io::{ErrorKind, Read as _, Write as _};

use lb_tests::{require_root, wait_until};

use super::{
    WAITS,
    echo::{Echo, Speaks, name, ping},
    inspected,
};
use crate::site::{SOON, Site, VIP, pseudo_random, wait_logged};

#[test]
fn spliced_connections_go_on_and_collecting_ones_are_reset() {
    if !require_root() {
        return;
    }
    let site = Site::new();
    let _server = Echo::start(&site, 1, 80, Speaks::WhenSpokenTo);
    let mut balancer = site.balance(&inspected("by.lua", ""), &[("by.lua", WAITS)]);
    let mut spliced = site.connect(VIP).unwrap();
    spliced.write_all(b"ping").unwrap();
    assert_eq!(name(&mut spliced), "1");
    spliced.read_exact(&mut [0; 4]).unwrap();
    assert_eq!(ping(&mut spliced, b"pong").unwrap(), b"pong");
    let mut collecting = site.connect(VIP).unwrap();
    collecting.write_all(b"pi").unwrap();
    // What is not acknowledged the client sends again, and the next daemon begins with it.
    let sockets = || site.client.run(&["ss", "-Htin", "state", "established"]);
    let acknowledged = || Ok(!sockets()?.contains("unacked:"));
    wait_until("an acknowledgement", SOON, acknowledged).unwrap();

    balancer.kill_9();
    assert_eq!(ping(&mut spliced, b"without a daemon").unwrap(), b"without a daemon");
    balancer.start_again().unwrap();
    collecting.write_all(b"ng").unwrap();
    let error = collecting.read(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
    let content = pseudo_random(1 << 15);
    assert!(ping(&mut spliced, &content).unwrap() == content);
    let own = spliced.local_addr().unwrap().to_string();
    drop(spliced);
    let mut new = site.connect(VIP).unwrap();
    new.write_all(b"ping").unwrap();
    assert_eq!(name(&mut new), "1");
    let records = wait_logged(&balancer, 1);
    assert!(records.iter().any(|record| record["client"] == *own), "{records:#?}");
}
