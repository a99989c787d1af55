//! Views over the fixed windows that the verifier lets a program read.
//!
//! Every accessor has a constant offset into an array of constant size: no panic path, no bound
//! that the compiler could lose (a live panic is an endless loop to the verifier).

use crate::{address::Port, flow::PackedKeyV4};

/// Ethernet II header (IEEE 802.3 clause 3).
pub const ETHERNET: usize = 14;
/// The same with one IEEE 802.1Q tag.
pub const ETHERNET_VLAN: usize = 18;
/// IPv4 header without options (RFC 791).
pub const IPV4: usize = 20;
/// IPv4 header without options, and the first eight bytes behind it.
pub const IPV4_PORTS: usize = 28;
/// IPv4 header without options, and a UDP header (RFC 768).
pub const IPV4_UDP: usize = 28;
/// IPv4 header without options, and a TCP header without options (RFC 9293).
pub const IPV4_TCP: usize = 40;
/// TCP header without options.
pub const TCP: usize = 20;

/// EtherType of IPv4.
pub const ETHERTYPE_IPV4: [u8; 2] = [0x08, 0x00];
/// EtherType of an 802.1Q tag.
pub const ETHERTYPE_VLAN: [u8; 2] = [0x81, 0x00];

/// The `N` bytes at `AT` of a window, as one load: bytes that are taken one by one stay many.
#[inline(always)]
pub const fn at<const AT: usize, const N: usize, const M: usize>(window: &[u8; M]) -> [u8; N] {
    const { assert!(AT + N <= M) };
    match window.split_at(AT).1.first_chunk() {
        Some(bytes) => *bytes,
        None => [0; N],
    }
}

/// Puts `bytes` at `AT` of a window, as one store.
#[inline(always)]
pub const fn put<const AT: usize, const N: usize, const M: usize>(
    window: &mut [u8; M],
    bytes: [u8; N],
) {
    const { assert!(AT + N <= M) };
    if let Some(place) = window.split_at_mut(AT).1.first_chunk_mut() {
        *place = bytes;
    }
}

/// IANA number of ICMP.
pub const ICMP: u8 = 1;

/// TCP flags (RFC 9293 §3.1), as in the header's 14th byte.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TcpFlags(pub u8);

impl TcpFlags {
    /// FIN: the sender is done.
    pub const FIN: u8 = 0x01;
    /// SYN: sequence numbers start here.
    pub const SYN: u8 = 0x02;
    /// RST: the connection is gone.
    pub const RST: u8 = 0x04;
    /// PSH.
    pub const PSH: u8 = 0x08;
    /// ACK: the acknowledgement number counts.
    pub const ACK: u8 = 0x10;

    /// Whether the sender is done.
    #[inline(always)]
    pub const fn fin(self) -> bool {
        self.0 & Self::FIN != 0
    }

    /// Whether sequence numbers start here.
    #[inline(always)]
    pub const fn syn(self) -> bool {
        self.0 & Self::SYN != 0
    }

    /// Whether this resets the connection.
    #[inline(always)]
    pub const fn rst(self) -> bool {
        self.0 & Self::RST != 0
    }

    /// Whether an acknowledgement is carried.
    #[inline(always)]
    pub const fn ack(self) -> bool {
        self.0 & Self::ACK != 0
    }

    /// Whether a client opens a connection with this: SYN alone.
    #[inline(always)]
    pub const fn opens(self) -> bool {
        self.0 & (Self::SYN | Self::ACK | Self::RST) == Self::SYN
    }
}

/// IPv4 header without options, and what stands in the eight bytes behind it.
///
/// `N` is at least [`IPV4_PORTS`].
#[derive(Clone, Copy, Debug)]
pub struct Ipv4<'a, const N: usize>(pub &'a [u8; N]);

impl<const N: usize> Ipv4<'_, N> {
    const FITS: () = assert!(N >= IPV4_PORTS);

    /// Version 4, with the shortest header there is.
    #[inline(always)]
    pub const fn is_plain(&self) -> bool {
        let () = Self::FITS;
        self.0[0] == 0x45
    }

    /// Version 4, with a header of any length.
    #[inline(always)]
    pub const fn is_v4(&self) -> bool {
        self.0[0] >> 4 == 4
    }

    /// Length of header and payload, as the header claims.
    #[inline(always)]
    pub const fn total_length(&self) -> u16 {
        u16::from_be_bytes(at::<2, 2, N>(self.0))
    }

    /// A fragment: more follow, or some went before.
    #[inline(always)]
    pub const fn is_fragment(&self) -> bool {
        u16::from_ne_bytes(at::<6, 2, N>(self.0)) & 0x3fff_u16.to_be() != 0
    }

    /// Time to live.
    #[inline(always)]
    pub const fn ttl(&self) -> u8 {
        self.0[8]
    }

    /// IANA number of what is inside.
    #[inline(always)]
    pub const fn protocol(&self) -> u8 {
        self.0[9]
    }

    /// Source address.
    #[inline(always)]
    pub const fn source(&self) -> [u8; 4] {
        at::<12, 4, N>(self.0)
    }

    /// Destination address.
    #[inline(always)]
    pub const fn destination(&self) -> [u8; 4] {
        at::<16, 4, N>(self.0)
    }

    /// Source port, if TCP or UDP is inside.
    #[inline(always)]
    pub const fn source_port(&self) -> Port {
        Port(at::<20, 2, N>(self.0))
    }

    /// Destination port, if TCP or UDP is inside.
    #[inline(always)]
    pub const fn destination_port(&self) -> Port {
        Port(at::<22, 2, N>(self.0))
    }

    /// The key of its flow, if TCP or UDP is inside: addresses and ports follow each other.
    #[inline(always)]
    pub const fn flow_key(&self) -> PackedKeyV4 {
        PackedKeyV4::new(at::<12, 8, N>(self.0), at::<20, 4, N>(self.0), self.0[9])
    }

    /// The key of the flow's other direction.
    #[inline(always)]
    pub const fn reverse_flow_key(&self) -> PackedKeyV4 {
        // Turned around, the halves of both words change places.
        let addresses = u64::from_ne_bytes(at::<12, 8, N>(self.0)).rotate_left(32);
        let ports = u32::from_ne_bytes(at::<20, 4, N>(self.0)).rotate_left(16);
        PackedKeyV4::new(addresses.to_ne_bytes(), ports.to_ne_bytes(), self.0[9])
    }

    /// Type of the ICMP message, if that is inside.
    #[inline(always)]
    pub const fn icmp_type(&self) -> u8 {
        self.0[20]
    }
}

/// The TCP flags behind an IPv4 header without options.
#[inline(always)]
pub const fn tcp_flags(window: &[u8; IPV4_TCP]) -> TcpFlags {
    TcpFlags(window[33])
}

/// Whether an ICMP message of this type quotes the packet that caused it (RFC 792).
#[inline(always)]
pub const fn icmp_quotes(icmp_type: u8) -> bool {
    // Destination unreachable, time exceeded, parameter problem.
    matches!(icmp_type, 3 | 11 | 12)
}
