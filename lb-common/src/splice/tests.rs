//! The translation by itself; `model` has it between two endpoints.

use etherparse::{IpNumber, Ipv4Header, TcpHeader};
use proptest::prelude::*;

use super::*;
use crate::checksum::{self, Sum};

/// A frame without link header, as the program's path sees one from the IPv4 header on.
struct Bytes(Vec<u8>);

impl Frame for Bytes {
    fn length(&self) -> usize {
        self.0.len()
    }

    fn interface(&self) -> u32 {
        1
    }

    fn window<const OFFSET: usize, const N: usize>(&mut self) -> Option<&mut [u8; N]> {
        self.0.get_mut(OFFSET..)?.first_chunk_mut()
    }

    fn grow_head(&mut self, _: i32) -> bool {
        false
    }

    fn set_length(&mut self, _: usize) -> bool {
        false
    }

    fn load<const N: usize>(&mut self, _: usize, _: usize, _: &mut [u8; N]) -> bool {
        false
    }
}

/// What a test says of a segment.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Segment {
    sequence: u32,
    acknowledgement: u32,
    flags: u8,
    window: u16,
    options: Vec<u8>,
    payload: Vec<u8>,
}

impl Segment {
    /// The packet, with checksums that etherparse computes.
    fn packet(&self) -> Vec<u8> {
        let mut tcp = TcpHeader::new(40_000, 80, self.sequence, self.window);
        tcp.acknowledgment_number = self.acknowledgement;
        tcp.set_options_raw(&self.options).unwrap();
        let bit = |bit| self.flags & bit != 0;
        (tcp.syn, tcp.ack, tcp.fin) = (bit(TcpFlags::SYN), bit(TcpFlags::ACK), bit(TcpFlags::FIN));
        (tcp.rst, tcp.psh) = (bit(TcpFlags::RST), bit(TcpFlags::PSH));
        let length = (tcp.header_len() + self.payload.len()).try_into().unwrap();
        let (from, to) = ([198, 51, 100, 7], [192, 0, 2, 10]);
        let mut ip = Ipv4Header::new(length, 64, IpNumber::TCP, from, to).unwrap();
        ip.header_checksum = ip.calc_header_checksum();
        tcp.checksum = tcp.calc_checksum_ipv4(&ip, &self.payload).unwrap();
        [&ip.to_bytes()[..], &tcp.to_bytes(), &self.payload].concat()
    }

    /// As it must be after the splice, said in other words than the code's.
    fn spliced(&self, splice: &Splice) -> Self {
        let mut to = self.clone();
        let moved = |number: u32| number.wrapping_add(splice.delta);
        match splice.sender {
            Sender::Server => to.sequence = moved(to.sequence),
            Sender::Client => {
                if to.flags & TcpFlags::ACK != 0 {
                    to.acknowledgement = moved(to.acknowledgement);
                }
                for edge in sack_edges(&to.options) {
                    let bytes = &mut to.options[edge..edge + 4];
                    let number = moved(u32::from_be_bytes(bytes.try_into().unwrap()));
                    bytes.copy_from_slice(&number.to_be_bytes());
                }
            }
        }
        if to.flags & TcpFlags::SYN == 0 {
            let exact = f64::from(to.window) * f64::from(splice.shift).exp2();
            let least = if to.window == 0 { 0.0 } else { 1.0 };
            to.window = exact.floor().clamp(least, 65_535.0) as u16;
        }
        to
    }
}

/// Where the SACK blocks' edges are.
fn sack_edges(options: &[u8]) -> Vec<usize> {
    let (mut edges, mut at) = (Vec::new(), 0);
    while at < options.len() && options[at] != 0 {
        if options[at] == 1 {
            at += 1;
            continue;
        }
        let Some(length) = options.get(at + 1).map(|length| usize::from(*length)) else { break };
        if length < 2 || at + length > options.len() {
            break;
        }
        if options[at] == 5 && length % 8 == 2 {
            edges.extend((at + 2..at + length).step_by(4));
        }
        at += length;
    }
    edges
}

fn run(splice: &Splice, packet: &[u8]) -> Option<Vec<u8>> {
    let mut frame = Bytes(packet.to_vec());
    let changed = splice.packet::<0, _>(&mut frame, packet.len())?;
    // The rewrite does this on the way.
    let field = frame.0[36..].first_chunk_mut()?;
    *field = checksum::update(*field, changed);
    Some(frame.0)
}

