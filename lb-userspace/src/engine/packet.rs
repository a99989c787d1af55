//! Reading a packet as it comes, with options, tags and fragments: correct and slow.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use lb_common::{
    address::{Port, Protocol},
    flow::FlowKeyV4,
    rewrite::{EndpointsV4, RewriteV4},
    wire::{self, ETHERNET, ETHERNET_VLAN, ETHERTYPE_IPV4, ETHERTYPE_VLAN, TcpFlags},
};

/// Why a packet cannot be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unreadable {
    /// Not IPv4 with TCP, UDP or ICMP inside: should not have come here.
    Foreign,
    /// Headers that contradict each other or the packet's length.
    Malformed,
}

/// What kind of packet it is.
#[derive(Clone, Copy, Debug)]
pub enum Parsed<'a> {
    /// TCP or UDP, whole.
    Transport(Packet<'a>),
    /// A part of one.
    Fragment(Fragment<'a>),
    /// ICMP.
    Icmp(Network<'a>),
}

/// An IPv4 packet: the bytes from its header to its end, without link header and padding.
#[derive(Clone, Copy, Debug)]
pub struct Network<'a> {
    /// Header and payload.
    pub bytes: &'a [u8],
    /// Length of the header, options included.
    pub header: usize,
}

/// A whole TCP or UDP packet over IPv4.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    /// The IPv4 packet.
    pub network: Network<'a>,
    /// The transport.
    pub protocol: Protocol,
    /// Addresses and ports.
    pub endpoints: EndpointsV4,
    /// What follows the transport header.
    pub payload: &'a [u8],
}

/// A fragment of an IPv4 packet.
#[derive(Clone, Copy, Debug)]
pub struct Fragment<'a> {
    /// The fragment itself, an IPv4 packet.
    pub network: Network<'a>,
    /// Where its payload belongs, in bytes.
    pub offset: usize,
    /// Whether others come behind it.
    pub more: bool,
}

/// The IPv4 packet in an Ethernet frame.
pub fn parse(frame: &[u8]) -> Result<Parsed<'_>, Unreadable> {
    let network = Network::in_frame(frame)?;
    if network.is_fragment() {
        return Ok(Parsed::Fragment(Fragment::new(network)?));
    }
    if network.protocol() == wire::ICMP {
        return Ok(Parsed::Icmp(network));
    }
    Packet::new(network).map(Parsed::Transport)
}

/// Length of a frame's link header, with or without a tag.
pub fn link_length(frame: &[u8]) -> usize {
    let tagged = frame.get(ETHERNET - 2..ETHERNET) == Some(&ETHERTYPE_VLAN);
    if tagged { ETHERNET_VLAN } else { ETHERNET }
}

impl<'a> Network<'a> {
    fn in_frame(frame: &'a [u8]) -> Result<Self, Unreadable> {
        let start = link_length(frame);
        if frame.get(start - 2..start) != Some(&ETHERTYPE_IPV4) {
            return Err(Unreadable::Foreign);
        }
        Self::new(&frame[start..])
    }

    /// Reads the header, and cuts off what stands behind the packet's end.
    pub fn new(bytes: &'a [u8]) -> Result<Self, Unreadable> {
        let [first, ..] = bytes else { return Err(Unreadable::Malformed) };
        let header = usize::from(first & 0x0f) * 4;
        if first >> 4 != 4 || header < 20 || bytes.len() < header {
            return Err(Unreadable::Malformed);
        }
        let total = usize::from(u16::from_be_bytes([bytes[2], bytes[3]]));
        let bytes = bytes.get(..total).ok_or(Unreadable::Malformed)?;
        if total < header { Err(Unreadable::Malformed) } else { Ok(Self { bytes, header }) }
    }

    /// IANA number of what is inside.
    pub fn protocol(&self) -> u8 {
        self.bytes[9]
    }

    /// Time to live.
    pub fn ttl(&self) -> u8 {
        self.bytes[8]
    }

    /// Identification: the same for all fragments of a packet.
    pub fn identification(&self) -> [u8; 2] {
        [self.bytes[4], self.bytes[5]]
    }

    fn flags_and_offset(&self) -> u16 {
        u16::from_be_bytes([self.bytes[6], self.bytes[7]])
    }

    fn is_fragment(&self) -> bool {
        self.flags_and_offset() & 0x3fff != 0
    }

    /// Source address.
    pub fn source(&self) -> [u8; 4] {
        four(self.bytes, 12)
    }

    /// Destination address.
    pub fn destination(&self) -> [u8; 4] {
        four(self.bytes, 16)
    }

    /// What follows the header.
    pub fn payload(&self) -> &'a [u8] {
        &self.bytes[self.header..]
    }
}

fn four(bytes: &[u8], at: usize) -> [u8; 4] {
    [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]
}

