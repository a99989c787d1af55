//! Which TCP segments an interface sends and receives.

use std::net::SocketAddrV4;

use etherparse::{NetSlice, SlicedPacket, TcpHeader, TransportSlice};
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
