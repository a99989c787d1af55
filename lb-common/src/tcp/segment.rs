//! A TCP segment as the program looks at it: the first forty bytes of a packet.

use super::cookie::Handshake;
use crate::wire::{IPV4, IPV4_TCP, Ipv4, TcpFlags, at, tcp_flags};

/// What the headers say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Segment {
    /// Source and destination address.
    pub addresses: [u8; 8],
    /// Source and destination port.
    pub ports: [u8; 4],
    /// Sequence number.
    pub sequence: u32,
    /// Acknowledgement number; of use only with [`TcpFlags::ack`].
    pub acknowledgement: u32,
    /// Flags.
    pub flags: TcpFlags,
    /// Bytes of the TCP header, options included: 20 to 60.
    pub header: usize,
    /// Bytes behind it.
    pub payload: u32,
}

impl Segment {
    /// Reads a whole packet's headers. `None` if the TCP header is shorter than a header is, or
    /// longer than the packet.
    #[inline(always)]
    #[must_use]
    pub const fn read(packet: &[u8; IPV4_TCP]) -> Option<Self> {
        let header = (packet[32] >> 2 & 0x3c) as usize;
        let total = Ipv4(packet).total_length() as usize;
        if header < IPV4_TCP - IPV4 || IPV4 + header > total {
            return None;
        }
        #[expect(clippy::cast_possible_truncation, reason = "of 16 bits")]
        let payload = (total - IPV4 - header) as u32;
        Some(Self {
            addresses: at::<12, 8, _>(packet),
            ports: at::<20, 4, _>(packet),
            sequence: u32::from_be_bytes(at::<24, 4, _>(packet)),
            acknowledgement: u32::from_be_bytes(at::<28, 4, _>(packet)),
            flags: tcp_flags(packet),
            header,
            payload,
        })
    }

    /// The handshake that a SYN begins.
    #[inline(always)]
    #[must_use]
    pub const fn begins(&self) -> Handshake {
        Handshake { addresses: self.addresses, ports: self.ports, sequence: self.sequence }
    }

    /// The handshake that an acknowledgement completes, and the cookie that it returns.
    #[inline(always)]
    #[must_use]
    pub const fn completes(&self) -> (Handshake, u32) {
        let sequence = self.sequence.wrapping_sub(1);
        let handshake = Handshake { addresses: self.addresses, ports: self.ports, sequence };
        (handshake, self.acknowledgement.wrapping_sub(1))
    }
}
