//! A look at a captured frame, as far as is needed to tell whose it is.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use lb_common::{address::Protocol, wire::ETHERTYPE_IPV4};

use crate::engine::packet::{Parsed, link_length, parse};

/// An IPv4 packet's header, and the ports behind it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Glance {
    /// Where the IPv4 header begins.
    pub start: usize,
    /// Where the packet ends by its own word.
    pub end: usize,
    pub source: Ipv4Addr,
    pub destination: Ipv4Addr,
    /// IANA's number of the transport.
    pub transport: u8,
    pub identification: [u8; 2],
    /// Whether it is a part of a packet.
    pub is_fragment: bool,
    /// Source and destination; a later fragment has none.
    pub ports: Option<(u16, u16)>,
}

impl Glance {
    /// `None`: not IPv4 with at most one tag before it, or cut within the addresses.
    pub fn at(frame: &[u8]) -> Option<Self> {
        let start = link_length(frame);
        if frame.get(start - 2..start)? != ETHERTYPE_IPV4 {
            return None;
        }
        let header: &[u8; 20] = frame.get(start..start + 20)?.try_into().ok()?;
        if header[0] >> 4 != 4 {
            return None;
        }
        let two = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
        let (transport, fragment) = (header[9], two(6) & 0x3fff);
        let is_later = fragment & 0x1fff != 0;
        let has_ports = Protocol::from_number(transport).is_some() && !is_later;
        let at = start + usize::from(header[0] & 0x0f) * 4;
        let ports = frame.get(at..at + 4).filter(|_| has_ports);
        Some(Self {
            start,
            end: start + usize::from(two(2)),
            source: [header[12], header[13], header[14], header[15]].into(),
            destination: [header[16], header[17], header[18], header[19]].into(),
            transport,
            identification: [header[4], header[5]],
            is_fragment: fragment != 0,
            ports: ports
                .map(|p| (u16::from_be_bytes([p[0], p[1]]), u16::from_be_bytes([p[2], p[3]]))),
        })
    }

    /// TCP or UDP.
    pub fn protocol(&self) -> Option<Protocol> {
        Protocol::from_number(self.transport)
    }

    /// Who sent it.
    pub fn sender(&self) -> Option<SocketAddr> {
        Some(SocketAddrV4::new(self.source, self.ports?.0).into())
    }

    /// Whom it was sent to.
    pub fn receiver(&self) -> Option<SocketAddr> {
        Some(SocketAddrV4::new(self.destination, self.ports?.1).into())
    }
}

/// Whether the headers of a packet whose end was filled up are within the bytes that were
/// captured. Of a fragment that is never enough: the engine puts it together with others.
pub(super) fn has_headers(frame: &[u8], captured: usize) -> bool {
    match parse(frame) {
        Ok(Parsed::Transport(packet)) => {
            let headers = packet.network.header + packet.transport_header();
            link_length(frame) + headers <= captured
        }
        Ok(Parsed::Icmp(network)) => {
            // The quoted header and ports are all that is read of an error.
            link_length(frame) + network.header + 8 + 24 <= captured
        }
        Ok(Parsed::Fragment(_)) | Err(_) => false,
    }
}
