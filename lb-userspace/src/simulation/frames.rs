//! Frames that hosts around a simulated balancer send.

use std::net::{SocketAddr, SocketAddrV4};

use etherparse::{IpHeaders, PacketBuilder, PacketBuilderStep};
use lb_common::{address::Protocol, wire::TcpFlags};

use super::network::{MAC, mac_of};
use crate::engine::{Found, Query};

/// Hops that packets may make: as most systems send them.
const TTL: u8 = 64;
const WINDOW: u16 = 65_535;
/// Where sequence numbers begin; any number will do.
const SEQUENCE: u32 = 1_000;

/// The frame that begins a flow: a SYN, which may carry data (RFC 7413), or a datagram. `None`:
/// not of IPv4, or the payload is longer than a packet can be.
pub fn first_packet(query: &Query<'_>) -> Option<Vec<u8>> {
    let (client, vip) = (v4(query.client)?, v4(query.vip)?);
    let packet = between(client, vip);
    match query.protocol {
        Protocol::Tcp => {
            let syn = packet.tcp(client.port(), vip.port(), SEQUENCE, WINDOW).syn();
            built(query.payload, |frame| syn.write(frame, query.payload).is_ok())
        }
        Protocol::Udp => {
            let datagram = packet.udp(client.port(), vip.port());
            built(query.payload, |frame| datagram.write(frame, query.payload).is_ok())
        }
    }
}

/// A frame from a flow's client, after the first: an acknowledgement, which may carry data, or a
/// datagram. `None`: the payload is longer than a packet can be.
pub fn from_client(flow: &Found, payload: &[u8]) -> Option<Vec<u8>> {
    let (client, vip) = (v4(flow.client())?, v4(flow.vip())?);
    let packet = between(client, vip);
    match flow.protocol() {
        Protocol::Tcp => {
            let segment = packet.tcp(client.port(), vip.port(), SEQUENCE + 1, WINDOW);
            let segment = segment.ack(SEQUENCE + 1);
            built(payload, |frame| segment.write(frame, payload).is_ok())
        }
        Protocol::Udp => {
            let datagram = packet.udp(client.port(), vip.port());
            built(payload, |frame| datagram.write(frame, payload).is_ok())
        }
    }
}

/// A frame from a flow's server, on its way back: data, or of TCP the first answer with data in
/// it. `None`: the flow has no server, or the payload is longer than a packet can be.
pub fn from_server(flow: &Found, payload: &[u8]) -> Option<Vec<u8>> {
    let server = v4(flow.server()?)?;
    let client = v4(flow.snat().unwrap_or(flow.client()))?;
    let packet = between(server, client);
    match flow.protocol() {
        Protocol::Tcp => {
            let segment = packet.tcp(server.port(), client.port(), SEQUENCE, WINDOW);
            let segment = segment.syn().ack(SEQUENCE + 1);
            built(payload, |frame| segment.write(frame, payload).is_ok())
        }
        Protocol::Udp => {
            let datagram = packet.udp(server.port(), client.port());
            built(payload, |frame| datagram.write(frame, payload).is_ok())
        }
    }
}

/// A TCP segment as one end sends it to the other.
#[derive(Clone, Copy, Debug)]
pub struct Segment<'a> {
    /// Who sends it, and to whom.
    pub ends: (SocketAddr, SocketAddr),
    /// See [`TcpFlags`].
    pub flags: TcpFlags,
    /// Of the first byte, or of SYN.
    pub sequence: u32,
    /// Counts with the ACK flag.
    pub acknowledgement: u32,
    /// What is behind the header.
    pub payload: &'a [u8],
}

impl Segment<'_> {
    /// Its frame. `None`: not of IPv4, or longer than a packet can be.
    pub fn frame(&self) -> Option<Vec<u8>> {
        let (from, to) = (v4(self.ends.0)?, v4(self.ends.1)?);
        let mut segment = between(from, to).tcp(from.port(), to.port(), self.sequence, WINDOW);
        if self.flags.ack() {
            segment = segment.ack(self.acknowledgement);
        }
        if self.flags.0 & TcpFlags::SYN != 0 {
            segment = segment.syn();
        }
        if self.flags.fin() {
            segment = segment.fin();
        }
        built(self.payload, |frame| segment.write(frame, self.payload).is_ok())
    }
}

fn between(from: SocketAddrV4, to: SocketAddrV4) -> PacketBuilderStep<IpHeaders> {
    PacketBuilder::ethernet2(mac_of(from.ip().to_bits()), MAC).ipv4(
        from.ip().octets(),
        to.ip().octets(),
        TTL,
    )
}

fn built(payload: &[u8], write: impl FnOnce(&mut Vec<u8>) -> bool) -> Option<Vec<u8>> {
    let mut frame = Vec::with_capacity(payload.len() + 64);
    write(&mut frame).then_some(frame)
}

fn v4(address: SocketAddr) -> Option<SocketAddrV4> {
    match address {
        SocketAddr::V4(v4) => Some(v4),
        SocketAddr::V6(_) => None,
    }
}
