//! Answers, against packets that etherparse writes.

use super::*;
use crate::{tcp::options::SynOptions, wire::IPV4_TCP};
use etherparse::{IpNumber, Ipv4Header, TcpHeader, TcpOptionElement};
use proptest::prelude::*;

const CLIENT: [u8; 4] = [198, 51, 100, 7];
const SERVICE: [u8; 4] = [192, 0, 2, 10];

/// A packet's first forty bytes, as a client sends it.
fn received(tcp: &TcpHeader, payload: usize) -> [u8; IPV4_TCP] {
    packet(CLIENT, SERVICE, tcp, payload)[..IPV4_TCP].try_into().unwrap()
}

fn packet(from: [u8; 4], to: [u8; 4], tcp: &TcpHeader, payload: usize) -> Vec<u8> {
    let length = u16::try_from(tcp.header_len() + payload).unwrap();
    let mut ip = Ipv4Header::new(length, 64, IpNumber::TCP, from, to).unwrap();
    ip.dont_fragment = true;
    ip.header_checksum = ip.calc_header_checksum();
    let mut tcp = tcp.clone();
    tcp.checksum = tcp.calc_checksum_ipv4(&ip, &vec![0; payload]).unwrap();
    [&ip.to_bytes()[..], &tcp.to_bytes()].concat()
}

/// An answer to the client, padded to Ethernet's shortest.
fn sent(tcp: &TcpHeader) -> Vec<u8> {
    let mut packet = packet(SERVICE, CLIENT, tcp, 0);
    packet.resize(packet.len().max(SHORT), 0);
    packet
}

/// Written over the rubbish of what came.
fn written(answer: &Answer) -> Vec<u8> {
    if answer.is_long() {
        let mut packet = [0xee; LONG];
        answer.write(&mut packet);
        packet.to_vec()
    } else {
        let mut packet = [0xee; SHORT];
        answer.write(&mut packet);
        packet.to_vec()
    }
}

fn syn_ack(sequence: u32, acknowledgement: u32, options: &[TcpOptionElement]) -> TcpHeader {
    let mut tcp = TcpHeader::new(443, 40_000, sequence, u16::MAX);
    tcp.acknowledgment_number = acknowledgement;
    (tcp.syn, tcp.ack) = (true, true);
    tcp.set_options(options).unwrap();
    tcp
}

fn offers(window_scale: Option<u8>, sack_permitted: bool) -> Data {
    Data::new(&SynOptions { mss: Some(9000), window_scale, sack_permitted })
}

proptest! {
    #[test]
    fn a_syn_gets_what_it_offers(
        sequence: u32, cookie: u32, payload in 0..1400usize, scale: Option<u8>, sack: bool,
    ) {
        use TcpOptionElement::{MaximumSegmentSize, Noop, WindowScale};
        let mut syn = TcpHeader::new(40_000, 443, sequence, 1024);
        syn.syn = true;
        let segment = Segment::read(&received(&syn, payload)).unwrap();
        let nothing = [Noop, Noop, Noop, Noop];
        let sacks =
            [Noop, Noop, TcpOptionElement::SelectiveAcknowledgementPermitted];
        let mut options = vec![MaximumSegmentSize(MSS)];
        if sack || scale.is_some() {
            options.extend_from_slice(if sack { &sacks } else { &nothing });
            let scales = [Noop, WindowScale(WINDOW_SCALE)];
            options.extend_from_slice(if scale.is_some() { &scales } else { &nothing });
        }
        let expected = sent(&syn_ack(cookie, sequence.wrapping_add(1), &options));
        let answer = Answer::syn_ack(&segment, offers(scale, sack), cookie);
        prop_assert_eq!(written(&answer), expected);
        prop_assert_eq!(answer.is_long(), sack || scale.is_some());
    }

    #[test]
    fn an_acknowledgement_is_reset_by_what_it_acknowledges(
        sequence: u32, acknowledgement: u32, payload in 0..1400usize, fin: bool, syn: bool,
    ) {
        let mut tcp = TcpHeader::new(40_000, 443, sequence, 1024);
        tcp.acknowledgment_number = acknowledgement;
        (tcp.ack, tcp.fin, tcp.syn) = (true, fin, syn);
        let segment = Segment::read(&received(&tcp, payload)).unwrap();
        let mut reset = TcpHeader::new(443, 40_000, acknowledgement, 0);
        reset.rst = true;
        prop_assert_eq!(written(&Answer::reset(&segment)), sent(&reset));
    }

    #[test]
    fn what_acknowledges_nothing_is_reset_by_an_acknowledgement_of_all_of_it(
        sequence: u32, payload in 0..1400usize, fin: bool, syn: bool,
    ) {
        let mut tcp = TcpHeader::new(40_000, 443, sequence, 1024);
        (tcp.fin, tcp.syn) = (fin, syn);
        let segment = Segment::read(&received(&tcp, payload)).unwrap();
        let mut reset = TcpHeader::new(443, 40_000, 0, 0);
        let length = u32::try_from(payload).unwrap() + u32::from(fin) + u32::from(syn);
        reset.acknowledgment_number = sequence.wrapping_add(length);
        (reset.rst, reset.ack) = (true, true);
        prop_assert_eq!(written(&Answer::reset(&segment)), sent(&reset));
    }
}

#[test]
fn headers_that_cannot_be_are_refused() {
    let good = received(&TcpHeader::new(1, 2, 3, 4), 8);
    assert_eq!(Segment::read(&good).unwrap().payload, 8);
    for (words, fits) in [(0, false), (4, false), (5, true), (7, true), (8, false), (15, false)] {
        let mut packet = good;
        packet[32] = words << 4;
        assert_eq!(Segment::read(&packet).is_some(), fits, "{words} words of 28 bytes");
    }
}
