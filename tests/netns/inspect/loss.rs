//! Networks that lose and duplicate packets: every byte arrives, once and in order.
//!
//! By nftables, for `tc netem` is not in every kernel: what that can do besides is in `netem`.

use std::thread;

use lb_tests::{Balancer, Namespace, require_root};

use super::{
    WAITS,
    echo::{Echo, Speaks, exchange},
};
use crate::site::{Site, VIP, WEB, configuration, pool, pseudo_random};

/// Connections at once.
const MANY: usize = 30;
const LENGTH: usize = 1 << 20;

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

/// Many connections, each with so many bytes both ways, over links that are impaired on both
/// sides.
pub fn exchange_over(length: usize, impair: impl Fn(&Namespace)) -> Site {
    let site = Site::new();
    let _servers = [1, 2].map(|number| Echo::start(&site, number, 80, Speaks::WhenSpokenTo));
    let rest = format!(
        "{WEB}tcp_mode = \"inspect\"\ndatascripts = [\"by\"]\n[[datascript]]\nname = \"by\"\n\
         l4_request = \"by.lua\"\n{}",
        pool("web", [1, 2], 80),
    );
    // What is lost before a FIN comes again after it, 200 ms later and more.
    let configuration = configuration(&rest).replace("tcp_closing_timeout = \"100ms\"\n", "");
    let balancer = Balancer::start(&site.balancer, &configuration, &[("by.lua", WAITS)]).unwrap();
    [&site.client, &site.servers].into_iter().for_each(impair);
    let content = pseudo_random(length);
    thread::scope(|scope| {
        for _ in 0..MANY {
            scope.spawn(|| {
                let mut stream = site.connect(VIP).unwrap();
                let (server, is_whole) = exchange(&mut stream, &content);
                assert!(is_whole, "bytes from server {server} differ");
            });
        }
    });
    drop(balancer);
    site
}

/// The same, where nftables impairs.
fn exchange_where(percent: u8, verdict: &str) {
    if !require_root() {
        return;
    }
    let site = exchange_over(LENGTH, |host| impair(host, percent, verdict));
    for host in [&site.client, &site.servers] {
        let rules = host.run(&["nft", "list", "table", "netdev", "road"]).unwrap();
        assert!(rules.contains("counter packets "), "{rules}");
        assert!(!rules.contains("counter packets 0 "), "{rules}");
    }
}

#[test]
fn every_byte_arrives_where_one_segment_in_a_hundred_is_lost() {
    exchange_where(1, "drop");
}

#[test]
fn every_byte_arrives_where_one_segment_in_twenty_is_lost() {
    exchange_where(5, "drop");
}

#[test]
fn every_byte_arrives_once_where_segments_come_twice() {
    exchange_where(10, "dup to eth0");
}
