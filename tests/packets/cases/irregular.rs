//! IP options and fragments: the ports are elsewhere, or in another packet.

use lb_common::{
    address::Protocol::{self, Tcp, Udp},
    event::Event,
    rewrite::EndpointsV4,
};

use crate::{
    fixture::{Case, check},
    packet::{Packet, endpoints, framed, seal},
    setup::{CLIENT, DNAT_SERVER, FOREIGN, PORT, SERVER, SNAT, Setup, VIP},
};

/// Makes a case of a name and a frame.
type Outcome = fn(String, Vec<u8>) -> Case;

/// Whose packets these are, and what becomes of irregular ones.
fn parties() -> [(&'static str, EndpointsV4, Outcome); 5] {
    let punt: Outcome = |name, frame| Case::punt(name, frame, Event::PuntIrregular);
    let pass: Outcome = |name, frame| Case::pass(name, frame, Event::PassNotOurs);
    [
        ("to a service", endpoints((CLIENT, 40_000), (VIP, PORT)), punt),
        ("to another port of its address", endpoints((CLIENT, 40_000), (VIP, 22)), punt),
        ("to a SNAT address", endpoints((SERVER, 8080), (SNAT, 20_001)), punt),
        ("from a dnat server", endpoints((DNAT_SERVER, 8081), (CLIENT, 40_001)), punt),
        ("of others", endpoints((CLIENT, 1), (FOREIGN, 2)), pass),
    ]
}

fn check_all(change: impl Fn(&mut Vec<u8>)) {
    let mut cases = Vec::new();
    for protocol in [Tcp, Udp] {
        for (who, endpoints, case) in parties() {
            let frame = changed(protocol, endpoints, &change);
            cases.push(case(format!("{protocol} {who}"), frame));
        }
    }
    check(&Setup::ordinary(), &cases);
}

fn changed(protocol: Protocol, endpoints: EndpointsV4, change: impl Fn(&mut Vec<u8>)) -> Vec<u8> {
    let mut network = Packet::of(protocol, endpoints).network();
    change(&mut network);
    seal(&mut network);
    framed(&network)
}

/// Sets flags and offset of a fragment, the offset in units of eight bytes.
fn fragment(network: &mut [u8], word: u16) {
    network[6..8].copy_from_slice(&word.to_be_bytes());
}

#[test]
fn options() {
    // Router alert (RFC 2113).
    check_all(|network| {
        network[0] = 0x46;
        network.splice(20..20, [148, 4, 0, 0]);
        let length = u16::try_from(network.len()).unwrap();
        network[2..4].copy_from_slice(&length.to_be_bytes());
    });
}

#[test]
fn first_fragments() {
    check_all(|network| fragment(network, 0x2000));
}

#[test]
fn middle_fragments() {
    check_all(|network| fragment(network, 0x2000 | 185));
}

#[test]
fn last_fragments() {
    check_all(|network| fragment(network, 185));
}

#[test]
fn the_farthest_fragment() {
    check_all(|network| fragment(network, 0x1fff));
}

/// The header that claims to be shorter than any can be is the worker's to refuse.
#[test]
fn a_header_of_sixteen_bytes() {
    check_all(|network| network[0] = 0x44);
}

#[test]
fn the_reserved_bit_makes_no_fragment() {
    let unknown = endpoints((CLIENT, 5), (VIP, PORT));
    let frame = changed(Udp, unknown, |network| fragment(network, 0x8000));
    let case = Case::punt("reserved bit", frame, Event::PuntFirstPacket);
    check(&Setup::ordinary(), &[case]);
}

#[test]
fn versions_that_are_not_four() {
    let mut cases = Vec::new();
    for version in (0..16).filter(|version| *version != 4) {
        let to_service = endpoints((CLIENT, 40_000), (VIP, PORT));
        let frame = changed(Tcp, to_service, |network| network[0] = version << 4 | 5);
        cases.push(Case::pass(format!("version {version}"), frame, Event::PassNotOurs));
    }
    check(&Setup::ordinary(), &cases);
}