impl<'a> Packet<'a> {
    /// The TCP or UDP packet in an IPv4 packet.
    pub fn new(network: Network<'a>) -> Result<Self, Unreadable> {
        let protocol = Protocol::from_number(network.protocol()).ok_or(Unreadable::Foreign)?;
        let transport = network.payload();
        let header = match protocol {
            Protocol::Udp => 8,
            Protocol::Tcp => usize::from(transport.get(12).ok_or(Unreadable::Malformed)? >> 4) * 4,
        };
        let least = if protocol == Protocol::Tcp { 20 } else { 8 };
        if header < least || transport.len() < header {
            return Err(Unreadable::Malformed);
        }
        let end = match protocol {
            Protocol::Tcp => transport.len(),
            Protocol::Udp => usize::from(u16::from_be_bytes([transport[4], transport[5]])),
        };
        let payload = transport.get(header..end).ok_or(Unreadable::Malformed)?;
        let endpoints = EndpointsV4 {
            source: network.source(),
            destination: network.destination(),
            source_port: Port([transport[0], transport[1]]),
            destination_port: Port([transport[2], transport[3]]),
        };
        Ok(Self { network, protocol, endpoints, payload })
    }

    /// Length of the transport header, options included.
    pub fn transport_header(&self) -> usize {
        match self.protocol {
            Protocol::Tcp => usize::from(self.network.payload()[12] >> 4) * 4,
            Protocol::Udp => 8,
        }
    }

    /// What identifies its direction of its flow.
    pub fn key(&self) -> FlowKeyV4 {
        FlowKeyV4::new(&self.endpoints, self.protocol)
    }

    /// Who sent it.
    pub fn source(&self) -> SocketAddr {
        socket_address(self.endpoints.source, self.endpoints.source_port)
    }

    /// Whom it was sent to.
    pub fn destination(&self) -> SocketAddr {
        socket_address(self.endpoints.destination, self.endpoints.destination_port)
    }

    /// The TCP flags; none for UDP.
    pub fn flags(&self) -> TcpFlags {
        match self.protocol {
            Protocol::Tcp => TcpFlags(self.network.payload()[13]),
            Protocol::Udp => TcpFlags(0),
        }
    }

    /// TCP sequence number.
    pub fn sequence(&self) -> u32 {
        u32::from_be_bytes(four(self.network.payload(), 4))
    }

    /// TCP acknowledgement number.
    pub fn acknowledgement(&self) -> u32 {
        u32::from_be_bytes(four(self.network.payload(), 8))
    }

    /// How far the sequence number goes on behind this segment (RFC 9293 §3.4, SEG.LEN).
    pub fn sequence_length(&self) -> u32 {
        let flags = self.flags().0;
        let marks = u32::from(flags & TcpFlags::SYN != 0) + u32::from(flags & TcpFlags::FIN != 0);
        u32::try_from(self.payload.len()).unwrap_or_default() + marks
    }
}

impl<'a> Fragment<'a> {
    fn new(network: Network<'a>) -> Result<Self, Unreadable> {
        let word = network.flags_and_offset();
        let (offset, more) = (usize::from(word & 0x1fff) * 8, word & 0x2000 != 0);
        let length = network.payload().len();
        // All but the last carry a multiple of eight bytes, and none reaches past what a packet
        // can hold (RFC 791 §3.2).
        let malformed = length == 0
            || (more && !length.is_multiple_of(8))
            || offset + length > usize::from(u16::MAX) - 20;
        if malformed { Err(Unreadable::Malformed) } else { Ok(Self { network, offset, more }) }
    }
}

/// An address and port of a packet in the standard library's type.
pub fn socket_address(address: [u8; 4], port: Port) -> SocketAddr {
    SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::from(address), port.number()))
}

/// Rewrites an IPv4 packet of any header length in place. Of a later fragment, which has no
/// transport header, only the network header.
pub fn rewrite(packet: &mut [u8], rewrite: &RewriteV4, protocol: Protocol, has_transport: bool) {
    let header = usize::from(packet[0] & 0x0f) * 4;
    let Some(network) = packet.first_chunk_mut::<20>() else { return };
    rewrite.apply_network(network);
    if !has_transport {
        return;
    }
    let Some(transport) = packet.get_mut(header..) else { return };
    if let Some(ports) = transport.get_mut(..4) {
        ports.copy_from_slice(&rewrite.ports);
    }
    let at = match protocol {
        Protocol::Tcp => 16,
        Protocol::Udp => 6,
    };
    if let Some(checksum) = transport.get_mut(at..at + 2) {
        let new = rewrite.transport_checksum(protocol, [checksum[0], checksum[1]]);
        checksum.copy_from_slice(&new);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn any_ipv4_is_read_or_refused(
            mut bytes in prop::collection::vec(any::<u8>(), 14..200),
            length in 0u16..220,
            ihl in 4u8..16,
            protocol in prop_oneof![Just(1u8), Just(6), Just(17)],
        ) {
            bytes[12..14].copy_from_slice(&ETHERTYPE_IPV4);
            for (at, byte) in [(14, 0x40 | ihl), (16, 0), (17, length.to_be_bytes()[1]), (23, protocol)] {
                if let Some(place) = bytes.get_mut(at) {
                    *place = byte;
                }
            }
            if let Ok(Parsed::Transport(packet)) = parse(&bytes) {
                let mut copy = packet.network.bytes.to_vec();
                rewrite(&mut copy, &RewriteV4::default(), packet.protocol, true);
                let _ = packet.sequence_length();
            }
        }
    }
}
