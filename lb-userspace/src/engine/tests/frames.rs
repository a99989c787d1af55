//! Packets as the tests speak of them: built and read with etherparse, checksums verified.

use std::net::SocketAddrV4;

use etherparse::{
    IpFragOffset, IpNumber, Ipv4Header, Ipv4Options, TcpHeader, TcpSlice, UdpHeader, UdpSlice,
};
use lb_common::next_hop::Mac;

/// A TCP segment or UDP datagram over IPv4.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Message {
    pub from: SocketAddrV4,
    pub to: SocketAddrV4,
    pub transport: Transport,
    pub ttl: u8,
    pub options: Vec<u8>,
    pub payload: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Transport {
    Udp,
    Tcp { flags: u8, sequence: u32, acknowledgement: u32 },
}

pub const FIN: u8 = 1;
pub const SYN: u8 = 2;
pub const RST: u8 = 4;
pub const ACK: u8 = 16;

pub fn tcp(from: SocketAddrV4, to: SocketAddrV4, flags: u8) -> Message {
    let acknowledgement = if flags & ACK == 0 { 0 } else { 5000 };
    let transport = Transport::Tcp { flags, sequence: 1000, acknowledgement };
    Message { from, to, transport, ttl: 64, options: Vec::new(), payload: Vec::new() }
}

pub fn udp(from: SocketAddrV4, to: SocketAddrV4, payload: &[u8]) -> Message {
    let (transport, payload) = (Transport::Udp, payload.to_vec());
    Message { from, to, transport, ttl: 64, options: Vec::new(), payload }
}

impl Message {
    /// The same on the other side of the balancer.
    pub fn between(&self, from: SocketAddrV4, to: SocketAddrV4) -> Self {
        Self { from, to, ttl: self.ttl - 1, ..self.clone() }
    }

    pub fn with_payload(self, payload: &[u8]) -> Self {
        Self { payload: payload.to_vec(), ..self }
    }

    fn header(&self, length: usize) -> Ipv4Header {
        let protocol = match self.transport {
            Transport::Udp => IpNumber::UDP,
            Transport::Tcp { .. } => IpNumber::TCP,
        };
        let (source, destination) = (self.from.ip().octets(), self.to.ip().octets());
        let length = u16::try_from(length).unwrap();
        let mut header = Ipv4Header::new(length, self.ttl, protocol, source, destination).unwrap();
        header.options = Ipv4Options::try_from(&self.options[..]).unwrap();
        header.set_payload_len(length.into()).unwrap();
        header.dont_fragment = false;
        header.identification = 77;
        header
    }

    fn segment(&self) -> Vec<u8> {
        let header = self.header(0);
        let (from, to) = (self.from.port(), self.to.port());
        let mut bytes = match self.transport {
            Transport::Udp => UdpHeader::with_ipv4_checksum(from, to, &header, &self.payload)
                .unwrap()
                .to_bytes()
                .to_vec(),
            Transport::Tcp { flags, sequence, acknowledgement } => {
                let mut tcp = TcpHeader::new(from, to, sequence, 8192);
                tcp.fin = flags & FIN != 0;
                tcp.syn = flags & SYN != 0;
                tcp.rst = flags & RST != 0;
                tcp.ack = flags & ACK != 0;
                tcp.acknowledgment_number = acknowledgement;
                tcp.checksum = tcp.calc_checksum_ipv4(&header, &self.payload).unwrap();
                tcp.to_bytes().to_vec()
            }
        };
        bytes.extend_from_slice(&self.payload);
        bytes
    }

    /// The IPv4 packet.
    pub fn packet(&self) -> Vec<u8> {
        let segment = self.segment();
        let mut header = self.header(segment.len());
        header.header_checksum = header.calc_header_checksum();
        [&header.to_bytes()[..], &segment].concat()
    }

    /// The packet in fragments with `size` bytes of payload each; the last may have fewer.
    pub fn fragments(&self, size: usize) -> Vec<Vec<u8>> {
        let segment = self.segment();
        let parts = segment.chunks(size).enumerate().map(|(n, part)| {
            let mut header = self.header(part.len());
            let offset = u16::try_from(n * size / 8).unwrap();
            header.fragment_offset = IpFragOffset::try_new(offset).unwrap();
            header.more_fragments = (n + 1) * size < segment.len();
            header.header_checksum = header.calc_header_checksum();
            [&header.to_bytes()[..], part].concat()
        });
        parts.collect()
    }

    /// Reads a packet. Every length and checksum in it must be right.
    pub fn read(packet: &[u8]) -> Self {
        let (header, segment) = Ipv4Header::from_slice(packet).unwrap();
        assert_eq!(header.header_checksum, header.calc_header_checksum(), "IPv4 checksum");
        assert_eq!(usize::from(header.total_len), packet.len());
        let (transport, ports, payload) = match header.protocol {
            IpNumber::TCP => read_tcp(&header, segment),
            IpNumber::UDP => read_udp(&header, segment),
            other => panic!("neither TCP nor UDP: {other:?}"),
        };
        Self {
            from: SocketAddrV4::new(header.source.into(), ports.0),
            to: SocketAddrV4::new(header.destination.into(), ports.1),
            transport,
            ttl: header.time_to_live,
            options: header.options.to_vec(),
            payload: payload.to_vec(),
        }
    }
}

