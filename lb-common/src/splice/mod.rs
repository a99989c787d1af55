//! The splice of an inspected TCP connection: what translates between its two handshakes.
//!
//! The client was given a cookie as the other side's initial sequence number before the server was
//! known; the server chose a number of its own. Both know the client's number as it is. So of each
//! packet the numbers of the server's bytes are translated, and nothing else: sequence numbers of
//! what the server sends, acknowledgements and SACK blocks (RFC 2018) of what the client sends.
//! The window's unit may differ too: the client was told a scale (RFC 7323) before the server's
//! was known.
//!
//! Timestamps are not negotiated, so of all options only SACK matters, and it stands where every
//! usual stack puts it: behind two NOPs. The program translates that; any other option of a client
//! is a worker's to look at ([`Splice::segment`]).

// Two attributes: clippy knows what is a test by the plain one.
#[cfg(test)]
#[cfg(not(loom))]
mod model;
mod segment;
#[cfg(test)]
#[cfg(not(loom))]
mod tests;

use crate::{
    checksum::WideSum,
    flow::{Entry, Flags},
    path::Frame,
    wire::{IPV4, IPV4_TCP, TCP, TcpFlags, at, put},
};

/// Option kinds (RFC 9293 §3.2, RFC 2018).
const END: u8 = 0;
const NOP: u8 = 1;
const SACK: u8 = 5;

/// The largest scale there is (RFC 7323 §2.3).
const LARGEST_SCALE: u8 = 14;

/// Who sends a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sender {
    /// The client.
    Client,
    /// The server.
    Server,
}

/// What is done to the packets of one side of a spliced connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Splice {
    /// Whose packets.
    pub sender: Sender,
    /// Added to each number of a byte of the server's, modulo 2^32.
    pub delta: u32,
    /// By how many bits a window goes to the left, or to the right if negative: -16 to 15.
    pub shift: i8,
}

/// What the handshakes with client and server ended with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Handshakes {
    /// The initial sequence number that the client was given.
    pub cookie: u32,
    /// The server's own.
    pub server: u32,
    /// The window scale that the client was told, and told; `None` if it offered none.
    pub client_scales: Option<ClientScales>,
    /// The window scale of the server's SYN-ACK, if there was one.
    pub server_scale: Option<u8>,
}

/// Window scales that were agreed on with a client.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ClientScales {
    /// Of the windows that the client sends.
    pub its_own: u8,
    /// Of the windows that it gets.
    pub ours: u8,
}

impl Handshakes {
    /// What is done to packets from this side.
    ///
    /// A server's scale does not count if the client offered none: then it was offered none.
    pub const fn splice(&self, sender: Sender) -> Splice {
        let delta = self.server.wrapping_sub(self.cookie);
        let (delta, shift) = match (sender, self.client_scales, self.server_scale) {
            (Sender::Client, Some(client), None) => (delta, scale(client.its_own)),
            (Sender::Client, ..) => (delta, 0),
            (Sender::Server, Some(client), Some(server)) => {
                (delta.wrapping_neg(), scale(server) - scale(client.ours))
            }
            (Sender::Server, Some(client), None) => (delta.wrapping_neg(), -scale(client.ours)),
            (Sender::Server, None, _) => (delta.wrapping_neg(), 0),
        };
        Splice { sender, delta, shift }
    }
}

/// A scale as it counts: larger ones are taken for the largest (RFC 7323 §2.3).
const fn scale(offered: u8) -> i8 {
    (if offered > LARGEST_SCALE { LARGEST_SCALE } else { offered }) as i8
}

/// Where the flags keep the window's shift.
const SHIFT_AT: u32 = 8;
const SHIFT_BITS: u16 = 0x1f;

impl Splice {
    /// The bits that say in a slot's flags how packets are spliced.
    pub const FLAGS: Flags = Flags(Flags::SPLICED.0 | SHIFT_BITS << SHIFT_AT);

    /// The splice of a flow, if it is spliced.
    #[inline(always)]
    pub const fn of(entry: &Entry) -> Option<Self> {
        if !entry.flags.has(Flags::SPLICED) {
            return None;
        }
        let sender = if entry.flags.has(Flags::REPLY) { Sender::Server } else { Sender::Client };
        // The sign is the upper of five bits: brought to the top, and back as it is.
        let shift = ((entry.flags.0 << (11 - SHIFT_AT)) as i16 >> 11) as i8;
        Some(Self { sender, delta: entry.sequence_delta, shift })
    }

    /// As a slot's flags have it: [`Flags::SPLICED`] and the window's shift.
    pub const fn flags(&self) -> Flags {
        Flags(Flags::SPLICED.0 | (self.shift as u16 & SHIFT_BITS) << SHIFT_AT)
    }

    /// An entry whose packets are spliced so. The direction stays the entry's.
    #[must_use]
    pub const fn entry(&self, entry: Entry) -> Entry {
        let flags = entry.flags.without(Self::FLAGS).and(self.flags());
        Entry { sequence_delta: self.delta, flags, ..entry }
    }

