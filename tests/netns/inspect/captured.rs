//! What both sides of a connection are sent: docs/inspected-tcp.md says it, captures show it.

use std::{
    io::{Read as _, Write as _},
    thread,
};

use lb_tests::{Namespace, require_root, wait_until};

use super::{
    WAITS,
    capture::{Capture, Offer, Segment, handshake, offer},
    echo::{Echo, Speaks, name, ping},
    inspected, punted,
};
use crate::site::{SNAT, SOON, Site, VIP, event, events, pseudo_random};

/// Has captures show segments as they are, not merged.
fn show_each(host: &Namespace) {
    host.ip(&["link", "set", "eth0", "gro_max_size", "1"]).unwrap();
}

/// A segment of either side: numbers that count from the beginning of each stream, and payload.
type Relative = (u32, u32, Vec<u8>);

/// What goes one way at one side. There the client's numbers begin at `client`, the other's at `other`.
fn relative(segments: &[Segment], client: u32, other: u32, from_client: bool) -> Vec<Relative> {
    let (own, its) = if from_client { (client, other) } else { (other, client) };
    segments
        .iter()
        .filter(|one| (one.to.port() == 80) == from_client)
        .map(|Segment { tcp, payload, .. }| {
            let ahead = |number: u32, from: u32| number.wrapping_sub(from);
            let numbers = (tcp.sequence_number, tcp.acknowledgment_number);
            (ahead(numbers.0, own), ahead(numbers.1, its), payload.clone())
        })
        .collect()
}

#[test]
fn both_sides_see_what_the_documentation_says() {
    if !require_root() {
        return;
    }
    let site = Site::new();
    let _server = Echo::start(&site, 1, 80, Speaks::WhenSpokenTo);
    [&site.client, &site.servers].into_iter().for_each(show_each);
    let balancer = site.balance(&inspected("by.lua", ""), &[("by.lua", WAITS)]);
    let [near, far] = [&site.client, &site.servers].map(|host| Capture::start(host, "eth0"));

    // The program answers; the server hears nothing before there is a decision.
    let mut stream = site.connect(VIP).unwrap();
    let said = near.segments();
    let (syn, syn_ack) = (handshake(&said, false), handshake(&said, true));
    let (client, cookie) = (syn.sequence_number, syn_ack.sequence_number);
    assert_eq!(syn_ack.acknowledgment_number, client.wrapping_add(1));
    assert_eq!(event(&balancer, "answer_cookie"), 1);
    assert_eq!(far.segments().len(), 0);
    let offered = offer(&syn);
    assert!(offered.has_sack && offered.has_timestamps, "{offered:?}");
    let agreed = Offer { mss: Some(1460), has_sack: true, ..Offer::default() };
    assert_eq!(offer(&syn_ack), Offer { window_scale: Some(7), ..agreed });

    // The server gets the client's number and what was agreed, then the payload, once.
    stream.write_all(b"ping").unwrap();
    assert_eq!(name(&mut stream), "1");
    stream.read_exact(&mut [0; 4]).unwrap();
    let said = far.segments();
    let (syn, syn_ack) = (handshake(&said, false), handshake(&said, true));
    assert_eq!(syn.sequence_number, client);
    assert_eq!(offer(&syn), Offer { window_scale: offered.window_scale, ..agreed });
    assert_eq!(said[0].from.ip().to_string(), SNAT);
    let server = syn_ack.sequence_number;
    let payload: Vec<_> = relative(&said, client, server, true)
        .into_iter()
        .filter(|(.., payload)| !payload.is_empty())
        .collect();
    assert_eq!(payload, [(1, 1, b"ping".to_vec())]);

    // It is spliced once what was collected is acknowledged.
    assert_eq!(ping(&mut stream, b"pong").unwrap(), b"pong");
    let is_spliced = || Ok(balancer.flows_json()?.iter().all(|flow| flow["state"] != "inspected"));
    wait_until("the splice", SOON, is_spliced).unwrap();
    drain(&site, [&near, &far]);
    let before = punted(&balancer);
    let content = pseudo_random(100_000);
    let mut writing = stream.try_clone().unwrap();
    thread::scope(|scope| {
        scope.spawn(|| writing.write_all(&content).unwrap());
        let mut answer = vec![0; content.len()];
        stream.read_exact(&mut answer).unwrap();
        assert!(answer == content);
    });
    let (near, far) = drain(&site, [&near, &far]);
    for from_client in [true, false] {
        let here = relative(&near, client, cookie, from_client);
        let there = relative(&far, client, server, from_client);
        let bytes: usize = here.iter().map(|(.., payload)| payload.len()).sum();
        assert!(bytes >= content.len(), "{bytes}");
        assert!(here == there, "{} segments here, {} there", here.len(), there.len());
    }
    assert_eq!(punted(&balancer), before, "{:?}", events(&balancer, "punt_"));
}

/// The segments of both sides, once nothing is under way any more.
fn drain(site: &Site, [near, far]: [&Capture; 2]) -> (Vec<Segment>, Vec<Segment>) {
    let (mut here, mut there) = (Vec::new(), Vec::new());
    // All is acknowledged, also to hosts that wait with that.
    let idle = |host: &Namespace| {
        let sockets = host.run(&["ss", "-Htino", "state", "established"])?;
        anyhow::Ok(!sockets.contains("unacked:") && !sockets.contains("timer:"))
    };
    wait_until("silence", SOON, || {
        let is_idle = idle(&site.client)? && idle(&site.servers)?;
        let (new_here, new_there) = (near.segments(), far.segments());
        let is_quiet = new_here.is_empty() && new_there.is_empty();
        here.extend(new_here);
        there.extend(new_there);
        Ok(is_idle && is_quiet)
    })
    .unwrap();
    (here, there)
}