fn run_segment(splice: &Splice, packet: &[u8]) -> Option<Vec<u8>> {
    let mut packet = packet.to_vec();
    splice.segment(&mut packet[20..]).then_some(packet)
}

/// Options as stacks send them: none, SACK behind NOPs, and anything.
fn options() -> impl Strategy<Value = Vec<u8>> {
    let blocks = |most| prop::collection::vec(any::<[u8; 8]>(), 1..=most).prop_map(|b| b.concat());
    let usual = blocks(4).prop_map(|b| [&[1, 1, 5, b.len() as u8 + 2], &b[..]].concat());
    let option = prop_oneof![
        Just(vec![1]),
        Just(vec![0]),
        Just(vec![4, 2]),
        Just(vec![5, 1]),
        any::<[u8; 8]>().prop_map(|time| [&[8, 10], &time[..]].concat()),
        blocks(3).prop_map(|b| [&[5, b.len() as u8 + 2], &b[..]].concat()),
        any::<[u8; 5]>().prop_map(|odd| [&[5, 7], &odd[..]].concat()),
        any::<[u8; 2]>().prop_map(|bytes| bytes.to_vec()),
    ];
    let any_order = prop::collection::vec(option, 0..6).prop_map(|options| {
        let mut options = options.concat();
        options.truncate(40);
        options.resize(options.len().next_multiple_of(4), 1);
        options
    });
    prop_oneof![Just(vec![]), usual, any_order]
}

prop_compose! {
    fn segments()(
        sequence: u32, acknowledgement: u32, flags in 0u8..32, window: u16,
        options in options(), payload in prop::collection::vec(any::<u8>(), 0..80),
    ) -> Segment {
        Segment { sequence, acknowledgement, flags, window, options, payload }
    }
}

prop_compose! {
    fn splices()(client: bool, delta: u32, shift in -16i8..16) -> Splice {
        let sender = if client { Sender::Client } else { Sender::Server };
        Splice { sender, delta, shift }
    }
}

/// By how much a segment's checksum differs from the right one, in one's complement.
fn error(packet: &[u8]) -> u16 {
    let length = (packet.len() as u16 - 20).to_be_bytes();
    let sum = Sum::default().bytes(&packet[12..]).plus(length).plus([0, 6]);
    (!sum.fold()) % 0xffff
}

proptest! {
    #[test]
    fn a_spliced_segment_is_as_if_sent_so(segment in segments(), splice in splices()) {
        let (packet, expected) = (segment.packet(), segment.spliced(&splice).packet());
        prop_assert_eq!(run_segment(&splice, &packet), Some(expected.clone()));
        // The program does the same or nothing.
        if let Some(sent) = run(&splice, &packet) {
            prop_assert_eq!(sent, expected);
        }
    }

    #[test]
    fn the_program_splices_what_usual_stacks_send(
        segment in segments(), splice in splices(), blocks in 0usize..=4,
    ) {
        let from_server = splice.sender == Sender::Server;
        let edges: Vec<u8> = (0..blocks as u8 * 8).collect();
        let usual = match blocks {
            0 => vec![],
            _ => [&[1, 1, 5, edges.len() as u8 + 2], &edges[..]].concat(),
        };
        let options = if from_server { segment.options.clone() } else { usual };
        let segment = Segment { options, ..segment };
        prop_assert_eq!(
            run(&splice, &segment.packet()), Some(segment.spliced(&splice).packet())
        );
    }

    #[test]
    fn there_and_back_nothing_has_changed(segment in segments(), splice in splices()) {
        let there = Splice { shift: 0, ..splice };
        let back = Splice { delta: there.delta.wrapping_neg(), ..there };
        let packet = segment.packet();
        let spliced = run_segment(&there, &packet).unwrap();
        prop_assert_eq!(run_segment(&back, &spliced), Some(packet));
    }

    /// A packet that was damaged on the way must not arrive as a good one.
    #[test]
    fn a_wrong_checksum_stays_wrong_by_as_much(
        segment in segments(), splice in splices(), checksum: [u8; 2],
    ) {
        let mut packet = segment.packet();
        packet[36..38].copy_from_slice(&checksum);
        let before = error(&packet);
        prop_assert_eq!(error(&run_segment(&splice, &packet).unwrap()), before);
        if let Some(sent) = run(&splice, &packet) {
            prop_assert_eq!(error(&sent), before);
        }
    }

    #[test]
    fn nothing_makes_it_fail(
        mut bytes in prop::collection::vec(any::<u8>(), 0..120), splice in splices(),
    ) {
        let before = bytes.clone();
        if !splice.segment(&mut bytes) {
            prop_assert_eq!(&bytes, &before);
        }
        let mut frame = Bytes(before.clone());
        if splice.packet::<0, _>(&mut frame, before.len()).is_none() {
            prop_assert_eq!(frame.0, before);
        }
    }

    #[test]
    fn a_splice_survives_its_flags(splice in splices(), others: u16) {
        let side = if splice.sender == Sender::Server { Flags::REPLY } else { Flags(0) };
        let others = Flags(others).without(Flags::REPLY).without(Splice::FLAGS).and(side);
        let plain = Entry { flags: others, ..Entry::default() };
        let entry = splice.entry(plain);
        prop_assert_eq!(Splice::of(&entry), Some(splice));
        prop_assert_eq!(entry.flags.without(Splice::FLAGS), others);
        prop_assert_eq!(Splice::of(&plain), None);
    }
}

