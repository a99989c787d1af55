//! Answers in a capture come from whatever served then. In a replay they must reach the flow as if
//! the server that has been chosen now had sent them: a packet from virtual service to client
//! becomes one from server to SNAT address, by the flow's rewrite the other way round.

use std::{
    collections::HashMap,
    net::{Ipv4Addr, SocketAddr},
};

use lb_common::{
    address::{Port, Protocol},
    checksum::{Sum, update},
    rewrite::{EndpointsV4, RewriteV4},
};

use super::glance::Glance;
use crate::engine::{Found, packet};

/// Answers in fragments that are remembered at once; no capture has as many on the way.
const MOST_FRAGMENTED: usize = 4096;

/// What is remembered of answers.
#[derive(Default)]
pub(super) struct Answers {
    /// Only an answer's first fragment has ports: the others follow it.
    fragmented: HashMap<Fragmented, RewriteV4>,
}

/// What fragments of one packet have in common (RFC 791 §2.3).
type Fragmented = (Ipv4Addr, Ipv4Addr, u8, [u8; 2]);

impl Answers {
    /// Whether a packet is a later fragment of an answer whose first one was seen.
    pub fn knows(&self, glance: &Glance) -> bool {
        glance.ports.is_none() && self.fragmented.contains_key(&fragmented(glance))
    }

    /// Turns an answer into the server's. False if it is none of a flow that has a server.
    pub fn turn(&mut self, glance: &Glance, frame: &mut [u8], flow: Option<&Found>) -> bool {
        let rewrite = match flow {
            Some(flow) => rewrite(glance, flow),
            None => self.fragmented.get(&fragmented(glance)).copied(),
        };
        let (Some(rewrite), Some(protocol)) = (rewrite, glance.protocol()) else { return false };
        if glance.is_fragment {
            self.remember(glance, rewrite);
        }
        let Some(bytes) = frame.get_mut(glance.start..) else { return false };
        raise_ttl(bytes);
        packet::rewrite(bytes, &rewrite, protocol, glance.ports.is_some());
        true
    }

    fn remember(&mut self, glance: &Glance, rewrite: RewriteV4) {
        if self.fragmented.len() >= MOST_FRAGMENTED {
            self.fragmented.clear();
        }
        self.fragmented.insert(fragmented(glance), rewrite);
    }
}

fn fragmented(glance: &Glance) -> Fragmented {
    (glance.source, glance.destination, glance.transport, glance.identification)
}

/// From virtual service and client to server and SNAT address.
fn rewrite(glance: &Glance, flow: &Found) -> Option<RewriteV4> {
    let to = ends(flow.server()?, flow.snat().unwrap_or(flow.client()))?;
    Some(RewriteV4::new(&ends(glance.sender()?, glance.receiver()?)?, &to))
}

fn ends(source: SocketAddr, destination: SocketAddr) -> Option<EndpointsV4> {
    let (SocketAddr::V4(source), SocketAddr::V4(destination)) = (source, destination) else {
        return None;
    };
    Some(EndpointsV4 {
        source: source.ip().octets(),
        destination: destination.ip().octets(),
        source_port: Port::new(source.port()),
        destination_port: Port::new(destination.port()),
    })
}

/// The balancer has counted the answer down once, and turning it back does again. Raised by both,
/// it leaves the replay as it was captured.
fn raise_ttl(packet: &mut [u8]) {
    let old = [packet[8], packet[9]];
    packet[8] = packet[8].saturating_add(2);
    let delta = Sum::default().plus([packet[8], packet[9]]).minus(old).fold();
    let checksum = update([packet[10], packet[11]], delta);
    packet[10..12].copy_from_slice(&checksum);
}

/// The protocol and the ends of the flow that an answer belongs to: client, then service.
pub(super) fn of_flow(glance: &Glance) -> Option<(Protocol, SocketAddr, SocketAddr)> {
    Some((glance.protocol()?, glance.receiver()?, glance.sender()?))
}
