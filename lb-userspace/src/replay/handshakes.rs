//! Handshakes of inspected connections. In a capture they are with whoever answered then, who gave
//! the client another initial number than the program does now.
//!
//! What the client sends is translated to the number that it would have been given, as a splice
//! does. The SYN-ACK of the capture waits until a server has been sent a SYN: then it is that
//! server's. From there on answers are the server's as they were captured.

use std::{collections::HashMap, net::SocketAddr, ops::Range};

use lb_common::{
    address::Protocol,
    checksum::of_tcp,
    rewrite::EndpointsV4,
    splice::{Sender, Splice},
    wire::TcpFlags,
};

use crate::engine::packet::{Packet, Parsed, link_length, parse};

/// Connections that are remembered at once; no capture has as many handshakes on the way.
const MOST: usize = 1 << 16;

/// Where the checksum stands in a TCP header (RFC 9293 §3.1).
const CHECKSUM: Range<usize> = 16..18;

/// Client, then service.
pub(super) type Ends = (SocketAddr, SocketAddr);

/// The connections of clients that were given a cookie.
#[derive(Default)]
pub(super) struct Handshakes(HashMap<Ends, Shaken>);

struct Shaken {
    /// What the program has answered with now.
    ours: u32,
    /// What was answered in the capture, as far as it is known.
    theirs: Option<u32>,
    /// The answer, until a server is there to give it.
    syn_ack: Option<Vec<u8>>,
}

impl Handshakes {
    /// A frame leaves because another came: if it is a SYN's cookie, it is remembered.
    pub fn notice(&mut self, came: &[u8], sent: &[u8]) {
        let Some((syn, packet)) = tcp(came).zip(tcp(sent)) else { return };
        if syn.flags().opens() && is_syn_ack(&packet) {
            if self.0.len() >= MOST {
                self.0.clear();
            }
            let shaken = Shaken { ours: packet.sequence(), theirs: None, syn_ack: None };
            self.0.insert((packet.destination(), packet.source()), shaken);
        }
    }

    /// Keeps the capture's own answer to a client that was given a cookie. False if it is none.
    pub fn keep(&mut self, frame: &[u8]) -> bool {
        let Some(packet) = tcp(frame).filter(is_syn_ack) else { return false };
        let Some(shaken) = self.0.get_mut(&(packet.destination(), packet.source())) else {
            return false;
        };
        if shaken.theirs.is_none() {
            shaken.theirs = Some(packet.sequence());
            shaken.syn_ack = Some(frame.to_vec());
        }
        true
    }

    /// Whether this connection's client was given a cookie.
    pub fn knows(&self, ends: &Ends) -> bool {
        self.0.contains_key(ends)
    }

    /// The answer that waits for this connection's server.
    pub fn take(&mut self, ends: &Ends) -> Option<Vec<u8>> {
        self.0.get_mut(ends)?.syn_ack.take()
    }

    /// Translates what a client sends.
    pub fn translate(&mut self, frame: &mut [u8]) {
        let Some(packet) = tcp(frame) else { return };
        let (flags, acknowledgement) = (packet.flags(), packet.acknowledgement());
        let Some(shaken) = self.0.get_mut(&(packet.source(), packet.destination())) else { return };
        if flags.opens() || !flags.ack() {
            return;
        }
        // Of a capture of one direction, the first acknowledgement says what was answered.
        let theirs = *shaken.theirs.get_or_insert(acknowledgement.wrapping_sub(1));
        let delta = shaken.ours.wrapping_sub(theirs);
        let splice = Splice { sender: Sender::Client, delta, shift: 0 };
        if let Some(segment) = segment(frame) {
            splice.segment(segment);
        }
        restore(frame);
    }
}

fn is_syn_ack(packet: &Packet<'_>) -> bool {
    const SYN_ACK: u8 = TcpFlags::SYN | TcpFlags::ACK;
    packet.flags().0 & SYN_ACK == SYN_ACK
}

/// The TCP segment in a frame, if it is whole.
fn tcp(frame: &[u8]) -> Option<Packet<'_>> {
    match parse(frame) {
        Ok(Parsed::Transport(packet)) if packet.protocol == Protocol::Tcp => Some(packet),
        _ => None,
    }
}

/// The TCP segment of a frame that [`tcp`] can read.
fn segment(frame: &mut [u8]) -> Option<&mut [u8]> {
    let network = tcp(frame)?.network;
    let (header, total) = (network.header, network.bytes.len());
    let start = link_length(frame);
    frame.get_mut(start + header..start + total)
}

/// Computes the checksum of a TCP segment. Captured where a network card was to do that, it is not
/// there yet; and an inspected connection takes no segment with a wrong one.
pub(super) fn restore(frame: &mut [u8]) {
    let Some(EndpointsV4 { source, destination, .. }) = tcp(frame).map(|it| it.endpoints) else {
        return;
    };
    let Some(segment) = segment(frame) else { return };
    let Some(field) = segment.get_mut(CHECKSUM) else { return };
    field.fill(0);
    let checksum = of_tcp(source, destination, segment);
    segment[CHECKSUM].copy_from_slice(&checksum);
}
