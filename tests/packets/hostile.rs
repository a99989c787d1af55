//! Whatever comes in, both runners make the same of it.

use std::cell::RefCell;

use lb_common::{
    address::{
        Port,
        Protocol::{Tcp, Udp},
    },
    flow::Flags,
    path::Verdict,
    service::{Cookies, Service},
    splice::{Sender, Splice},
    wire::{ETHERNET, ETHERTYPE_IPV4, ETHERTYPE_VLAN, IPV4, TcpFlags},
};
use proptest::{
    prelude::*,
    sample::Index,
    test_runner::{Config, TestCaseError, TestRunner},
};

use crate::{
    memory::Memory,
    observed,
    packet::{Packet, Tcp as Numbers, checksums_hold, endpoints, icmp},
    program::Program,
    setup::{
        CLIENT, FOREIGN, Flow, PORT, Place, REDIRECT, SNAT, Setup, UNRESOLVED, VIP, VLAN_100, dnat,
        dnat_reply, snat, snat_reply,
    },
};

/// Flows in every state, so that a changed byte leads from one to another.
fn setup() -> Setup {
    Setup::new([
        snat(Tcp).by(VLAN_100),
        snat_reply(Tcp).at(Place::Stash),
        snat(Udp).at(Place::Second),
        snat_reply(Udp).by(REDIRECT),
        dnat(Tcp).by(UNRESOLVED),
        dnat_reply(Tcp).flags(Flags::REPLY.and(Flags::PUNT_RESPONSE)),
        dnat(Udp).flags(Flags::CLOSED),
        dnat_reply(Udp).by(REDIRECT),
        spliced_pair()[0].clone(),
        spliced_pair()[1].clone(),
    ])
}

/// Both directions of a connection of another client's.
fn spliced_pair() -> [Flow; 2] {
    let pair = [(snat(Tcp), Sender::Client), (snat_reply(Tcp), Sender::Server)];
    pair.map(|(mut flow, sender)| {
        for ends in [&mut flow.from, &mut flow.to] {
            for port in [&mut ends.source_port, &mut ends.destination_port] {
                *port = Port::new(port.number() | 0x8000);
            }
        }
        // The service's own port is one of them, so nothing else is found by it.
        flow.spliced(Splice { sender, delta: 0xfedc_ba98, shift: -3 })
    })
}

/// Of clients that have lost something.
fn with_sack() -> impl Iterator<Item = Vec<u8>> {
    (1..=4).map(|blocks| {
        let edges: Vec<u8> = (1..=8 * blocks).collect();
        let options = [&[1, 1, 5, 2 + 8 * blocks][..], &edges].concat();
        let packet = spliced_pair()[0].packet();
        let tcp = Numbers { options, ..packet.tcp.clone() };
        packet.numbered(tcp).bytes()
    })
}

/// Packets that get far, to begin with.
fn golden() -> Vec<Vec<u8>> {
    let flows = setup().flows;
    let plain = flows.iter().map(|flow| flow.packet().bytes());
    let tagged = flows.iter().map(|flow| flow.packet().tag(0x4000 | 7).bytes());
    let short = flows.iter().map(|flow| flow.packet().payload(b"").padding(18).bytes());
    let errors = flows.iter().map(|flow| {
        let sent = flow.sent(&flow.packet());
        icmp(3, FOREIGN, SNAT, &sent.network()[..28])
    });
    let first = Packet::udp(endpoints((CLIENT, 1), (VIP, PORT))).bytes();
    let syn = Packet::tcp(endpoints((CLIENT, 1), (VIP, PORT))).flags(TcpFlags::SYN);
    let options = [2, 4, 5, 180, 4, 2, 8, 10, 1, 2, 3, 4, 0, 0, 0, 0, 1, 3, 3, 7];
    let syn = syn.options(&options).payload(b"");
    let syns = [syn.bytes(), syn.tag(7).bytes()];
    let others = with_sack().chain([first]).chain(syns);
    plain.chain(tagged).chain(short).chain(errors).chain(others).collect()
}

/// A small lie.
#[derive(Clone, Debug)]
enum Change {
    Set(Index, u8),
    Flip(Index, u8),
    Header(usize, u8),
    Cut(Index),
    Append(Vec<u8>),
    Tag([u8; 2]),
}

