//! Several queues: what a server sends comes by another queue than what the client does.

use std::{collections::BTreeSet, thread};

use lb_tests::{Balancer, require_root};

use super::{
    WAITS,
    echo::{Echo, Speaks, exchange},
    inspected,
};
use crate::site::{Site, VIP, configuration, events, pseudo_random};

/// Connections at once. Of each, chance decides by which queue the server's packets come.
const MANY: usize = 40;

#[test]
fn connections_work_whichever_worker_hears_of_them() {
    if !require_root() {
        return;
    }
    let site = Site::with_queues(2);
    let _server = Echo::start(&site, 1, 80, Speaks::WhenSpokenTo);
    // What another queue has overtaken must still find its flow.
    let configuration = configuration(&inspected("by.lua", ""));
    let configuration = configuration.replace("tcp_closing_timeout = \"100ms\"\n", "");
    let balancer = Balancer::start(&site.balancer, &configuration, &[("by.lua", WAITS)]).unwrap();
    let content = pseudo_random(200_000);
    thread::scope(|scope| {
        for _ in 0..MANY {
            scope.spawn(|| {
                let mut stream = site.connect(VIP).unwrap();
                assert_eq!(exchange(&mut stream, &content), ("1".into(), true));
            });
        }
    });
    let flows = balancer.flows_json().unwrap();
    let workers: BTreeSet<_> = flows.iter().map(|flow| flow["worker"].as_u64()).collect();
    assert_eq!(workers, BTreeSet::from([Some(0), Some(1)]));
    // A link that is full loses a connection's first segments, and what follows them is early.
    let mut dropped = events(&balancer, "drop_");
    dropped.retain(|(name, count)| *count > 0 && name != "drop_early");
    assert_eq!(dropped, []);
}