type Segment<'a> = (Transport, (u16, u16), &'a [u8]);

fn read_tcp<'a>(header: &Ipv4Header, segment: &'a [u8]) -> Segment<'a> {
    let tcp = TcpSlice::from_slice(segment).unwrap();
    let checksum = tcp.calc_checksum_ipv4(header.source, header.destination).unwrap();
    assert_eq!(tcp.checksum(), checksum, "TCP checksum");
    let flag = |is_set: bool, flag: u8| if is_set { flag } else { 0 };
    let transport = Transport::Tcp {
        flags: flag(tcp.fin(), FIN)
            | flag(tcp.syn(), SYN)
            | flag(tcp.rst(), RST)
            | flag(tcp.ack(), ACK),
        sequence: tcp.sequence_number(),
        acknowledgement: tcp.acknowledgment_number(),
    };
    let payload = &segment[tcp.header_slice().len()..];
    (transport, (tcp.source_port(), tcp.destination_port()), payload)
}

fn read_udp<'a>(header: &Ipv4Header, segment: &'a [u8]) -> Segment<'a> {
    let udp = UdpSlice::from_slice(segment).unwrap();
    let checksum = udp.to_header().calc_checksum_ipv4(header, udp.payload()).unwrap();
    assert_eq!(udp.checksum(), checksum, "UDP checksum");
    (Transport::Udp, (udp.source_port(), udp.destination_port()), &segment[8..])
}

/// Puts fragments together again, in the order that they are given in.
pub fn reassemble(fragments: &[Vec<u8>]) -> Message {
    let mut whole = Vec::new();
    let mut first = None;
    for (n, fragment) in fragments.iter().enumerate() {
        let (header, part) = Ipv4Header::from_slice(fragment).unwrap();
        assert_eq!(header.header_checksum, header.calc_header_checksum(), "fragment {n}");
        assert_eq!(usize::from(header.fragment_offset.value()) * 8, whole.len());
        assert_eq!(header.more_fragments, n + 1 < fragments.len());
        whole.extend_from_slice(part);
        first.get_or_insert(header);
    }
    let mut header = first.expect("there are fragments");
    header.more_fragments = false;
    header.set_payload_len(whole.len()).unwrap();
    header.header_checksum = header.calc_header_checksum();
    Message::read(&[&header.to_bytes()[..], &whole].concat())
}

/// An IPv4 packet with an ICMP error in it that quotes the beginning of `quoted`.
pub fn icmp_error(from: [u8; 4], to: [u8; 4], quoted: &[u8]) -> Vec<u8> {
    let quoted = &quoted[..quoted.len().min(28)];
    let unreachable = etherparse::icmpv4::DestUnreachableHeader::Port;
    let icmp = etherparse::Icmpv4Type::DestinationUnreachable(unreachable);
    let mut packet = Vec::new();
    etherparse::PacketBuilder::ipv4(from, to, 64).icmpv4(icmp).write(&mut packet, quoted).unwrap();
    packet
}

/// The addresses of an ICMP error, and the packet it quotes. All checksums must be right, but
/// that of the quoted transport, which covers more than is quoted.
pub fn read_icmp_error(packet: &[u8]) -> ([u8; 4], [u8; 4], Vec<u8>) {
    let (header, icmp) = Ipv4Header::from_slice(packet).unwrap();
    assert_eq!(header.header_checksum, header.calc_header_checksum());
    let sum = lb_common::checksum::Sum::default().bytes(icmp).checksum();
    assert_eq!(sum, [0, 0], "ICMP checksum");
    let (quoted, _) = Ipv4Header::from_slice(&icmp[8..]).unwrap();
    assert_eq!(quoted.header_checksum, quoted.calc_header_checksum(), "quoted header");
    (header.source, header.destination, icmp[8..].to_vec())
}

/// Where a frame is, and its link-layer header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Link {
    pub interface: u32,
    pub destination: Mac,
    pub source: Mac,
    pub vlan: u16,
}

impl Link {
    pub fn frame(&self, packet: &[u8]) -> Vec<u8> {
        let mut frame = [self.destination, self.source].concat();
        if self.vlan != 0 {
            frame.extend_from_slice(&[0x81, 0]);
            frame.extend_from_slice(&self.vlan.to_be_bytes());
        }
        frame.extend_from_slice(&[8, 0]);
        frame.extend_from_slice(packet);
        frame
    }

    /// A frame's link and the packet behind it, without padding.
    pub fn read(interface: u32, frame: &[u8]) -> (Self, Vec<u8>) {
        let [destination, source] = [0, 6].map(|at| frame[at..at + 6].try_into().unwrap());
        let tagged = frame[12..14] == [0x81, 0];
        let vlan = if tagged { u16::from_be_bytes([frame[14], frame[15]]) } else { 0 };
        let packet = &frame[if tagged { 18 } else { 14 }..];
        assert_eq!(frame[frame.len() - packet.len() - 2..][..2], [8, 0], "EtherType");
        let length = usize::from(u16::from_be_bytes([packet[2], packet[3]]));
        let packet = &packet[..length];
        (Self { interface, destination, source, vlan }, packet.to_vec())
    }
}
