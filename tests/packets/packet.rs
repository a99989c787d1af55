//! Packets from descriptions, with checksums that etherparse computes: nothing here shares code
//! with what is tested.

use etherparse::{
    IpNumber, Ipv4Header, NetSlice, SlicedPacket, TcpHeader, TransportSlice, UdpHeader,
};
use lb_common::{
    address::{Port, Protocol},
    flow::FlowKeyV4,
    next_hop::Mac,
    rewrite::EndpointsV4,
    wire::{ETHERTYPE_IPV4, ETHERTYPE_VLAN, TcpFlags},
};

/// Shorthand for tables of addresses.
pub const fn endpoints(from: ([u8; 4], u16), to: ([u8; 4], u16)) -> EndpointsV4 {
    EndpointsV4 {
        source: from.0,
        destination: to.0,
        source_port: Port::new(from.1),
        destination_port: Port::new(to.1),
    }
}

/// What is behind the IPv4 header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Transport {
    /// A segment with these flags.
    Tcp(u8),
    /// A datagram with a checksum.
    Udp,
    /// A datagram whose sender made none (RFC 768).
    UdpWithoutChecksum,
}

/// What else is in a segment's header.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tcp {
    pub sequence: u32,
    pub acknowledgement: u32,
    pub window: u16,
    pub options: Vec<u8>,
}

/// A packet in words.
#[derive(Clone, Debug)]
pub struct Packet {
    /// Destination and source MAC.
    pub macs: [Mac; 2],
    /// The 802.1Q tag's control information.
    pub tag: Option<u16>,
    /// Time to live.
    pub ttl: u8,
    /// Addresses and ports.
    pub endpoints: EndpointsV4,
    /// TCP or UDP.
    pub transport: Transport,
    /// A segment's numbers and options.
    pub tcp: Tcp,
    /// What the transport carries.
    pub payload: Vec<u8>,
    /// Bytes behind the packet's end, as Ethernet has them in short frames.
    pub padding: usize,
}

impl Packet {
    /// As a host sends it, with a payload of an even length.
    pub fn new(endpoints: EndpointsV4, transport: Transport) -> Self {
        Self {
            macs: [[2, 0, 0, 0, 0, 0xfe], [2, 0, 0, 0, 0, 1]],
            tag: None,
            ttl: 64,
            endpoints,
            transport,
            tcp: Tcp {
                sequence: 0x1234_5678,
                acknowledgement: 0x9abc_def0,
                window: 4096,
                options: vec![],
            },
            payload: b"GET / HTTP/1.1\r\n".to_vec(),
            padding: 0,
        }
    }

    /// A segment in the middle of a connection.
    pub fn tcp(endpoints: EndpointsV4) -> Self {
        Self::new(endpoints, Transport::Tcp(TcpFlags::ACK | TcpFlags::PSH))
    }

    /// A datagram.
    pub fn udp(endpoints: EndpointsV4) -> Self {
        Self::new(endpoints, Transport::Udp)
    }

    /// The same by the protocol's number.
    pub fn of(protocol: Protocol, endpoints: EndpointsV4) -> Self {
        match protocol {
            Protocol::Tcp => Self::tcp(endpoints),
            Protocol::Udp => Self::udp(endpoints),
        }
    }

    /// With this time to live.
    pub fn ttl(self, ttl: u8) -> Self {
        Self { ttl, ..self }
    }

    /// With this tag, priority bits included.
    pub fn tag(self, tag: u16) -> Self {
        Self { tag: Some(tag), ..self }
    }

    /// With these flags.
    pub fn flags(self, flags: u8) -> Self {
        Self { transport: Transport::Tcp(flags), ..self }
    }

    /// With these numbers and options.
    pub fn numbered(self, tcp: Tcp) -> Self {
        Self { tcp, ..self }
    }

    /// With these numbers.
    pub fn numbers(self, sequence: u32, acknowledgement: u32) -> Self {
        let tcp = Tcp { sequence, acknowledgement, ..self.tcp };
        Self { tcp, ..self }
    }

    /// With these options.
    pub fn options(self, options: &[u8]) -> Self {
        let tcp = Tcp { options: options.to_vec(), ..self.tcp };
        Self { tcp, ..self }
    }

    /// With this payload.
    pub fn payload(self, payload: &[u8]) -> Self {
        Self { payload: payload.to_vec(), ..self }
    }

    /// With this many bytes behind its end.
    pub fn padding(self, padding: usize) -> Self {
        Self { padding, ..self }
    }

    /// What the flow table knows it by.
    pub fn key(&self) -> FlowKeyV4 {
        FlowKeyV4::new(&self.endpoints, self.protocol())
    }

    /// The TCP flags; none in a datagram.
    pub fn tcp_flags(&self) -> TcpFlags {
        match self.transport {
            Transport::Tcp(flags) => TcpFlags(flags),
            Transport::Udp | Transport::UdpWithoutChecksum => TcpFlags(0),
        }
    }

    fn protocol(&self) -> Protocol {
        match self.transport {
            Transport::Tcp(_) => Protocol::Tcp,
            Transport::Udp | Transport::UdpWithoutChecksum => Protocol::Udp,
        }
    }

