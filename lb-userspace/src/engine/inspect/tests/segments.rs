//! Segments are read and written as etherparse, which others use too, writes and reads them.

use etherparse::{Ipv4Header, SlicedPacket, TcpHeader, TcpOptionElement, TransportSlice};
use lb_common::{address::Port, rewrite::EndpointsV4};
use proptest::{collection::vec, option::of, prelude::*};

use super::*;
use crate::engine::packet::{Network, Packet};

fn endpoints() -> EndpointsV4 {
    EndpointsV4 {
        source: [192, 0, 2, 1],
        destination: [198, 51, 100, 2],
        source_port: Port(4711_u16.to_be_bytes()),
        destination_port: Port(443_u16.to_be_bytes()),
    }
}

/// A packet with any options, and right checksums.
fn packet(options: &[u8], flags: Flags, payload: &[u8]) -> Vec<u8> {
    let mut tcp = TcpHeader::new(4711, 443, 0x1122_3344, 0x5566);
    tcp.acknowledgment_number = 0x99aa_bbcc;
    (tcp.syn, tcp.ack, tcp.fin) = (flags.syn, flags.ack, flags.fin);
    (tcp.rst, tcp.psh) = (flags.rst, flags.psh);
    tcp.set_options_raw(options).unwrap();
    let EndpointsV4 { source, destination, .. } = endpoints();
    let length = u16::try_from(tcp.header_len() + payload.len()).unwrap();
    let ip = Ipv4Header::new(length, 64, etherparse::IpNumber::TCP, source, destination).unwrap();
    tcp.checksum = tcp.calc_checksum_ipv4(&ip, payload).unwrap();
    [&ip.to_bytes()[..], &tcp.to_bytes(), payload].concat()
}

fn read(packet: &[u8]) -> Option<Segment<'_>> {
    Segment::read(&Packet::new(Network::new(packet).unwrap()).unwrap())
}

#[test]
fn options_are_read_in_any_order_as_far_as_they_make_sense() {
    let none = Options::default();
    let mss = Options { mss: Some(1460), ..none };
    let both = Options { window_scale: Some(7), ..mss };
    let all = Options { sack_permitted: true, ..both };
    let cases: [(&str, &[u8], Options); 13] = [
        ("none", &[], none),
        ("Linux", &[2, 4, 5, 180, 4, 2, 8, 10, 1, 2, 3, 4, 0, 0, 0, 0, 1, 3, 3, 7], all),
        ("unknown ones between", &[34, 2, 2, 4, 5, 180, 30, 4, 0, 1, 3, 3, 7, 0], both),
        ("behind the end", &[2, 4, 5, 180, 0, 3, 3, 7], mss),
        ("no length", &[2, 4, 5, 180, 3], mss),
        ("a length of zero", &[2, 4, 5, 180, 9, 0, 3, 3], mss),
        ("a length of one", &[2, 4, 5, 180, 9, 1, 3, 3], mss),
        ("longer than the header", &[2, 4, 5, 180, 9, 40, 3, 3], mss),
        ("a wrong length for its kind", &[2, 3, 5, 3, 3, 7, 4, 2], Options { mss: None, ..all }),
        ("twice: the last", &[2, 4, 2, 0, 2, 4, 5, 180], mss),
        ("no operation only", &[1, 1, 1, 1], none),
        ("an MSS of nothing", &[2, 4, 0, 0], none),
        (
            "a scale too large",
            &[2, 4, 5, 180, 3, 3, 15, 0],
            Options { window_scale: Some(14), ..mss },
        ),
    ];
    for (name, bytes, expected) in cases {
        let packet = packet(bytes, Flags::SYN, b"");
        assert_eq!(read(&packet).unwrap().options, expected, "{name}");
    }
}

