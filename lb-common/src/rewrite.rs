//! The precomputed change that a flow makes to each of its packets.

use crate::{
    address::{Port, Protocol},
    checksum::{self, Sum},
    wire::{IPV4_TCP, IPV4_UDP, at, put},
};

/// New addresses and ports, and what they do to the checksums.
///
/// Made once, when the flow is; applied to every packet without looking at the old values. What
/// stands in a packet side by side is kept so, and written with one store.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RewriteV4 {
    /// New source address, new destination address.
    pub addresses: [u8; 8],
    /// New source port, new destination port.
    pub ports: [u8; 4],
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
        let ([a, b, c, d], [e, f, g, h]) = (to.source, to.destination);
        let ([i, j], [k, l]) = (to.source_port.0, to.destination_port.0);
        Self {
            addresses: [a, b, c, d, e, f, g, h],
            ports: [i, j, k, l],
            // The TTL is the upper byte of its word: a decrement takes 0x0100 away.
            ip_delta: addresses.minus([1, 0]).fold(),
            transport_delta: ports.fold(),
        }
    }

    /// Addresses and ports of a rewritten packet.
    pub const fn endpoints(&self) -> EndpointsV4 {
        let [a, b, c, d, e, f, g, h] = self.addresses;
        let [i, j, k, l] = self.ports;
        EndpointsV4 {
            source: [a, b, c, d],
            destination: [e, f, g, h],
            source_port: Port([i, j]),
            destination_port: Port([k, l]),
        }
    }

    /// What the addresses add to a sum, folded: to that of the pseudo-header among others.
    #[inline(always)]
    pub const fn address_delta(&self) -> u16 {
        // Without the TTL's part of it.
        checksum::add(self.ip_delta, u16::from_ne_bytes([1, 0]))
    }

    /// What ports, and whatever else [`and_changed`](Self::and_changed) told of, add to the transport's
    /// sum beside the addresses, folded.
    #[inline(always)]
    pub const fn segment_delta(&self) -> u16 {
        checksum::add(self.transport_delta, !self.address_delta())
    }

    /// Rewrites the addresses and the IP checksum, and counts the TTL down, which must not be 0.
    #[inline(always)]
    pub const fn apply_network<const N: usize>(&self, packet: &mut [u8; N]) {
        const { assert!(N >= 20) };
        let checksum = checksum::update(at::<10, 2, N>(packet), self.ip_delta);
        put::<10, 2, N>(packet, checksum);
        packet[8] = packet[8].wrapping_sub(1);
        put::<12, 8, N>(packet, self.addresses);
    }

    /// The same, of a packet in which something else has changed: by how much the sum did that the
    /// transport's checksum is of, folded.
    #[inline(always)]
    #[must_use]
    pub const fn and_changed(self, changed: u16) -> Self {
        Self { transport_delta: checksum::add(self.transport_delta, changed), ..self }
    }

    /// Rewrites a whole TCP packet's headers.
    #[inline(always)]
    pub const fn apply_tcp(&self, packet: &mut [u8; IPV4_TCP]) {
        self.apply_network(packet);
        put::<20, 4, _>(packet, self.ports);
        let checksum = checksum::update(at::<36, 2, _>(packet), self.transport_delta);
        put::<36, 2, _>(packet, checksum);
    }

    /// Rewrites a whole UDP packet's headers.
    #[inline(always)]
    pub const fn apply_udp(&self, packet: &mut [u8; IPV4_UDP]) {
        self.apply_network(packet);
        put::<20, 4, _>(packet, self.ports);
        let checksum = self.udp_checksum(at::<26, 2, _>(packet));
        put::<26, 2, _>(packet, checksum);
    }

    /// A UDP checksum after the rewrite. Zero means that the sender made none, and stays; a
    /// computed zero is sent as all ones (RFC 768).
    #[inline(always)]
    pub const fn udp_checksum(&self, old: [u8; 2]) -> [u8; 2] {
        // Compared as words: bytes are taken apart for it.
        if u16::from_ne_bytes(old) == 0 {
            return old;
        }
        match u16::from_ne_bytes(checksum::update(old, self.transport_delta)) {
            0 => [0xff; 2],
            new => new.to_ne_bytes(),
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

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::{IpNumber, Ipv4Header, TcpHeader, UdpHeader};
    use proptest::prelude::*;

    fn endpoints() -> impl Strategy<Value = EndpointsV4> {
        let numbers = (any::<[u8; 4]>(), any::<[u8; 4]>(), any::<[u8; 2]>(), any::<[u8; 2]>());
        numbers.prop_map(|(source, destination, from, to)| EndpointsV4 {
            source,
            destination,
            source_port: Port(from),
            destination_port: Port(to),
        })
    }

    fn payload() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(any::<u8>(), 0..1500)
    }

    fn ip(endpoints: &EndpointsV4, ttl: u8, protocol: IpNumber, payload: usize) -> Ipv4Header {
        let EndpointsV4 { source, destination, .. } = *endpoints;
        let length = u16::try_from(payload).unwrap();
        let mut ip = Ipv4Header::new(length, ttl, protocol, source, destination).unwrap();
        ip.header_checksum = ip.calc_header_checksum();
        ip
    }

    /// A datagram's headers, with the checksums that etherparse computes.
    fn udp(endpoints: &EndpointsV4, ttl: u8, payload: &[u8]) -> [u8; IPV4_UDP] {
        let [from, to] = [endpoints.source_port.number(), endpoints.destination_port.number()];
        let ip = ip(endpoints, ttl, IpNumber::UDP, payload.len() + 8);
        let udp = UdpHeader::with_ipv4_checksum(from, to, &ip, payload).unwrap();
        [&ip.to_bytes()[..], &udp.to_bytes()].concat().try_into().unwrap()
    }

    /// A segment's.
    fn tcp(endpoints: &EndpointsV4, ttl: u8, number: u32, payload: &[u8]) -> [u8; IPV4_TCP] {
        let [from, to] = [endpoints.source_port.number(), endpoints.destination_port.number()];
        let ip = ip(endpoints, ttl, IpNumber::TCP, payload.len() + 20);
        let mut tcp = TcpHeader::new(from, to, number, 512);
        tcp.checksum = tcp.calc_checksum_ipv4(&ip, payload).unwrap();
        [&ip.to_bytes()[..], &tcp.to_bytes()].concat().try_into().unwrap()
    }

    /// By how much a checksum differs from the right one, in one's complement.
    fn error(checksum: &[u8], right: &[u8]) -> u16 {
        let word = |bytes: &[u8]| [bytes[0], bytes[1]];
        match Sum::default().plus(word(checksum)).minus(word(right)).fold() {
            // Both are zero.
            0xffff => 0,
            error => error,
        }
    }

    proptest! {
        #[test]
        fn a_rewritten_datagram_is_as_if_sent_so(
            from in endpoints(), to in endpoints(), ttl in 1u8.., payload in payload(),
        ) {
            let mut packet = udp(&from, ttl, &payload);
            RewriteV4::new(&from, &to).apply_udp(&mut packet);
            prop_assert_eq!(packet, udp(&to, ttl - 1, &payload));
        }

        #[test]
        fn a_rewritten_segment_is_as_if_sent_so(
            from in endpoints(), to in endpoints(), ttl in 1u8.., number: u32, payload in payload(),
        ) {
            let mut packet = tcp(&from, ttl, number, &payload);
            RewriteV4::new(&from, &to).apply_tcp(&mut packet);
            prop_assert_eq!(packet, tcp(&to, ttl - 1, number, &payload));
        }

        #[test]
        fn there_and_back_only_the_time_to_live_changes(
            from in endpoints(), to in endpoints(), ttl in 2u8.., number: u32, payload in payload(),
        ) {
            let (there, back) = (RewriteV4::new(&from, &to), RewriteV4::new(&to, &from));
            let mut packet = udp(&from, ttl, &payload);
            there.apply_udp(&mut packet);
            back.apply_udp(&mut packet);
            prop_assert_eq!(packet, udp(&from, ttl - 2, &payload));
            let mut packet = tcp(&from, ttl, number, &payload);
            there.apply_tcp(&mut packet);
            back.apply_tcp(&mut packet);
            prop_assert_eq!(packet, tcp(&from, ttl - 2, number, &payload));
        }

        /// A packet that was damaged on the way must not arrive as a good one.
        #[test]
        fn a_wrong_checksum_stays_wrong_by_as_much(
            from in endpoints(), to in endpoints(), number: u32, checksum: [u8; 2],
            ip_checksum: [u8; 2],
        ) {
            let mut packet = tcp(&from, 64, number, &[]);
            let before = [error(&checksum, &packet[36..38]), error(&ip_checksum, &packet[10..12])];
            packet[36..38].copy_from_slice(&checksum);
            packet[10..12].copy_from_slice(&ip_checksum);
            RewriteV4::new(&from, &to).apply_tcp(&mut packet);
            let right = tcp(&to, 63, number, &[]);
            let after =
                [error(&packet[36..38], &right[36..38]), error(&packet[10..12], &right[10..12])];
            prop_assert_eq!(after, before);
        }

        /// Where the kernel is told of both apart, as with a checksum that is not computed yet.
        #[test]
        fn addresses_and_the_rest_add_up(
            from in endpoints(), to in endpoints(), changed: u16, old: [u8; 2],
        ) {
            let rewrite = RewriteV4::new(&from, &to).and_changed(changed);
            let addresses = checksum::update(old, rewrite.address_delta());
            let apart = checksum::update(addresses, rewrite.segment_delta());
            prop_assert_eq!(error(&apart, &checksum::update(old, rewrite.transport_delta)), 0);
            let pseudo = |endpoints: &EndpointsV4| (!endpoints.address_sum().fold()).to_ne_bytes();
            let moved = checksum::update(pseudo(&from), rewrite.address_delta());
            prop_assert_eq!(error(&moved, &pseudo(&to)), 0);
        }

        #[test]
        fn a_datagram_without_checksum_stays_without(
            from in endpoints(), to in endpoints(), payload in payload(),
        ) {
            let mut packet = udp(&from, 64, &payload);
            packet[26..28].fill(0);
            RewriteV4::new(&from, &to).apply_udp(&mut packet);
            let mut sent = udp(&to, 63, &payload);
            sent[26..28].fill(0);
            prop_assert_eq!(packet, sent);
        }

        #[test]
        fn a_header_found_anywhere_gets_the_same_checksum(
            from in endpoints(), to in endpoints(), payload in payload(),
        ) {
            let rewrite = RewriteV4::new(&from, &to);
            let of = |packet: &[u8], at: usize| [packet[at], packet[at + 1]];
            let datagram = of(&udp(&from, 64, &payload), 26);
            let expected = of(&udp(&to, 63, &payload), 26);
            prop_assert_eq!(rewrite.transport_checksum(Protocol::Udp, datagram), expected);
            let segment = of(&tcp(&from, 64, 1, &payload), 36);
            let expected = of(&tcp(&to, 63, 1, &payload), 36);
            prop_assert_eq!(rewrite.transport_checksum(Protocol::Tcp, segment), expected);
        }
    }
}
