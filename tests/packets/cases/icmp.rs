//! ICMP: errors about our flows are ours, all else is the kernel's.

use lb_common::{
    address::Protocol::{Tcp, Udp},
    event::Event,
    wire::ETHERTYPE_VLAN,
};

use crate::{
    fixture::{Case, check},
    packet::{icmp, seal},
    setup::{CLIENT, FOREIGN, Flow, SERVER, SNAT, Setup, VIP, dnat, dnat_reply, snat, snat_reply},
};

const UNREACHABLE: u8 = 3;
const TIME_EXCEEDED: u8 = 11;
const PARAMETER_PROBLEM: u8 = 12;

/// What a router on the way quotes: the packet as we sent it, header and eight bytes.
fn sent(flow: &Flow) -> Vec<u8> {
    let sent = flow.sent(&flow.packet());
    sent.network()[..28].to_vec()
}

fn about(flow: &Flow, kind: u8) -> Vec<u8> {
    icmp(kind, FOREIGN, flow.to.source, &sent(flow))
}

#[test]
fn errors_about_what_we_sent_are_punted() {
    let mut cases = Vec::new();
    for kind in [UNREACHABLE, TIME_EXCEEDED, PARAMETER_PROBLEM] {
        for protocol in [Tcp, Udp] {
            let flows =
                [snat(protocol), snat_reply(protocol), dnat(protocol), dnat_reply(protocol)];
            for flow in flows {
                let name = format!("type {kind} about {flow:?}");
                cases.push(Case::punt(name, about(&flow, kind), Event::PuntIcmpError));
            }
        }
    }
    check(&Setup::ordinary(), &cases);
}

#[test]
fn an_error_is_found_behind_a_tag_and_in_front_of_padding() {
    let plain = about(&snat(Tcp), UNREACHABLE);
    let mut tagged = plain.clone();
    tagged.splice(12..12, [ETHERTYPE_VLAN[0], ETHERTYPE_VLAN[1], 0, 100]);
    let whole = snat(Tcp).sent(&snat(Tcp).packet()).network();
    let long = icmp(UNREACHABLE, SERVER, SNAT, &whole);
    let cases = [
        Case::punt("tagged", tagged, Event::PuntIcmpError),
        Case::punt("padded", [plain, vec![0; 6]].concat(), Event::PuntIcmpError),
        Case::punt("quoted whole (RFC 1812 §4.3.2.3)", long, Event::PuntIcmpError),
    ];
    check(&Setup::ordinary(), &cases);
}

#[test]
fn errors_about_other_packets_are_passed() {
    let never_sent = snat(Tcp).packet().network()[..28].to_vec();
    let unknown = Flow { from: dnat(Tcp).from, ..snat(Tcp) };
    let other_port = {
        let mut quoted = sent(&snat(Udp));
        quoted[21] ^= 1;
        quoted
    };
    let cases = [
        ("not as we sent it", icmp(UNREACHABLE, FOREIGN, CLIENT, &never_sent)),
        ("other port", icmp(UNREACHABLE, SERVER, SNAT, &other_port)),
        ("no such flow", about(&Flow { to: unknown.from, ..unknown }, UNREACHABLE)),
    ];
    let cases = cases.map(|(name, frame)| Case::pass(name, frame, Event::PassNotOurs));
    check(&Setup::ordinary(), &cases);
}

#[test]
fn what_is_no_error_is_passed() {
    let mut cases = Vec::new();
    let quoted = sent(&snat(Tcp));
    for kind in (0..=255).filter(|kind| ![3, 11, 12].contains(kind)) {
        let name = format!("type {kind}");
        cases.push(Case::pass(name, icmp(kind, CLIENT, SNAT, &quoted), Event::PassNotOurs));
    }
    // An echo request, as short as it can be.
    cases.push(Case::pass("echo", icmp(8, CLIENT, VIP, &[]), Event::PassNotOurs));
    check(&Setup::ordinary(), &cases);
}

#[test]
fn a_quotation_cut_short_is_passed() {
    let whole = about(&snat(Tcp), UNREACHABLE);
    let shortest = 14 + 28;
    let cut = (shortest..whole.len()).map(|length| {
        Case::pass(format!("{length} bytes"), whole[..length].to_vec(), Event::PassNotOurs)
    });
    check(&Setup::ordinary(), &cut.collect::<Vec<_>>());
}

#[test]
fn an_error_with_options_or_in_fragments_is_passed() {
    let change = |name: &str, at: usize, byte: u8| {
        let mut frame = about(&snat(Tcp), UNREACHABLE);
        frame[14 + at] = byte;
        seal(&mut frame[14..]);
        Case::pass(name, frame, Event::PassNotOurs)
    };
    let cases = [
        change("options around it", 0, 0x46),
        change("a first fragment", 6, 0x20),
        change("a later fragment", 7, 1),
        change("options in what is quoted", 28, 0x46),
        change("another protocol in what is quoted", 37, 1),
    ];
    check(&Setup::ordinary(), &cases);
}
