//! Networks that delay, reorder, lose and duplicate packets, by `tc netem`: every byte arrives,
//! once and in order. For kernels that have it: `cargo xtask test --machine` boots one.

use lb_tests::{Namespace, require_root};

use super::loss::{balance, exchange_many};
use crate::site::Site;

/// Of each connection, either way: a machine that is emulated is slow.
const LENGTH: usize = 128 << 10;

/// Does to what a host sends what `netem` is told to.
fn impair(host: &Namespace, netem: &str) {
    let words: Vec<_> = netem.split(' ').collect();
    let qdisc = ["tc", "qdisc", "add", "dev", "eth0", "root", "netem", "limit", "10000"];
    host.run(&[&qdisc[..], &words].concat()).unwrap();
}

fn exchange_where(netem: &str) {
    if !require_root() {
        return;
    }
    let site = Site::new();
    let _balancer = balance(&site);
    let hosts = [&site.client, &site.servers];
    hosts.into_iter().for_each(|host| impair(host, netem));
    exchange_many(&site, LENGTH);
    for host in hosts {
        let shown = host.run(&["tc", "-s", "qdisc", "show", "dev", "eth0"]).unwrap();
        // What it has forwarded, and which words it took.
        assert!(shown.contains("netem") && !shown.contains("Sent 0 bytes"), "{shown}");
    }
}

#[test]
#[ignore = "needs a kernel with netem: cargo xtask test --machine"]
fn netem_delays() {
    exchange_where("delay 20ms");
}

#[test]
#[ignore = "needs a kernel with netem: cargo xtask test --machine"]
fn netem_delays_some_more_than_others_and_so_reorders() {
    exchange_where("delay 10ms 8ms");
}

#[test]
#[ignore = "needs a kernel with netem: cargo xtask test --machine"]
fn netem_sends_a_quarter_ahead_of_others() {
    exchange_where("delay 5ms reorder 25% 50%");
}

#[test]
#[ignore = "needs a kernel with netem: cargo xtask test --machine"]
fn netem_loses_one_in_a_hundred() {
    exchange_where("loss 1%");
}

#[test]
#[ignore = "needs a kernel with netem: cargo xtask test --machine"]
fn netem_loses_one_in_twenty() {
    exchange_where("loss 5%");
}

#[test]
#[ignore = "needs a kernel with netem: cargo xtask test --machine"]
fn netem_duplicates() {
    exchange_where("duplicate 10%");
}

#[test]
#[ignore = "needs a kernel with netem: cargo xtask test --machine"]
fn netem_does_everything_at_once() {
    exchange_where("delay 5ms 4ms loss 1% duplicate 2% reorder 10%");
}
