//! TCP resets (RFC 9293 §3.5.2), made from the packet that they answer; and what makes a silent side
//! send one to answer.

use std::net::SocketAddrV4;

use lb_common::{
    address::Protocol,
    checksum::{Sum, of_tcp},
    wire::TcpFlags,
};

use super::packet::Packet;

/// The reset that answers a segment; `None` for one that is a reset itself.
pub fn answer(packet: &Packet<'_>) -> Option<[u8; 40]> {
    let flags = packet.flags();
    if flags.rst() {
        return None;
    }
    let (sequence, acknowledgement, flags) = if flags.ack() {
        (packet.acknowledgement(), 0, TcpFlags::RST)
    } else {
        let end = packet.sequence().wrapping_add(packet.sequence_length());
        (0, end, TcpFlags::RST | TcpFlags::ACK)
    };
    let from = packet.endpoints.reversed();
    let ends = (from.source, from.source_port.0, from.destination, from.destination_port.0);
    Some(segment(ends, sequence, acknowledgement, flags))
}

/// A reset that goes on in the direction of a segment, in its place.
pub fn instead_of(packet: &Packet<'_>) -> [u8; 40] {
    let ends = (
        packet.endpoints.source,
        packet.endpoints.source_port.0,
        packet.endpoints.destination,
        packet.endpoints.destination_port.0,
    );
    let flags = TcpFlags::RST | packet.flags().0 & TcpFlags::ACK;
    segment(ends, packet.sequence(), packet.acknowledgement(), flags)
}

/// A segment that its receiver must answer, wherever its sequence number is outside of the window:
/// a keep-alive probe (RFC 9293 §3.8.4).
pub fn probe(ends: Ends, sequence: u32) -> [u8; 40] {
    segment(ends, sequence, 0, TcpFlags::ACK)
}

/// Who sends a segment, and to whom: addresses and ports.
pub type Ends = ([u8; 4], [u8; 2], [u8; 4], [u8; 2]);

/// From one end to the other.
pub fn ends(from: SocketAddrV4, to: SocketAddrV4) -> Ends {
    let port = |end: SocketAddrV4| end.port().to_be_bytes();
    (from.ip().octets(), port(from), to.ip().octets(), port(to))
}

fn segment(ends: Ends, sequence: u32, acknowledgement: u32, flags: u8) -> [u8; 40] {
    let (source, source_port, destination, destination_port) = ends;
    let mut packet = [0; 40];
    packet[0] = 0x45;
    packet[3] = 40;
    packet[6] = 0x40; // do not fragment
    packet[8] = 64;
    packet[9] = Protocol::Tcp.number();
    packet[12..16].copy_from_slice(&source);
    packet[16..20].copy_from_slice(&destination);
    packet[20..22].copy_from_slice(&source_port);
    packet[22..24].copy_from_slice(&destination_port);
    packet[24..28].copy_from_slice(&sequence.to_be_bytes());
    packet[28..32].copy_from_slice(&acknowledgement.to_be_bytes());
    packet[32] = 5 << 4;
    packet[33] = flags;
    let network = Sum::default().bytes(&packet[..20]).checksum();
    packet[10..12].copy_from_slice(&network);
    let checksum = of_tcp(source, destination, &packet[20..]);
    packet[36..38].copy_from_slice(&checksum);
    packet
}
