//! Networks that lose and duplicate packets: every byte arrives, once and in order.
//!
//! By nftables and by [`Road`], for `tc netem` is not in every kernel: see `netem`.

use std::{thread, time::Duration};

use lb_tests::{Balancer, Namespace, require_root};

use super::{
    WAITS,
    echo::{Echo, Speaks, exchange},
};
use crate::{
    road::{Impairment, Road, Tally},
    site::{Site, VIP, WEB, configuration, pool, pseudo_random},
};

/// Connections at once.
const MANY: usize = 30;
const LENGTH: usize = 1 << 20;
/// Without timestamps a client's retransmission timer, once doubled, stays so until something else
/// is acknowledged (RFC 6298 §3).
const PATIENCE: Duration = Duration::from_secs(120);

/// Does something to so many in a hundred segments that a host receives, and that it sends.
fn impair(host: &Namespace, percent: u8, verdict: &str) {
    host.run(&["nft", "add table netdev road"]).unwrap();
    for hook in ["ingress", "egress"] {
        let chain = format!(
            "add chain netdev road {hook} {{ type filter hook {hook} device eth0 priority 0 ; }}"
        );
        let chance = format!("numgen random mod 100 < {percent}");
        let rule =
            format!("add rule netdev road {hook} ip protocol tcp {chance} counter {verdict}");
        host.run(&["nft", &chain]).unwrap();
        host.run(&["nft", &rule]).unwrap();
    }
}

/// Many connections over links that are impaired on both sides.
fn exchange_over(percent: u8, verdict: &str) {
    if !require_root() {
        return;
    }
    let site = Site::new();
    let balancer = balance(&site);
    [&site.client, &site.servers].into_iter().for_each(|host| impair(host, percent, verdict));
    exchange_many(&site, LENGTH);
    for host in [&site.client, &site.servers] {
        let rules = host.run(&["nft", "list", "table", "netdev", "road"]).unwrap();
        assert!(rules.contains("counter packets "), "{rules}");
        assert!(!rules.contains("counter packets 0 "), "{rules}");
    }
    drop(balancer);
}

/// Two servers behind an inspected service.
pub fn balance(site: &Site) -> (Balancer, [Echo; 2]) {
    let servers = [1, 2].map(|number| Echo::start(site, number, 80, Speaks::WhenSpokenTo));
    let rest = format!(
        "{WEB}tcp_mode = \"inspect\"\ncollect_timeout = \"60s\"\ndatascripts = [\"by\"]\n[[datascript]]\nname = \"by\"\n\
         l4_request = \"by.lua\"\n{}",
        pool("web", [1, 2], 80),
    );
    // What is lost before a FIN comes again after it, 200 ms later and more.
    let configuration = configuration(&rest).replace("tcp_closing_timeout = \"100ms\"\n", "");
    let balancer = Balancer::start(&site.balancer, &configuration, &[("by.lua", WAITS)]).unwrap();
    (balancer, servers)
}

/// So many bytes each way on many connections at once.
pub fn exchange_many(site: &Site, length: usize) {
    let content = pseudo_random(length);
    thread::scope(|scope| {
        for _ in 0..MANY {
            scope.spawn(|| {
                let mut stream = site.connect(VIP).unwrap();
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                let (server, is_whole) = exchange(&mut stream, &content);
                assert!(is_whole, "bytes from server {server} differ");
            });
        }
    });
}

/// The same over roads; what happened on each, in each direction.
fn exchange_on_roads(impairment: Impairment) -> Vec<Tally> {
    let (site, roads) = Site::on_roads(impairment);
    let _balancer = balance(&site);
    exchange_many(&site, LENGTH);
    let tallies: Vec<_> = roads.iter().flat_map(Road::tallies).collect();
    assert!(tallies.iter().all(|tally| tally.frames > 1000), "{tallies:?}");
    tallies
}

#[test]
fn every_byte_arrives_where_one_segment_in_a_hundred_is_lost() {
    exchange_over(1, "drop");
}

#[test]
fn every_byte_arrives_where_one_segment_in_twenty_is_lost() {
    exchange_over(5, "drop");
}

#[test]
fn every_byte_arrives_once_where_segments_come_twice() {
    exchange_over(10, "dup to eth0");
}

#[test]
fn every_byte_arrives_where_segments_are_late_out_of_order_lost_and_twice_there() {
    if !require_root() {
        return;
    }
    let (delay, jitter) = (Duration::from_millis(5), Duration::from_millis(5));
    let (lost, doubled) = (1, 2);
    let impairment = Impairment { seed: 6, delay, jitter, lost, doubled, ..Impairment::default() };
    for tally in exchange_on_roads(impairment) {
        assert!(tally.delayed > tally.frames / 2, "{tally:?}");
        assert!(tally.overtaken > tally.frames / 10, "{tally:?}");
        assert!(tally.lost > 0 && tally.doubled > 0, "{tally:?}");
    }
}

#[test]
fn every_byte_arrives_where_segments_are_out_of_order() {
    if !require_root() {
        return;
    }
    let (delay, hurried) = (Duration::from_millis(2), 20);
    for tally in exchange_on_roads(Impairment { seed: 7, delay, hurried, ..Impairment::default() })
    {
        assert!(tally.overtaken > tally.frames / 10, "{tally:?}");
        assert_eq!((tally.lost, tally.doubled), (0, 0), "{tally:?}");
    }
}