    /// Splices a TCP packet over a plain IPv4 header at `L3`, whose total length is given, but for
    /// its checksum: returns what has changed in the sum that it is of, for
    /// [`RewriteV4::and_changed`](crate::rewrite::RewriteV4::and_changed). `None` if it has options that
    /// a worker must look at; then nothing has changed.
    #[inline(always)]
    pub fn packet<const L3: usize, F: Frame>(
        &self,
        frame: &mut F,
        total_length: usize,
    ) -> Option<u16> {
        let window = frame.window::<L3, IPV4_TCP>()?;
        match (self.sender, window[IPV4 + 12] >> 4) {
            // Of the server's packets no option is translated, and a client's have mostly none.
            (Sender::Server, _) | (Sender::Client, 5) => self.header_of(window, WideSum::default()),
            // One to four blocks behind two NOPs.
            (Sender::Client, 8) => self.blocks::<L3, 52, F>(frame, total_length),
            (Sender::Client, 10) => self.blocks::<L3, 60, F>(frame, total_length),
            (Sender::Client, 12) => self.blocks::<L3, 68, F>(frame, total_length),
            (Sender::Client, 14) => self.blocks::<L3, 76, F>(frame, total_length),
            _ => None,
        }
    }

    /// A packet whose headers are `N` bytes, if SACK blocks fill all of its options.
    #[inline(always)]
    fn blocks<const L3: usize, const N: usize, F: Frame>(
        &self,
        frame: &mut F,
        total_length: usize,
    ) -> Option<u16> {
        const { assert!(N > IPV4_TCP + 4) };
        let window = frame.window::<L3, N>()?;
        let start = [NOP, NOP, SACK, (N - IPV4_TCP - 2) as u8];
        let usual = u32::from_ne_bytes(at::<IPV4_TCP, 4, N>(window)) == u32::from_ne_bytes(start);
        if !usual || total_length < N {
            return None;
        }
        let mut sum = WideSum::default();
        for edge in window.split_at_mut(IPV4_TCP + 4).1.as_chunks_mut().0 {
            sum = self.translate(edge, sum);
        }
        self.header_of(window, sum)
    }

    /// The TCP header behind an IPv4 header without options; there is one in a window so large.
    #[inline(always)]
    const fn header_of<const N: usize>(
        &self,
        window: &mut [u8; N],
        options: WideSum,
    ) -> Option<u16> {
        const { assert!(N >= IPV4_TCP) };
        match window.split_at_mut(IPV4).1.first_chunk_mut() {
            Some(tcp) => Some(self.header(tcp, options)),
            None => None,
        }
    }

    /// Splices a TCP header without its options, which changed the checksum's sum by `options`, and
    /// without the checksum; returns what has changed in all.
    #[inline(always)]
    const fn header(&self, tcp: &mut [u8; TCP], options: WideSum) -> u16 {
        let flags = TcpFlags(tcp[13]);
        let mut sum = options;
        match self.sender {
            Sender::Server => {
                let mut number = at::<4, 4, TCP>(tcp);
                sum = self.translate(&mut number, sum);
                put::<4, 4, TCP>(tcp, number);
            }
            Sender::Client if flags.ack() => {
                let mut number = at::<8, 4, TCP>(tcp);
                sum = self.translate(&mut number, sum);
                put::<8, 4, TCP>(tcp, number);
            }
            // An acknowledgement that does not count.
            Sender::Client => {}
        }
        // A window in a SYN is never scaled (RFC 7323 §2.2).
        if self.shift != 0 && !flags.syn() {
            let old = at::<14, 2, TCP>(tcp);
            let new = self.window(u16::from_be_bytes(old)).to_be_bytes();
            put::<14, 2, TCP>(tcp, new);
            sum = sum.change(old, new);
        }
        sum.fold()
    }

    /// The number of a byte of the server's, which the sender names so, as the receiver knows it.
    #[inline(always)]
    #[must_use]
    pub const fn number(&self, number: u32) -> u32 {
        number.wrapping_add(self.delta)
    }

    /// The sender's window, as it stands in a header, for the receiver: in another unit. What is too
    /// large for the field is cut; what is open stays open, or its owner would have to probe for
    /// what is there.
    #[inline(always)]
    #[must_use]
    pub const fn window(&self, window: u16) -> u16 {
        let wide = window as u32;
        if self.shift >= 0 {
            let wide = wide << (self.shift & 15);
            if wide > 0xffff { 0xffff } else { wide as u16 }
        } else {
            let narrow = (wide >> (-self.shift & 31)) as u16;
            if narrow == 0 && window != 0 { 1 } else { narrow }
        }
    }

    /// Translates the number of a byte of the server's in a header.
    #[inline(always)]
    const fn translate(&self, number: &mut [u8; 4], sum: WideSum) -> WideSum {
        let old = *number;
        *number = self.number(u32::from_be_bytes(old)).to_be_bytes();
        sum.change4(old, *number)
    }
}
