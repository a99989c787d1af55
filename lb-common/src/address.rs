//! Addresses, ports and protocols as the maps hold them.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::wire::{at, put};

/// An address of either family in 16 bytes; IPv4 as `::ffff:a.b.c.d` (RFC 4291 §2.5.5.2).
///
/// Its bytes lie in memory as on the wire. They are held as words, for the program makes keys of
/// maps with them: byte by byte it would call a function for every run of zeros.
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Address([u64; 2]);

const _: () = assert!(size_of::<Address>() == 16);

impl Address {
    /// `::`, which is nobody's.
    pub const UNSPECIFIED: Self = Self([0; 2]);

    /// The address of an IPv4 host given by its four bytes.
    #[inline(always)]
    pub const fn v4(octets: [u8; 4]) -> Self {
        let [a, b, c, d] = octets;
        Self([0, u64::from_ne_bytes([0, 0, 0xff, 0xff, a, b, c, d])])
    }

    /// The address of an IPv6 host.
    pub const fn v6(octets: &[u8; 16]) -> Self {
        Self([u64::from_ne_bytes(at::<0, 8, _>(octets)), u64::from_ne_bytes(at::<8, 8, _>(octets))])
    }

    /// Its bytes, as on the wire.
    pub const fn octets(self) -> [u8; 16] {
        let mut octets = [0; 16];
        put::<0, 8, _>(&mut octets, self.0[0].to_ne_bytes());
        put::<8, 8, _>(&mut octets, self.0[1].to_ne_bytes());
        octets
    }

    /// Back to the standard type; an IPv4-mapped address becomes IPv4.
    pub fn ip(self) -> IpAddr {
        Ipv6Addr::from(self.octets()).to_canonical()
    }
}

impl From<IpAddr> for Address {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => v4.into(),
            IpAddr::V6(v6) => Self::v6(&v6.octets()),
        }
    }
}

impl From<Ipv4Addr> for Address {
    fn from(address: Ipv4Addr) -> Self {
        Self::v4(address.octets())
    }
}

/// A TCP or UDP port in network byte order.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Port(pub [u8; 2]);

impl Port {
    /// From a number.
    pub const fn new(number: u16) -> Self {
        Self(number.to_be_bytes())
    }

    /// As a number.
    pub const fn number(self) -> u16 {
        u16::from_be_bytes(self.0)
    }
}

/// The transport protocols that are balanced, by their IANA numbers.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Protocol {
    /// RFC 9293.
    Tcp = 6,
    /// RFC 768.
    Udp = 17,
}

impl Protocol {
    /// The protocol with this IANA number, if it is balanced.
    #[inline(always)]
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            6 => Some(Self::Tcp),
            17 => Some(Self::Udp),
            _ => None,
        }
    }

    /// The IANA number.
    #[inline(always)]
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// As users write it in configurations and read it in logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

impl core::fmt::Display for Protocol {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_survives_the_way_there_and_back() {
        for text in ["10.0.0.1", "2001:db8::1", "::", "0.0.0.0"] {
            let ip: IpAddr = text.parse().unwrap();
            assert_eq!(Address::from(ip).ip(), ip);
        }
    }
}