#[test]
fn options_that_reach_beyond_the_packet_are_not_the_programs() {
    let splice = Splice { sender: Sender::Client, delta: 1, shift: 0 };
    let options = [&[1, 1, 5, 10][..], &[7; 8]].concat();
    let (sequence, acknowledgement, flags) = (1, 2, TcpFlags::ACK);
    let segment = Segment { sequence, acknowledgement, flags, window: 3, options, payload: vec![] };
    let mut frame = Bytes(segment.packet());
    assert_eq!(splice.packet::<0, _>(&mut frame, 51), None);
    assert_eq!(frame.0, segment.packet());
    assert!(splice.packet::<0, _>(&mut frame, 52).is_some());
}

#[test]
fn no_open_window_is_closed_and_no_window_overflows() {
    let shifted = |shift, field| Splice { sender: Sender::Client, delta: 0, shift }.window(field);
    assert_eq!([shifted(2, 10), shifted(-2, 10), shifted(0, 10)], [40, 2, 10]);
    assert_eq!([shifted(-7, 1), shifted(-7, 0), shifted(14, 0)], [1, 0, 0]);
    assert_eq!(
        [shifted(14, 65_535), shifted(1, 32_768), shifted(1, 32_767)],
        [65_535, 65_535, 65_534]
    );
}

#[test]
fn numbers_go_there_and_back() {
    let handshakes = Handshakes { cookie: 5, server: 1, client_scales: None, server_scale: None };
    let [client, server] = [Sender::Client, Sender::Server].map(|side| handshakes.splice(side));
    assert_eq!(client.number(1), u32::MAX - 2);
    assert_eq!(server.number(u32::MAX - 2), 1);
}

#[test]
fn handshakes_tell_numbers_and_windows() {
    let handshakes = |client: Option<(u8, u8)>, server_scale| Handshakes {
        cookie: 0xffff_ff00,
        server: 0x100,
        client_scales: client.map(|(its_own, ours)| ClientScales { its_own, ours }),
        server_scale,
    };
    let shifts = |handshakes: Handshakes| {
        let [client, server] = [Sender::Client, Sender::Server].map(|s| handshakes.splice(s));
        assert_eq!((client.sender, client.delta), (Sender::Client, 0x200));
        assert_eq!((server.sender, server.delta), (Sender::Server, 0x200_u32.wrapping_neg()));
        (client.shift, server.shift)
    };
    let agreed = Some((9, 7));
    assert_eq!(shifts(handshakes(agreed, Some(7))), (0, 0));
    assert_eq!(shifts(handshakes(agreed, Some(9))), (0, 2));
    assert_eq!(shifts(handshakes(agreed, Some(0))), (0, -7));
    // Without the server's no window is scaled there, not even the client's own.
    assert_eq!(shifts(handshakes(agreed, None)), (9, -7));
    assert_eq!(shifts(handshakes(None, None)), (0, 0));
    assert_eq!(shifts(handshakes(None, Some(7))), (0, 0), "an answer to no offer");
    assert_eq!(shifts(handshakes(Some((200, 7)), Some(255))), (0, 7), "14 is the largest");
    assert_eq!(shifts(handshakes(Some((200, 7)), None)), (14, -7));
    assert_eq!(shifts(handshakes(Some((14, 7)), Some(14))), (0, 7));
    assert_eq!(shifts(handshakes(Some((0, 7)), None)), (0, -7));
}
