//! Gratuitous ARP: tells the neighbours that an address is here now (RFC 5227 §3).

use std::{io, net::Ipv4Addr, os::fd::OwnedFd};

use lb_common::next_hop::Mac;
use rustix::net::{
    AddressFamily, SendFlags, SocketFlags, SocketType,
    addr::{SocketAddrArg, SocketAddrLen, SocketAddrOpaque},
    sendto, socket_with,
};

const BROADCAST: Mac = [0xff; 6];
const ETHERTYPE_ARP: u16 = 0x0806;

/// Sends an announcement by the interface with this index and MAC, once.
pub fn announce(interface: u32, mac: Mac, address: Ipv4Addr) -> io::Result<()> {
    let frame = announcement(mac, address);
    sendto(packet_socket()?, &frame, SendFlags::DONTWAIT, &LinkAddress::of(interface)?)?;
    Ok(())
}

/// An Ethernet frame with an ARP request (RFC 826) that asks for, and comes from, `address`.
fn announcement(mac: Mac, address: Ipv4Addr) -> Vec<u8> {
    const ETHERNET_AND_IPV4: [u8; 6] = [0, 1, 8, 0, 6, 4];
    const REQUEST: [u8; 2] = [0, 1];
    const NO_MAC: Mac = [0; 6];
    let address = address.octets();
    [
        &BROADCAST[..],
        &mac,
        &ETHERTYPE_ARP.to_be_bytes(),
        &ETHERNET_AND_IPV4,
        &REQUEST,
        &mac,
        &address,
        &NO_MAC,
        &address,
    ]
    .concat()
}

/// Protocol 0: it only sends.
fn packet_socket() -> io::Result<OwnedFd> {
    let (family, kind) = (AddressFamily::PACKET, SocketType::RAW);
    Ok(socket_with(family, kind, SocketFlags::CLOEXEC, None)?)
}

/// An interface, as packet sockets address it (packet(7)).
pub(super) struct LinkAddress(libc::sockaddr_ll);

impl LinkAddress {
    pub(super) fn of(interface: u32) -> io::Result<Self> {
        let index = i32::try_from(interface).map_err(io::Error::other)?;
        Ok(Self(libc::sockaddr_ll {
            sll_family: AddressFamily::PACKET.as_raw(),
            sll_protocol: ETHERTYPE_ARP.to_be(),
            sll_ifindex: index,
            sll_hatype: 0,
            sll_pkttype: 0,
            sll_halen: 0,
            sll_addr: [0; 8],
        }))
    }
}

// SAFETY: the pointer is to a whole `sockaddr_ll` that lives as long as `self`, is given with
// that type's size, and is a valid address of the family that it names.
unsafe impl SocketAddrArg for LinkAddress {
    unsafe fn with_sockaddr<R>(
        &self,
        f: impl FnOnce(*const SocketAddrOpaque, SocketAddrLen) -> R,
    ) -> R {
        const LENGTH: SocketAddrLen = size_of::<libc::sockaddr_ll>() as SocketAddrLen;
        f((&raw const self.0).cast(), LENGTH)
    }
}

#[cfg(test)]
mod tests {
    use etherparse::{ArpHardwareId, ArpOperation, EtherType, NetSlice, SlicedPacket};

    use super::*;

    #[test]
    fn an_announcement_asks_for_its_own_address() {
        let mac = [2, 0, 0, 0, 0, 1];
        let address = Ipv4Addr::new(192, 0, 2, 10);
        let frame = announcement(mac, address);
        let Some(NetSlice::Arp(arp)) = SlicedPacket::from_ethernet(&frame).unwrap().net else {
            panic!("no ARP")
        };
        assert_eq!(arp.hw_addr_type(), ArpHardwareId::ETHERNET);
        assert_eq!(arp.proto_addr_type(), EtherType::IPV4);
        assert_eq!(arp.operation(), ArpOperation::REQUEST);
        assert_eq!(arp.sender_hw_addr(), mac);
        assert_eq!(arp.sender_protocol_addr(), address.octets());
        assert_eq!(arp.target_hw_addr(), [0; 6]);
        assert_eq!(arp.target_protocol_addr(), address.octets());
        assert_eq!(frame[..12], [&BROADCAST[..], &mac].concat());
    }
}
