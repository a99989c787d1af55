//! Which packets are ours.

#[cfg(not(target_arch = "bpf"))]
use core::net::SocketAddr;

use crate::{
    address::{Address, Port, Protocol},
    admission::Rate,
};

/// Most virtual services that an instance can have.
pub const VIRTUAL_SERVICES: u32 = 16_384;
/// Most addresses with a role that an instance can have: virtual services', SNAT, servers.
pub const ADDRESSES: u32 = 65_536;

/// The key of the `virtual_services` map.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ServiceKey {
    /// The address that clients send to.
    pub address: Address,
    /// The port that clients send to.
    pub port: Port,
    /// IANA protocol number.
    pub protocol: u8,
    #[doc(hidden)]
    pub reserved: u8,
    #[doc(hidden)]
    pub also_reserved: u32,
}

const _: () = assert!(size_of::<ServiceKey>() == 24);

impl ServiceKey {
    /// The key of a service.
    #[inline(always)]
    pub const fn new(address: Address, port: Port, protocol: Protocol) -> Self {
        Self { address, port, protocol: protocol.number(), reserved: 0, also_reserved: 0 }
    }

    /// The key of the service that listens there.
    #[cfg(not(target_arch = "bpf"))]
    pub fn at(vip: SocketAddr, protocol: Protocol) -> Self {
        Self::new(vip.ip().into(), Port::new(vip.port()), protocol)
    }
}

/// The value of the `virtual_services` map.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Service {
    /// The service's number in this instance, as flow records and logs name it.
    pub id: u32,
    /// The number of its network security policy; 0 if everyone may begin flows.
    pub policy: u32,
    /// How often flows may begin.
    pub rate: Rate,
    /// How often each client may begin one.
    pub client_rate: Rate,
    /// When TCP handshakes are answered with cookies.
    pub cookies: Cookies,
}

const _: () = assert!(size_of::<Service>() == 28);

/// When the TCP handshakes of a service are completed by the program itself, with
/// [cookies](crate::tcp).
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Cookies(pub u32);

impl Cookies {
    /// Never: a worker gets the SYN.
    pub const NEVER: Self = Self(0);
    /// While there is [pressure](crate::path::Tables::is_pressed).
    pub const UNDER_PRESSURE: Self = Self(1);
    /// Always.
    pub const ALWAYS: Self = Self(2);

    /// Whether a client may have been given one.
    #[inline(always)]
    pub const fn has_any(self) -> bool {
        self.0 != Self::NEVER.0
    }

    /// Whether every client is given one.
    #[inline(always)]
    pub const fn is_always(self) -> bool {
        self.0 == Self::ALWAYS.0
    }
}

/// The value of the `addresses` map: what an address is to this instance, as a set of bits.
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Roles(pub u32);

impl Roles {
    /// Some virtual service listens there.
    pub const VIRTUAL_SERVICE: Self = Self(1);
    /// Source of packets to servers in `snat` mode.
    pub const SNAT: Self = Self(2);
    /// A server of a `dnat` pool, whose replies come through this machine.
    pub const DNAT_SERVER: Self = Self(4);

    /// Whether any of `other`'s roles is among these.
    #[inline(always)]
    pub const fn any(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// The roles of both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}
