//! Which TCP segments an interface sends and receives.

use std::net::SocketAddrV4;

use etherparse::{NetSlice, SlicedPacket, TcpHeader, TcpOptionElement, TransportSlice};
use lb_tests::Namespace;

use crate::packet_socket::PacketSocket;

/// A segment, whichever way it went.
#[derive(Debug)]
pub struct Segment {
    pub from: SocketAddrV4,
    pub to: SocketAddrV4,
    pub tcp: TcpHeader,
    pub payload: Vec<u8>,
}

/// What an interface sends and receives from now on.
pub struct Capture(PacketSocket);

impl Capture {
    pub fn start(host: &Namespace, device: &str) -> Self {
        Self(PacketSocket::open(host, device))
    }

    /// The segments since the last call, in order.
    pub fn segments(&self) -> Vec<Segment> {
        // A host's kernel may have merged what it received.
        let mut buffer = vec![0; 1 << 17];
        let next = || self.0.receive(&mut buffer).map(|length| read(&buffer[..length]));
        std::iter::from_fn(next).flatten().collect()
    }
}

/// Nothing if it is no TCP.
fn read(frame: &[u8]) -> Option<Segment> {
    let packet = SlicedPacket::from_ethernet(frame).ok()?;
    let (Some(NetSlice::Ipv4(ip)), Some(TransportSlice::Tcp(tcp))) = (packet.net, packet.transport)
    else {
        return None;
    };
    Some(Segment {
        from: SocketAddrV4::new(ip.header().source_addr(), tcp.source_port()),
        to: SocketAddrV4::new(ip.header().destination_addr(), tcp.destination_port()),
        tcp: tcp.to_header(),
        payload: tcp.payload().to_vec(),
    })
}

/// What a SYN offers: segment size, window scale, SACK, timestamps.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Offer {
    pub mss: Option<u16>,
    pub window_scale: Option<u8>,
    pub has_sack: bool,
    pub has_timestamps: bool,
}

/// What this SYN offers.
pub fn offer(tcp: &TcpHeader) -> Offer {
    let mut offer = Offer::default();
    for option in tcp.options_iterator() {
        match option.unwrap() {
            TcpOptionElement::MaximumSegmentSize(mss) => offer.mss = Some(mss),
            TcpOptionElement::WindowScale(scale) => offer.window_scale = Some(scale),
            TcpOptionElement::SelectiveAcknowledgementPermitted => offer.has_sack = true,
            TcpOptionElement::Timestamp(..) => offer.has_timestamps = true,
            _ => {}
        }
    }
    offer
}

/// The first segment that begins a connection, or answers one.
pub fn handshake(segments: &[Segment], answers: bool) -> TcpHeader {
    let mut found = segments.iter().filter(|one| one.tcp.syn && one.tcp.ack == answers);
    let first = found.next().unwrap_or_else(|| panic!("no handshake in {segments:#?}"));
    first.tcp.clone()
}
