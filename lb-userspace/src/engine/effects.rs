//! What the engine wants done: it does no I/O itself.

use std::net::{IpAddr, SocketAddr};

use lb_common::{
    address::Protocol,
    next_hop::NextHop,
    wire::{ETHERTYPE_IPV4, ETHERTYPE_VLAN},
};

use super::{Peer, explanation::Explanation, log::FlowLog, packet::link_length};
use crate::script::TableAccess;

/// A frame to send.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Transmit<'a> {
    /// Index of the interface that it leaves by.
    pub interface: u32,
    /// From the destination MAC to the packet's end.
    pub frame: &'a [u8],
}

/// A flow's answer, as its L4_RESPONSE scripts took it.
#[derive(Clone, PartialEq, Debug)]
pub struct Response {
    /// The transport.
    pub protocol: Protocol,
    /// Who began the flow.
    pub client: SocketAddr,
    /// Where the client sends to.
    pub vip: SocketAddr,
    /// What was looked up and changed in tables.
    pub tables: Vec<TableAccess>,
}

/// Collected over a batch, then carried out by the worker.
#[derive(Debug, Default)]
pub struct Effects {
    bytes: Vec<u8>,
    frames: Vec<(u32, std::ops::Range<usize>)>,
    /// Flows that have ended, or never began.
    pub log: Vec<FlowLog>,
    /// How flows were decided, or what their scripts wait for, if somebody wants to know.
    pub explanations: Vec<Explanation>,
    /// Answers that scripts have seen, if somebody wants to know.
    pub responses: Vec<Response>,
    /// Destinations whose next hop nobody knows yet.
    pub resolve: Vec<IpAddr>,
    /// Workers that a frame was left for.
    pub wake: Vec<u16>,
    /// Servers toward which no SNAT port is left, each once a minute as long as flows are refused
    /// for it.
    pub out_of_ports: Vec<Peer>,
}

impl Effects {
    /// Forgets everything, keeping the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.frames.clear();
        self.log.clear();
        self.explanations.clear();
        self.responses.clear();
        self.resolve.clear();
        self.wake.clear();
        self.out_of_ports.clear();
    }

    /// The frames to send, in order.
    pub fn frames(&self) -> impl ExactSizeIterator<Item = Transmit<'_>> {
        self.frames.iter().map(|(interface, range)| Transmit {
            interface: *interface,
            frame: &self.bytes[range.clone()],
        })
    }

    /// Sends a frame as it is.
    pub fn push(&mut self, interface: u32, frame: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(frame);
        self.frames.push((interface, start..self.bytes.len()));
    }

    /// Sends an IPv4 packet to a resolved next hop.
    pub fn transmit(&mut self, next_hop: &NextHop, packet: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&next_hop.macs);
        if next_hop.vlan != 0 {
            self.bytes.extend_from_slice(&ETHERTYPE_VLAN);
            self.bytes.extend_from_slice(&next_hop.vlan.to_be_bytes());
        }
        self.bytes.extend_from_slice(&ETHERTYPE_IPV4);
        self.bytes.extend_from_slice(packet);
        self.frames.push((next_hop.interface, start..self.bytes.len()));
    }

    /// Answers a frame the way it came: MACs swapped, tag kept.
    pub fn answer(&mut self, interface: u32, frame: &[u8], packet: &[u8]) {
        let Some(header) = frame.get(..link_length(frame)) else { return };
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&header[6..12]);
        self.bytes.extend_from_slice(&header[..6]);
        self.bytes.extend_from_slice(&header[12..]);
        self.bytes.extend_from_slice(packet);
        self.frames.push((interface, start..self.bytes.len()));
    }
}
