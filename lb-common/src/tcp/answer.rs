//! Answers that are written over the packet that they answer.

use super::{cookie::Data, segment::Segment};
use crate::{
    checksum::Sum,
    wire::{TcpFlags, put},
};

/// An answer without options but the segment size, or with none; padded to the shortest payload
/// that Ethernet carries (IEEE 802.3 §3.2.7), also behind a tag that somebody may take away.
pub const SHORT: usize = 46;
/// An answer with all options.
pub const LONG: usize = 52;

/// The longest segment that a client may send, as it is told: Ethernet's without tunnels.
pub const MSS: u16 = 1460;
/// By how many bits our windows are to be shifted, as a client is told that offers that.
pub const WINDOW_SCALE: u8 = 7;
/// The window that a client is told with the cookie: the most that needs no scale.
pub const WINDOW: u16 = u16::MAX;

/// Time to live of an answer.
const TTL: u8 = 64;

/// A segment without payload.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Answer {
    source: [u8; 4],
    destination: [u8; 4],
    ports: [u8; 4],
    sequence: u32,
    acknowledgement: u32,
    flags: u8,
    window: u16,
    /// Bytes of the TCP header.
    header: u8,
    size: [u8; 4],
    sack: [u8; 4],
    scale: [u8; 4],
}

impl Answer {
    /// The SYN-ACK to a SYN, with the cookie as our number and what of the client's offers we take.
    #[inline(always)]
    #[must_use]
    pub const fn syn_ack(syn: &Segment, offered: Data, cookie: u32) -> Self {
        let [a, b] = MSS.to_be_bytes();
        let (sacks, scales) = (offered.sack_permitted(), offered.window_scale().is_some());
        let sack = if sacks { [1, 1, 4, 2] } else { [1; 4] };
        let scale = if scales { [1, 3, 3, WINDOW_SCALE] } else { [1; 4] };
        Self {
            sequence: cookie,
            acknowledgement: syn.sequence.wrapping_add(1),
            flags: TcpFlags::SYN | TcpFlags::ACK,
            window: WINDOW,
            header: if sacks || scales { 32 } else { 24 },
            size: [2, 4, a, b],
            sack,
            scale,
            ..Self::to(syn)
        }
    }

    /// The RST to a segment of no connection (RFC 9293 §3.10.7.1).
    #[inline(always)]
    #[must_use]
    pub const fn reset(segment: &Segment) -> Self {
        if segment.flags.ack() {
            return Self { sequence: segment.acknowledgement, ..Self::to(segment) };
        }
        let begins = segment.flags.0 & TcpFlags::SYN != 0;
        let length = segment.payload + begins as u32 + segment.flags.fin() as u32;
        let acknowledgement = segment.sequence.wrapping_add(length);
        Self { acknowledgement, flags: TcpFlags::RST | TcpFlags::ACK, ..Self::to(segment) }
    }

    /// A bare reset, turned around.
    #[inline(always)]
    const fn to(segment: &Segment) -> Self {
        let [a, b, c, d, e, f, g, h] = segment.addresses;
        let [i, j, k, l] = segment.ports;
        Self {
            source: [e, f, g, h],
            destination: [a, b, c, d],
            ports: [k, l, i, j],
            sequence: 0,
            acknowledgement: 0,
            flags: TcpFlags::RST,
            window: 0,
            header: 20,
            size: [0; 4],
            sack: [0; 4],
            scale: [0; 4],
        }
    }

    /// Whether it takes [`LONG`] bytes, and not [`SHORT`].
    #[inline(always)]
    #[must_use]
    pub const fn is_long(&self) -> bool {
        self.header > 24
    }

    /// Writes the whole packet, `N` being [`SHORT`] or [`LONG`].
    #[inline(always)]
    pub const fn write<const N: usize>(&self, packet: &mut [u8; N]) {
        const { assert!(N == SHORT || N == LONG) };
        self.write_network(packet);
        let [a, b] = self.window.to_be_bytes();
        let control = [self.header << 2, self.flags, a, b];
        let (sequence, acknowledgement) =
            (self.sequence.to_be_bytes(), self.acknowledgement.to_be_bytes());
        // The pseudo-header (RFC 9293 §3.1): addresses, protocol, length.
        let sum = Sum(0)
            .plus4(self.source)
            .plus4(self.destination)
            .plus4([0, 6, 0, self.header])
            .plus4(self.ports)
            .plus4(sequence)
            .plus4(acknowledgement)
            .plus4(control)
            .plus4(self.size);
        put::<20, 4, _>(packet, self.ports);
        put::<24, 4, _>(packet, sequence);
        put::<28, 4, _>(packet, acknowledgement);
        put::<32, 4, _>(packet, control);
        put::<40, 4, _>(packet, self.size);
        let sum = if N == LONG {
            write_more(packet, self.sack, self.scale);
            sum.plus4(self.sack).plus4(self.scale)
        } else {
            put::<44, 2, _>(packet, [0, 0]);
            sum
        };
        let [a, b] = sum.checksum();
        put::<36, 4, _>(packet, [a, b, 0, 0]);
    }

    #[inline(always)]
    const fn write_network<const N: usize>(&self, packet: &mut [u8; N]) {
        let start = [0x45, 0, 0, 20 + self.header];
        // Not to be fragmented, and so without an identification (RFC 6864 §4.1).
        let (fragments, ends) = ([0, 0, 0x40, 0], [TTL, 6]);
        let [a, b] = Sum(0)
            .plus4(start)
            .plus4(fragments)
            .plus(ends)
            .plus4(self.source)
            .plus4(self.destination)
            .checksum();
        put::<0, 4, _>(packet, start);
        put::<4, 4, _>(packet, fragments);
        put::<8, 4, _>(packet, [ends[0], ends[1], a, b]);
        put::<12, 4, _>(packet, self.source);
        put::<16, 4, _>(packet, self.destination);
    }
}

/// The options that only a long answer has room for.
#[inline(always)]
const fn write_more<const N: usize>(packet: &mut [u8; N], sack: [u8; 4], scale: [u8; 4]) {
    if let Some((_, rest)) = packet.split_last_chunk_mut::<8>() {
        put::<0, 4, _>(rest, sack);
        put::<4, 4, _>(rest, scale);
    }
}

#[cfg(test)]
mod tests;