impl Change {
    fn apply(&self, frame: &mut Vec<u8>) {
        match self {
            Self::Set(at, byte) => *at.get_mut(frame) = *byte,
            Self::Flip(at, bit) => *at.get_mut(frame) ^= 1 << bit,
            Self::Header(at, byte) => {
                if let Some(old) = frame.get_mut(*at) {
                    *old = *byte;
                }
            }
            // A test run takes nothing shorter than Ethernet's header.
            Self::Cut(at) => frame.truncate(at.index(frame.len()).max(14)),
            Self::Append(bytes) => frame.extend(bytes),
            Self::Tag([a, b]) => {
                frame.splice(12..12, [ETHERTYPE_VLAN[0], ETHERTYPE_VLAN[1], *a, *b]);
            }
        }
    }
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Change::Set(at, byte)),
        (any::<Index>(), 0..8u8).prop_map(|(at, bit)| Change::Flip(at, bit)),
        // What the headers' fields may be at: type, version, lengths, fragments, protocol.
        (12..74usize, prop_oneof![0..3u8, any::<u8>()]).prop_map(|(at, b)| Change::Header(at, b)),
        any::<Index>().prop_map(Change::Cut),
        prop::collection::vec(any::<u8>(), 0..40).prop_map(Change::Append),
        any::<[u8; 2]>().prop_map(Change::Tag),
    ]
}

fn changed() -> impl Strategy<Value = Vec<u8>> {
    let base = prop::sample::select(golden());
    (base, prop::collection::vec(change(), 0..4)).prop_map(|(mut frame, changes)| {
        changes.iter().for_each(|change| change.apply(&mut frame));
        frame
    })
}

/// Nothing but an EtherType, and sometimes the byte that IPv4 begins with, is as it should be.
fn noise() -> impl Strategy<Value = Vec<u8>> {
    let kind = prop::sample::select(vec![ETHERTYPE_IPV4, ETHERTYPE_VLAN, [0x12, 0x34]]);
    let bytes = prop::collection::vec(any::<u8>(), 14..200);
    (kind, any::<bool>(), bytes).prop_map(|(kind, plain, mut frame)| {
        frame[12..14].copy_from_slice(&kind);
        if let (true, Some(version)) = (plain, frame.get_mut(14)) {
            *version = 0x45;
        }
        frame
    })
}

/// Both runners see the same packets in the same order, so that their slots stay alike.
fn agree(memory: &Memory, program: &mut Program, frame: &[u8]) -> Result<(), TestCaseError> {
    let (verdict, in_memory) = memory.run(frame);
    prop_assert_eq!(&program.run(frame), &in_memory, "{:?}", verdict);
    let answered = matches!(verdict, Verdict::Answer(_));
    let forwarded = !in_memory.touched.is_empty() && checksums_hold(frame) == Some(true);
    if answered || forwarded {
        prop_assert_eq!(checksums_hold(&in_memory.bytes), Some(true));
    }
    Ok(())
}

/// The same as socket buffers.
fn agree_on_buffer(
    memory: &Memory,
    program: &mut Program,
    frame: &[u8],
) -> Result<(), TestCaseError> {
    // The kernel makes no socket buffer of a cut IPv4 header.
    if frame.len() >= ETHERNET + IPV4 {
        let (verdict, in_memory) = memory.run_buffer(frame);
        prop_assert_eq!(&program.run_buffer(frame), &in_memory, "{:?}", verdict);
    }
    Ok(())
}

fn check(setup: &Setup, frames: impl Strategy<Value = Vec<u8>>) {
    if !lb_tests::require_root() {
        return;
    }
    let memories = [(); 2].map(|()| Memory::new(setup));
    let programs = [Program::load(setup, 1), Program::load_buffers(setup, 1)].map(RefCell::new);
    observed::wait_for_an_epoch();
    let config = Config { cases: 128, failure_persistence: None, ..Config::default() };
    // Several packets a case: what one leaves in a slot meets the next.
    let batches = prop::collection::vec(frames, 16);
    let result = TestRunner::new(config).run(&batches, |batch| {
        batch.iter().try_for_each(|frame| {
            agree(&memories[0], &mut programs[0].borrow_mut(), frame)?;
            agree_on_buffer(&memories[1], &mut programs[1].borrow_mut(), frame)
        })
    });
    result.unwrap();
}

#[test]
fn changed_packets() {
    check(&setup(), changed());
}

#[test]
fn changed_packets_to_services_with_cookies() {
    let service = Service { id: 1, cookies: Cookies::ALWAYS, ..Service::default() };
    check(&Setup { flows: Vec::new(), ..setup() }.asking(service), changed());
}

#[test]
fn noise_that_looks_like_packets() {
    check(&setup(), noise());
}
