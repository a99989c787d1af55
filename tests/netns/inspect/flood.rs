//! Floods of SYNs: nobody else notices, and the daemon does not grow.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use etherparse::PacketBuilder;
use lb_tests::{Balancer, require_root, wait_until};
use rustix::net::{SendFlags, sendto};

use super::{
    WAITS,
    echo::{Echo, Speaks, name, ping},
    hostile::raw_socket,
    inspected,
};
use crate::site::{SOON, Site, VIP, WEB, configuration, event, pool};

/// How long each goes on at least.
const DURATION: Duration = Duration::from_secs(1);
/// How many SYNs each has at least, and how many different ones.
const MANY: u64 = 10_000;
const DIFFERENT: u16 = 1 << 14;
/// What the daemon may grow by meanwhile, in KiB: what it keeps for a flow takes it a few hundred
/// bytes, and there are 4,096 half-open ones at most.
const GROWTH: u64 = 4096;

/// SYNs from addresses that nobody has.
fn syns() -> Vec<Vec<u8>> {
    let syn = |number: u16| {
        let [high, low] = number.to_be_bytes();
        let syn = PacketBuilder::ipv4([198, 18, high, low], [192, 0, 2, 10], 64)
            .tcp(1024 + number, 80, u32::from(number), 64240)
            .syn();
        let mut packet = Vec::new();
        syn.write(&mut packet, &[]).unwrap();
        packet
    };
    (0..DIFFERENT).map(syn).collect()
}

/// Ends a flood also where its test fails.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Does something again and again while there is a flood as fast as a thread can send it, until all is
/// shown that was to be. Returns how many SYNs it had.
fn during_flood(site: &Site, mut work: impl FnMut(Duration) -> bool) -> u64 {
    let (socket, syns) = (raw_socket(site), syns());
    let to: SocketAddr = "192.0.2.10:0".parse().unwrap();
    let (sent, is_over) = (AtomicU64::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        scope.spawn(|| {
            for syn in syns.iter().cycle().take_while(|_| !is_over.load(Ordering::Relaxed)) {
                // A full queue drops it: as good as sent.
                let _ = sendto(&socket, syn, SendFlags::empty(), &to);
                sent.fetch_add(1, Ordering::Relaxed);
            }
        });
        let _ends = Ends(&is_over);
        let begun = Instant::now();
        while !work(begun.elapsed()) || sent.load(Ordering::Relaxed) < MANY {
            assert!(begun.elapsed() < SOON, "it is not shown");
        }
    });
    sent.into_inner()
}

/// A connection that begins, and what comes back on it.
fn begin(site: &Site) -> TcpStream {
    let mut stream = site.connect(VIP).unwrap();
    stream.write_all(b"ping").unwrap();
    assert_eq!(name(&mut stream), "1");
    let mut echo = [0; 4];
    stream.read_exact(&mut echo).unwrap();
    assert_eq!(echo, *b"ping");
    stream
}

/// The daemon's resident memory, in KiB.
fn memory(balancer: &mut Balancer) -> u64 {
    let status = format!("/proc/{}/status", balancer.process().id());
    let status = std::fs::read_to_string(status).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn a_flood_of_syns_costs_nobody_anything() {
    if !require_root() {
        return;
    }
    let site = Site::new();
    let _server = Echo::start(&site, 1, 80, Speaks::WhenSpokenTo);
    let mut balancer = site.balance(&inspected("by.lua", ""), &[("by.lua", WAITS)]);
    let mut established = begin(&site);
    let before = memory(&mut balancer);
    let sent = during_flood(&site, |elapsed| {
        assert_eq!(ping(&mut established, b"pong").unwrap(), b"pong");
        begin(&site);
        elapsed > DURATION
    });
    let flows = balancer.flows_json().unwrap();
    let clients: Vec<_> = flows.iter().map(|flow| flow["client"].as_str().unwrap()).collect();
    assert!(clients.iter().all(|client| client.starts_with("192.0.2.")), "{clients:?}");
    let answered = event(&balancer, "answer_cookie");
    assert!(answered > sent / 2, "{answered} of {sent}");
    let after = memory(&mut balancer);
    assert!(after < before + GROWTH, "{before} KiB before, {after} after {sent} SYNs");
    assert_eq!(ping(&mut established, b"pong").unwrap(), b"pong");
}

fn is_pressed(balancer: &Balancer) -> bool {
    balancer.status_json().unwrap()["flows"]["pressure"].as_bool().unwrap()
}

#[test]
fn a_service_that_decides_at_the_syn_is_protected_while_there_is_a_flood() {
    if !require_root() {
        return;
    }
    let site = Site::new();
    let _server = Echo::start(&site, 1, 80, Speaks::WhenSpokenTo);
    // Who floods has a way back to it, so that its flows do begin.
    site.balancer.ip(&["route", "add", "198.18.0.0/15", "via", "192.0.2.2"]).unwrap();
    let soon = "tcp_half_open_timeout = \"3s\"\ntcp_closing_timeout";
    let whole = configuration(&format!("{WEB}{}", pool("web", [1], 80)));
    let whole = whole.replace("tcp_closing_timeout", soon);
    let mut balancer = Balancer::start(&site.balancer, &whole, &[]).unwrap();
    let mut established = begin(&site);
    assert_eq!((is_pressed(&balancer), event(&balancer, "answer_cookie")), (false, 0));
    let before = memory(&mut balancer);
    let mut pressed_since = None;
    let sent = during_flood(&site, |elapsed| {
        assert_eq!(ping(&mut established, b"pong").unwrap(), b"pong");
        if pressed_since.is_none() && is_pressed(&balancer) {
            pressed_since = Some(elapsed);
        }
        if pressed_since.is_none() {
            return false;
        }
        begin(&site);
        pressed_since.is_some_and(|since| elapsed > since + DURATION)
    });
    let answered = event(&balancer, "answer_cookie");
    assert!(answered > 1000, "{answered} of {sent}");
    let after = memory(&mut balancer);
    assert!(after < before + GROWTH, "{before} KiB before, {after} after {sent} SYNs");
    // It ends by itself, and then a SYN decides again.
    let is_over =
        || Ok(balancer.status_json()?["flows"]["half_open"] == 0 && !is_pressed(&balancer));
    wait_until("the end of the pressure", SOON, is_over).unwrap();
    let answered = event(&balancer, "answer_cookie");
    begin(&site);
    assert_eq!(event(&balancer, "answer_cookie"), answered);
    assert_eq!(ping(&mut established, b"pong").unwrap(), b"pong");
}