#[test]
fn a_segment_that_was_damaged_on_the_way_is_none() {
    let good = packet(&[1, 1, 1, 1], Flags::ACK, b"payload");
    assert!(read(&good).is_some());
    for at in 20..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 0x10;
        if let Ok(packet) = Packet::new(Network::new(&bad).unwrap()) {
            assert_eq!(Segment::read(&packet), None, "byte {at}");
        }
    }
    let mut elsewhere = good;
    elsewhere[16] ^= 1;
    assert_eq!(read(&elsewhere), None, "the pseudo-header");
}

#[test]
fn numbers_are_compared_around_the_wrap() {
    let (before, after) = (SequenceNumber(u32::MAX - 1), SequenceNumber(3));
    assert!(before.is_before(after) && !after.is_before(before) && !after.is_before(after));
    assert_eq!((after.since(before), before.plus(5), after.minus(5)), (5, after, before));
    assert!(SequenceNumber(0).is_within(before, after));
    assert!(before.is_within(before, after) && after.is_within(before, after));
    assert!(!SequenceNumber(4).is_within(before, after));
    assert!(!SequenceNumber(u32::MAX - 2).is_within(before, after));
}

proptest! {
    #[test]
    fn what_is_written_is_read_so(
        sequence: u32, acknowledgement: u32, window: u16,
        [ack, psh, rst, syn, fin] in any::<[bool; 5]>(),
        mss in of(1..=u16::MAX), window_scale in of(0..=14u8), sack_permitted: bool,
        blocks in vec(any::<(u32, u32)>(), 0..5),
        payload in vec(any::<u8>(), 0..2000),
    ) {
        let options = Options { mss, window_scale, sack_permitted };
        let has_options = options != Options::default();
        let blocks = if has_options { Vec::new() } else { blocks };
        let segment = Outgoing {
            sequence: SequenceNumber(sequence),
            acknowledgement: SequenceNumber(acknowledgement),
            flags: Flags { ack, psh, rst, syn, fin },
            window,
            options,
            blocks: blocks.iter().map(|(a, b)| (SequenceNumber(*a), SequenceNumber(*b))).collect(),
            payload: 0..payload.len(),
        };
        let mut packet = vec![0xff; 3];
        segment.write(&endpoints(), &payload, &mut packet);
        let packet = &packet[3..];

        let sliced = SlicedPacket::from_ip(packet).unwrap();
        let Some(TransportSlice::Tcp(tcp)) = sliced.transport else { panic!("no TCP") };
        let Some(etherparse::NetSlice::Ipv4(ip)) = sliced.net else { panic!("no IPv4") };
        let ip = ip.header().to_header();
        prop_assert_eq!(ip.header_checksum, ip.calc_header_checksum());
        prop_assert_eq!((ip.time_to_live, ip.dont_fragment, ip.identification), (64, true, 0));
        prop_assert_eq!((ip.source, ip.destination), (endpoints().source, endpoints().destination));
        let header = tcp.to_header();
        prop_assert_eq!(header.checksum, header.calc_checksum_ipv4(&ip, tcp.payload()).unwrap());
        prop_assert_eq!((header.source_port, header.destination_port), (4711, 443));

        let read = read(packet).expect("its checksum is right");
        prop_assert_eq!((read.sequence.0, read.acknowledgement.0), (sequence, acknowledgement));
        prop_assert_eq!((read.flags, read.window), (segment.flags, window));
        prop_assert_eq!((read.options, read.payload), (options, &payload[..]));
        let told: Vec<_> = tcp.options_iterator().filter_map(Result::ok).filter_map(|option| {
            match option {
                TcpOptionElement::SelectiveAcknowledgement(first, rest) => {
                    Some(std::iter::once(first).chain(rest.into_iter().flatten()))
                }
                _ => None,
            }
        }).flatten().collect();
        prop_assert_eq!(told, blocks.into_iter().take(4).collect::<Vec<_>>());
    }

    #[test]
    fn any_options_are_read_or_left(options in vec(any::<u8>(), 0..41)) {
        let packet = packet(&options, Flags::SYN, b"");
        prop_assert!(read(&packet).is_some());
    }
}
