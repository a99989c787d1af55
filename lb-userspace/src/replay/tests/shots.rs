//! Captures that tests make, with the library that reads them.

use etherparse::PacketBuilder;
use pcap_parser::{
    EnhancedPacketBlock, InterfaceDescriptionBlock, LegacyPcapBlock, Linktype, PcapHeader,
    SectionHeaderBlock, ToVec as _,
};

/// 2026-01-02 03:04:05 UTC.
pub const BEGINNING: u64 = 1_767_323_045;

/// A frame, and when it was captured: microseconds after the beginning.
pub type Shot = (u64, Vec<u8>);

type Ends<'a> = (&'a str, &'a str);

fn end(text: &str) -> ([u8; 4], u16) {
    let end: std::net::SocketAddrV4 = text.parse().unwrap();
    (end.ip().octets(), end.port())
}

pub fn udp((from, to): Ends<'_>, payload: &[u8]) -> Vec<u8> {
    let ((from, source), (to, destination)) = (end(from), end(to));
    let packet = PacketBuilder::ethernet2([2; 6], [4; 6]).ipv4(from, to, 60);
    let mut frame = Vec::new();
    packet.udp(source, destination).write(&mut frame, payload).unwrap();
    frame
}

/// `flags`: of `SAFR`; a segment without S carries on behind it.
pub fn tcp((from, to): Ends<'_>, flags: &str, payload: &[u8]) -> Vec<u8> {
    let ((from, source), (to, destination)) = (end(from), end(to));
    let packet = PacketBuilder::ethernet2([2; 6], [4; 6]).ipv4(from, to, 60);
    let mut packet = packet.tcp(source, destination, 1000, 512);
    for flag in flags.chars() {
        packet = match flag {
            'S' => packet.syn(),
            'A' => packet.ack(1001),
            'F' => packet.fin(),
            _ => packet.rst(),
        };
    }
    let mut frame = Vec::new();
    packet.write(&mut frame, payload).unwrap();
    frame
}

/// A frame with a tag of this type behind its addresses.
pub fn tagged(frame: &[u8], ethertype: [u8; 2]) -> Vec<u8> {
    [&frame[..12], &ethertype, &[0, 7], &frame[12..]].concat()
}

pub fn pcap(shots: &[Shot]) -> Vec<u8> {
    pcap_with(0xa1b2_c3d4, 1, shots)
}

/// With this magic number and link type.
pub fn pcap_with(magic: u32, link: i32, shots: &[Shot]) -> Vec<u8> {
    let per_micro = if magic == 0xa1b2_3c4d { 1000 } else { 1 };
    let header = PcapHeader { magic_number: magic, network: Linktype(link), ..PcapHeader::new() };
    let mut bytes = { header }.to_vec().unwrap();
    for (at, frame) in shots {
        bytes.extend(record(*at, per_micro, frame, frame.len()));
    }
    bytes
}

/// Of a frame that had `original` bytes.
pub fn record(at: u64, per_micro: u32, frame: &[u8], original: usize) -> Vec<u8> {
    let mut block = LegacyPcapBlock {
        ts_sec: (BEGINNING + at / 1_000_000) as u32,
        ts_usec: (at % 1_000_000) as u32 * per_micro,
        caplen: frame.len() as u32,
        origlen: original as u32,
        data: frame,
    };
    block.to_vec().unwrap()
}

/// The same in the other byte order.
pub fn swapped(pcap: &[u8]) -> Vec<u8> {
    let mut bytes = pcap.to_vec();
    let words = |range: std::ops::Range<usize>| range.step_by(4);
    words(0..4).chain(words(8..24)).for_each(|at| bytes[at..at + 4].reverse());
    [4, 6].into_iter().for_each(|at: usize| bytes[at..at + 2].reverse());
    let mut at = 24;
    while at < bytes.len() {
        let length = u32::from_le_bytes(pcap[at + 8..at + 12].try_into().unwrap()) as usize;
        words(at..at + 16).for_each(|at| bytes[at..at + 4].reverse());
        at += 16 + length;
    }
    bytes
}

/// In pcapng, of two interfaces in turn: one in microseconds, one in nanoseconds.
pub fn pcapng(shots: &[Shot]) -> Vec<u8> {
    let mut bytes = section();
    bytes.extend(interface(1, 6));
    bytes.extend(interface(1, 9));
    for (index, (at, frame)) in shots.iter().enumerate() {
        let per_micro = if index % 2 == 0 { 1 } else { 1000 };
        bytes.extend(enhanced(index as u32 % 2, *at, per_micro, frame));
    }
    bytes
}

pub fn section() -> Vec<u8> {
    let mut section = SectionHeaderBlock {
        block_type: 0,
        block_len1: 0,
        bom: 0,
        major_version: 0,
        minor_version: 0,
        section_len: -1,
        options: vec![],
        block_len2: 0,
    };
    section.to_vec().unwrap()
}

pub fn interface(link: i32, resolution: u8) -> Vec<u8> {
    let mut interface = InterfaceDescriptionBlock {
        block_type: 0,
        block_len1: 0,
        linktype: Linktype(link),
        reserved: 0,
        snaplen: 0,
        options: vec![],
        block_len2: 0,
        if_tsresol: resolution,
        if_tsoffset: 0,
    };
    interface.to_vec().unwrap()
}

pub fn enhanced(interface: u32, at: u64, per_micro: u64, frame: &[u8]) -> Vec<u8> {
    let ticks = (BEGINNING * 1_000_000 + at) * per_micro;
    let mut block = EnhancedPacketBlock {
        block_type: 0,
        block_len1: 0,
        if_id: interface,
        ts_high: (ticks >> 32) as u32,
        ts_low: ticks as u32,
        caplen: frame.len() as u32,
        origlen: frame.len() as u32,
        data: frame,
        options: vec![],
        block_len2: 0,
    };
    block.to_vec().unwrap()
}
