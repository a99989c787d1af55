//! ICMP errors about packets of our flows (RFC 792, RFC 5508 §4).
//!
//! A router or host that could not take a packet quotes it as it saw it: after our rewrite. The
//! error travels against the packet, in the direction of the flow's other entry, and has to
//! quote the packet as its sender made it.

use lb_common::{
    address::Protocol,
    checksum::Sum,
    flow::{Entry, FlowKeyV4},
    rewrite::{EndpointsV4, RewriteV4},
    splice::{Sender, Splice},
    wire,
};

use super::packet::{self, Network};

/// Bytes of an ICMP header.
const ICMP_HEADER: usize = 8;

/// An ICMP error, and the flow that it is about.
#[derive(Clone, Copy, Debug)]
pub(super) struct IcmpError<'a> {
    outer: Network<'a>,
    quoted: EndpointsV4,
    protocol: Protocol,
    /// What follows the quoted ports: of TCP, the sequence number.
    number: [u8; 4],
}

/// ICMP's *destination unreachable*, and of its codes *fragmentation needed* (RFC 792).
const UNREACHABLE: u8 = 3;
const TOO_BIG: u8 = 4;

impl<'a> IcmpError<'a> {
    /// Reads the quotation; `None` for any other ICMP message.
    pub fn new(outer: Network<'a>) -> Option<Self> {
        let icmp = outer.payload();
        if !wire::icmp_quotes(*icmp.first()?) {
            return None;
        }
        let quoted = icmp.get(ICMP_HEADER..)?;
        let first = *quoted.first()?;
        let header = usize::from(first & 0x0f) * 4;
        if first >> 4 != 4 || header < 20 {
            return None;
        }
        let protocol = Protocol::from_number(*quoted.get(9)?)?;
        let at = |at: usize| quoted.get(at..at + 4)?.first_chunk::<4>().copied();
        let [a, b, c, d] = at(header)?;
        let quoted = EndpointsV4 {
            source: at(12)?,
            destination: at(16)?,
            source_port: lb_common::address::Port([a, b]),
            destination_port: lb_common::address::Port([c, d]),
        };
        let number = at(header + 4)?;
        Some(Self { outer, quoted, protocol, number })
    }

    /// The quoted segment's sequence number.
    pub fn quoted_sequence(&self) -> u32 {
        u32::from_be_bytes(self.number)
    }

    /// How long a packet may be that gets through, if this one was too long (RFC 1191 §4).
    pub fn fitting(&self) -> Option<u16> {
        match self.outer.payload() {
            [UNREACHABLE, TOO_BIG, _, _, _, _, high, low, ..] => {
                Some(u16::from_be_bytes([*high, *low]))
            }
            _ => None,
        }
    }

    /// The key of the direction in which the error travels.
    pub fn key(&self) -> FlowKeyV4 {
        FlowKeyV4::new(&self.quoted.reversed(), self.protocol)
    }

    /// The error as the quoted packet's sender has to see it.
    pub fn rewritten(&self, entry: &Entry) -> Vec<u8> {
        let new = entry.rewrite.endpoints();
        let mut packet = self.outer.bytes.to_vec();
        // With a source address of our own in use the far side must not show; without, the
        // router that reports stays who it is.
        if new.source != self.quoted.destination {
            packet[12..16].copy_from_slice(&new.source);
        }
        packet[16..20].copy_from_slice(&new.destination);
        packet[8] = packet[8].saturating_sub(1);
        let header = self.outer.header;
        refresh_checksum(&mut packet[..header], 10);
        self.restore_quotation(&mut packet[header + ICMP_HEADER..], entry);
        refresh_checksum(&mut packet[header..], 2);
        packet
    }

    /// Addresses, ports and checksums become the sender's own; the TTL stays what it was where the
    /// error arose, be it 0.
    fn restore_quotation(&self, quoted: &mut [u8], entry: &Entry) {
        let (ttl, sent) = (quoted[8], entry.rewrite.endpoints().reversed());
        packet::rewrite(quoted, &RewriteV4::new(&self.quoted, &sent), self.protocol, true);
        quoted[8] = ttl;
        let header = usize::from(quoted[0] & 0x0f) * 4;
        // An error on its way to the server quotes a segment of the server's: as the client was to
        // see it. The client's own numbers are nowhere translated.
        if let Some(splice) = Splice::of(entry).filter(|splice| splice.sender == Sender::Client)
            && let Some(number) = quoted.get_mut(header + 4..header + 8)
        {
            number.copy_from_slice(&splice.number(self.quoted_sequence()).to_be_bytes());
        }
        refresh_checksum(&mut quoted[..header], 10);
    }
}

/// Computes the checksum of `bytes` anew, into the two bytes at `at`.
fn refresh_checksum(bytes: &mut [u8], at: usize) {
    bytes[at..at + 2].fill(0);
    let checksum = Sum::default().bytes(bytes).checksum();
    bytes[at..at + 2].copy_from_slice(&checksum);
}
