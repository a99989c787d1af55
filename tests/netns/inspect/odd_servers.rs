//! Servers that agree to other things than were agreed with the client: what is no more than
//! numbers is translated, the rest is kept to.

use std::{
    io::{Read as _, Write as _},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use etherparse::{
    LinkSlice, NetSlice, PacketBuilder, SlicedPacket, TcpOptionElement, TransportSlice,
};
use lb_tests::require_root;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{
    WAITS,
    capture::{Capture, Offer, Segment, handshake, offer},
    echo::{Echo, Speaks, exchange},
    inspected,
};
use crate::{
    packet_socket::PacketSocket,
    site::{Site, VIP, pseudo_random},
};

/// Commands of the servers' host, what it agrees to by them, and how it is undone.
type Case<'a> = (&'a [&'a str], fn(Offer) -> bool, &'a [&'a str]);

const TINY: u16 = 88;

const CASES: [Case<'static>; 4] = [
    (
        &["sysctl", "-qw", "net.ipv4.tcp_rmem=4096 131072 1073741824"],
        |agreed| agreed.window_scale == Some(14),
        &["sysctl", "-qw", "net.ipv4.tcp_rmem=4096 131072 6291456"],
    ),
    (
        &["sysctl", "-qw", "net.ipv4.tcp_window_scaling=0"],
        |agreed| agreed.window_scale.is_none(),
        &["sysctl", "-qw", "net.ipv4.tcp_window_scaling=1"],
    ),
    (
        &["sysctl", "-qw", "net.ipv4.tcp_sack=0"],
        |agreed| !agreed.has_sack,
        &["sysctl", "-qw", "net.ipv4.tcp_sack=1"],
    ),
    (
        &["ip", "route", "change", "10.0.0.0/24", "dev", "eth0", "advmss", "88"],
        |agreed| agreed.mss == Some(TINY),
        &["ip", "route", "change", "10.0.0.0/24", "dev", "eth0"],
    ),
];

#[test]
fn every_byte_arrives_whatever_a_server_agrees_to() {
    if !require_root() {
        return;
    }
    let site = Site::new();
    let _server = Echo::start(&site, 1, 80, Speaks::WhenSpokenTo);
    let _balancer = site.balance(&inspected("by.lua", ""), &[("by.lua", WAITS)]);
    let content = pseudo_random(1 << 20);
    for (change, has_changed, undo) in CASES {
        site.servers.run(change).unwrap();
        let far = Capture::start(&site.servers, "eth0");
        let mut stream = site.connect(VIP).unwrap();
        assert_eq!(exchange(&mut stream, &content), ("1".into(), true), "{change:?}");
        drop(stream);
        let said = far.segments();
        let agreed = offer(&handshake(&said, true));
        assert!(has_changed(agreed), "{change:?}: {agreed:?}");
        let to_server = |one: &&Segment| one.to.port() == 80 && !one.payload.is_empty();
        let first = said.iter().find(to_server).unwrap().payload.len();
        assert!(first <= agreed.mss.unwrap().into(), "{change:?}: {first} bytes in a segment");
        site.servers.run(undo).unwrap();
    }
}

const HASTY: &[u8] = b"hasty";
/// The initial number of the hasty server.
const NUMBER: u32 = 0xffff_fffe;

/// What a server answers that sends data with its SYN-ACK (RFC 9293 §3.10.7.4 allows it), and again
/// until it is acknowledged.
fn hasty(frame: &[u8]) -> Option<Vec<u8>> {
    let packet = SlicedPacket::from_ethernet(frame).ok()?;
    let (Some(LinkSlice::Ethernet2(ethernet)), Some(NetSlice::Ipv4(ip))) =
        (packet.link, packet.net)
    else {
        return None;
    };
    let Some(TransportSlice::Tcp(tcp)) = packet.transport else { return None };
    let is_new = tcp.syn() || tcp.acknowledgment_number() == NUMBER.wrapping_add(1);
    if ip.header().destination() != [10, 0, 0, 11] || tcp.rst() || !is_new {
        return None;
    }
    let number = if tcp.syn() { NUMBER } else { NUMBER.wrapping_add(1) };
    let length = u32::try_from(tcp.payload().len()).ok()? + u32::from(tcp.syn() || tcp.fin());
    let answer = PacketBuilder::ethernet2(ethernet.destination(), ethernet.source())
        .ipv4(ip.header().destination(), ip.header().source(), 64)
        .tcp(tcp.destination_port(), tcp.source_port(), number, 65535)
        .ack(tcp.sequence_number().wrapping_add(length));
    let answer = if tcp.syn() {
        answer.syn().options(&[TcpOptionElement::MaximumSegmentSize(1460)]).ok()?
    } else {
        answer
    };
    let mut bytes = Vec::new();
    answer.write(&mut bytes, HASTY).ok()?;
    Some(bytes)
}

/// Sends what [`hasty`] says until it is over.
fn serve(socket: &PacketSocket, is_over: &AtomicBool) {
    let mut buffer = vec![0; 1 << 17];
    while !is_over.load(Ordering::Relaxed) {
        let wait = Timespec::try_from(Duration::from_millis(20)).unwrap();
        let _ = poll(&mut [PollFd::new(socket, PollFlags::IN)], Some(&wait));
        while let Some(length) = socket.receive(&mut buffer) {
            if let Some(answer) = hasty(&buffer[..length]) {
                socket.send(&answer);
            }
        }
    }
}

#[test]
fn data_on_a_syn_ack_is_taken_when_it_comes_again() {
    if !require_root() {
        return;
    }
    let site = Site::new();
    // The kernel must not answer in the server's place.
    let quiet = "add table ip quiet
add chain ip quiet in { type filter hook input priority 0 ; }
add rule ip quiet in tcp dport 80 drop";
    quiet.lines().for_each(|line| drop(site.servers.run(&["nft", line]).unwrap()));
    let _balancer = site.balance(&inspected("by.lua", ""), &[("by.lua", WAITS)]);
    let (socket, far) =
        (PacketSocket::open(&site.servers, "eth0"), Capture::start(&site.servers, "eth0"));
    let is_over = AtomicBool::new(false);
    let answer = thread::scope(|scope| {
        scope.spawn(|| serve(&socket, &is_over));
        let ask = || {
            let mut stream = site.connect(VIP)?;
            stream.write_all(b"ping")?;
            let mut answer = [0; HASTY.len()];
            stream.read_exact(&mut answer)?;
            std::io::Result::Ok(answer)
        };
        let answer = ask();
        is_over.store(true, Ordering::Relaxed);
        answer
    });
    assert_eq!(answer.unwrap(), HASTY);
    let said = far.segments();
    let came = said.iter().filter(|one| one.from.port() == 80 && one.payload == HASTY);
    assert!(came.clone().any(|one| one.tcp.syn) && came.clone().any(|one| !one.tcp.syn));
    let mut answers = said.iter().filter(|one| one.to.port() == 80 && one.tcp.ack);
    assert_eq!(answers.next().unwrap().tcp.acknowledgment_number, NUMBER.wrapping_add(1));
}