    /// The frame.
    pub fn bytes(&self) -> Vec<u8> {
        let [destination, source] = self.macs;
        let mut frame = [destination, source].concat();
        if let Some(tag) = self.tag {
            frame.extend(ETHERTYPE_VLAN);
            frame.extend(tag.to_be_bytes());
        }
        frame.extend(ETHERTYPE_IPV4);
        frame.extend(self.network());
        frame.extend(vec![0; self.padding]);
        frame
    }

    /// The packet without its frame.
    pub fn network(&self) -> Vec<u8> {
        let number = IpNumber(self.protocol().number());
        let EndpointsV4 { source, destination, .. } = self.endpoints;
        let mut ip = Ipv4Header::new(0, self.ttl, number, source, destination).unwrap();
        let segment = self.segment(&ip);
        ip.set_payload_len(segment.len()).unwrap();
        ip.dont_fragment = true;
        ip.header_checksum = ip.calc_header_checksum();
        [&ip.to_bytes()[..], &segment].concat()
    }

    fn segment(&self, ip: &Ipv4Header) -> Vec<u8> {
        let [from, to] = [self.endpoints.source_port, self.endpoints.destination_port];
        match self.transport {
            Transport::Tcp(flags) => {
                let Tcp { sequence, acknowledgement, window, ref options } = self.tcp;
                let mut tcp = TcpHeader::new(from.number(), to.number(), sequence, window);
                tcp.acknowledgment_number = acknowledgement;
                tcp.set_options_raw(options).unwrap();
                tcp.fin = flags & TcpFlags::FIN != 0;
                tcp.syn = flags & TcpFlags::SYN != 0;
                tcp.rst = flags & TcpFlags::RST != 0;
                tcp.psh = flags & TcpFlags::PSH != 0;
                tcp.ack = flags & TcpFlags::ACK != 0;
                tcp.checksum = tcp.calc_checksum_ipv4(ip, &self.payload).unwrap();
                [&tcp.to_bytes()[..], &self.payload].concat()
            }
            Transport::Udp => {
                let udp =
                    UdpHeader::with_ipv4_checksum(from.number(), to.number(), ip, &self.payload);
                [&udp.unwrap().to_bytes()[..], &self.payload].concat()
            }
            Transport::UdpWithoutChecksum => {
                let length = self.payload.len();
                let udp =
                    UdpHeader::without_ipv4_checksum(from.number(), to.number(), length).unwrap();
                [&udp.to_bytes()[..], &self.payload].concat()
            }
        }
    }
}

/// Makes the IPv4 header's checksum right again after a change, whatever the header's length.
pub fn seal(packet: &mut [u8]) {
    let length = usize::from(packet[0] & 0xf) * 4;
    packet[10..12].fill(0);
    let words = packet[..length].chunks_exact(2);
    let sum: u32 = words.map(|word| u32::from(u16::from_be_bytes([word[0], word[1]]))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let checksum = !u16::try_from((folded & 0xffff) + (folded >> 16)).unwrap();
    packet[10..12].copy_from_slice(&checksum.to_be_bytes());
}

/// An ICMP error (RFC 792) of this type to `destination`, about a packet.
pub fn icmp(kind: u8, source: [u8; 4], destination: [u8; 4], quoted: &[u8]) -> Vec<u8> {
    let mut message = vec![kind, 0, 0, 0, 0, 0, 0, 0];
    message.extend(quoted);
    let length = u16::try_from(message.len()).unwrap();
    let mut ip = Ipv4Header::new(length, 64, IpNumber::ICMP, source, destination).unwrap();
    ip.header_checksum = ip.calc_header_checksum();
    framed(&[&ip.to_bytes()[..], &message].concat())
}

/// An untagged frame around a packet.
pub fn framed(packet: &[u8]) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 0xfe, 2, 0, 0, 0, 0, 1];
    frame.extend(ETHERTYPE_IPV4);
    frame.extend(packet);
    frame
}

/// Whether every checksum in a frame is right, by recomputation. `None` if it is no whole TCP or
/// UDP packet.
pub fn checksums_hold(frame: &[u8]) -> Option<bool> {
    let sliced = SlicedPacket::from_ethernet(frame).ok()?;
    let Some(NetSlice::Ipv4(ip)) = &sliced.net else { return None };
    let header = ip.header().to_header();
    let transport = match sliced.transport.as_ref()? {
        TransportSlice::Tcp(tcp) => {
            let right = tcp.to_header().calc_checksum_ipv4(&header, tcp.payload()).ok()?;
            tcp.checksum() == right
        }
        TransportSlice::Udp(udp) if udp.checksum() == 0 => true,
        // A computed zero is all ones here too.
        TransportSlice::Udp(udp) => {
            let right = udp.to_header().calc_checksum_ipv4(&header, udp.payload()).ok()?;
            udp.checksum() == right
        }
        _ => return None,
    };
    Some(transport && header.header_checksum == header.calc_header_checksum())
}

/// The addresses and ports that a frame's first packet has, and its time to live.
pub fn read(frame: &[u8]) -> Option<(EndpointsV4, u8)> {
    let sliced = SlicedPacket::from_ethernet(frame).ok()?;
    let ip = sliced.net.as_ref()?.ipv4_ref()?.header();
    let (from, to) = match sliced.transport.as_ref()? {
        TransportSlice::Tcp(tcp) => (tcp.source_port(), tcp.destination_port()),
        TransportSlice::Udp(udp) => (udp.source_port(), udp.destination_port()),
        _ => return None,
    };
    Some((endpoints((ip.source(), from), (ip.destination(), to)), ip.ttl()))
}
