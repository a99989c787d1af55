//! The precomputed change that a flow makes to each of its packets.

use crate::{
    address::{Port, Protocol},
    checksum::{self, Sum},
    wire::{IPV4_TCP, IPV4_UDP},
};

/// New addresses and ports, and what they do to the checksums.
///
/// Made once, when the flow is; applied to every packet without looking at the old values.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RewriteV4 {
    /// New source address.
    pub source: [u8; 4],
    /// New destination address.
    pub destination: [u8; 4],
    /// New source port.
    pub source_port: [u8; 2],
    /// New destination port.
    pub destination_port: [u8; 2],
    /// What addresses and the TTL's decrement add to the IP header's sum.
    pub ip_delta: u16,
    /// What addresses and ports add to the transport's sum (the pseudo-header covers addresses).
    pub transport_delta: u16,
}

const _: () = assert!(size_of::<RewriteV4>() == 16);

/// Addresses and ports of one direction of a flow, IPv4.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct EndpointsV4 {
    /// Source address.
    pub source: [u8; 4],
    /// Destination address.
    pub destination: [u8; 4],
    /// Source port.
    pub source_port: Port,
    /// Destination port.
    pub destination_port: Port,
}

impl EndpointsV4 {
    /// The other direction.
    #[must_use]
    pub const fn reversed(self) -> Self {
        Self {
            source: self.destination,
            destination: self.source,
            source_port: self.destination_port,
            destination_port: self.source_port,
        }
    }

    const fn address_sum(&self) -> Sum {
        Sum(0).plus4(self.source).plus4(self.destination)
    }
}

impl RewriteV4 {
    /// The rewrite that turns packets of `from` into packets of `to`.
    pub const fn new(from: &EndpointsV4, to: &EndpointsV4) -> Self {
        let addresses = to.address_sum().minus4(from.source).minus4(from.destination);
        let ports = addresses
            .plus(to.source_port.0)
            .plus(to.destination_port.0)
            .minus(from.source_port.0)
            .minus(from.destination_port.0);
        Self {
            source: to.source,
            destination: to.destination,
            source_port: to.source_port.0,
            destination_port: to.destination_port.0,
            // The TTL is the upper byte of its word: a decrement takes 0x0100 away.
            ip_delta: addresses.minus([1, 0]).fold(),
            transport_delta: ports.fold(),
        }
    }

    /// Rewrites the addresses and the IP checksum, and counts the TTL down, which must not be 0.
    #[inline(always)]
    pub const fn apply_network<const N: usize>(&self, packet: &mut [u8; N]) {
        const { assert!(N >= 20) };
        let [a, b] = checksum::update([packet[10], packet[11]], self.ip_delta);
        packet[10] = a;
        packet[11] = b;
        packet[8] = packet[8].wrapping_sub(1);
        [packet[12], packet[13], packet[14], packet[15]] = self.source;
        [packet[16], packet[17], packet[18], packet[19]] = self.destination;
    }

    /// Rewrites a whole TCP packet's headers.
    #[inline(always)]
    pub const fn apply_tcp(&self, packet: &mut [u8; IPV4_TCP]) {
        self.apply_network(packet);
        [packet[20], packet[21]] = self.source_port;
        [packet[22], packet[23]] = self.destination_port;
        [packet[36], packet[37]] = checksum::update([packet[36], packet[37]], self.transport_delta);
    }

    /// Rewrites a whole UDP packet's headers.
    #[inline(always)]
    pub const fn apply_udp(&self, packet: &mut [u8; IPV4_UDP]) {
        self.apply_network(packet);
        [packet[20], packet[21]] = self.source_port;
        [packet[22], packet[23]] = self.destination_port;
        [packet[26], packet[27]] = self.udp_checksum([packet[26], packet[27]]);
    }

    /// A UDP checksum after the rewrite. Zero means that the sender made none, and stays; a
    /// computed zero is sent as all ones (RFC 768).
    #[inline(always)]
    pub const fn udp_checksum(&self, old: [u8; 2]) -> [u8; 2] {
        if matches!(old, [0, 0]) {
            return old;
        }
        match checksum::update(old, self.transport_delta) {
            [0, 0] => [0xff, 0xff],
            new => new,
        }
    }

    /// The transport checksum after the rewrite, for a header that is found at any offset.
    pub const fn transport_checksum(&self, protocol: Protocol, old: [u8; 2]) -> [u8; 2] {
        match protocol {
            Protocol::Tcp => checksum::update(old, self.transport_delta),
            Protocol::Udp => self.udp_checksum(old),
        }
    }
}
