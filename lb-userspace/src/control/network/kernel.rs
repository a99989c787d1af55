//! Requests to the kernel over rtnetlink.

use std::{io, net::IpAddr, pin::pin};

use futures_util::{Stream, TryStreamExt};
use ipnet::IpNet;
use netlink_packet_route::{
    RouteNetlinkMessage,
    address::AddressHeaderFlags,
    link::{InfoData, InfoKind, InfoVeth, LinkAttribute, LinkInfo, LinkMessage, XdpAttached},
    neighbour::{NeighbourFlags, NeighbourState},
};
use rtnetlink::{AddressMessageBuilder, Handle, RouteMessageBuilder};

use super::{
    decode,
    topology::{NeighbourKey, Topology},
};

/// A request that failed.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {source}")]
pub struct KernelError {
    what: String,
    source: io::Error,
}

impl KernelError {
    pub(super) fn new(what: impl Into<String>, source: io::Error) -> Self {
        Self { what: what.into(), source }
    }

    fn from_netlink(what: impl Into<String>, error: rtnetlink::Error) -> Self {
        let source = match error {
            rtnetlink::Error::NetlinkError(message) => message.to_io(),
            other => io::Error::other(other),
        };
        Self::new(what, source)
    }

    /// What the kernel answered.
    pub fn kind(&self) -> io::ErrorKind {
        self.source.kind()
    }
}

/// What the kernel says of an interface, whatever state it is in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Device {
    /// Made by the kernel alone, as a veth is: there is no hardware behind it.
    pub is_virtual: bool,
    /// One of a pair of veths.
    pub is_veth: bool,
    /// Most bytes of an IP packet that it sends.
    pub mtu: u32,
}

/// A connection for requests only. Events come over a [`Monitor`](super::monitor::Monitor)'s: a
/// flood of them makes the kernel drop what does not fit, answers included.
#[derive(Clone, Debug)]
pub struct Kernel(Handle);

impl Kernel {
    /// Opens a socket in the calling thread's network namespace and serves it from a task.
    ///
    /// # Errors
    ///
    /// When the socket cannot be opened.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn connect() -> Result<Self, KernelError> {
        let (connection, handle, _) = rtnetlink::new_connection()
            .map_err(|error| KernelError::new("opening an rtnetlink socket", error))?;
        tokio::spawn(connection);
        Ok(Self(handle))
    }

    /// Reads all that the kernel knows.
    ///
    /// # Errors
    ///
    /// When a table cannot be read.
    pub async fn topology(&self) -> Result<Topology, KernelError> {
        use RouteNetlinkMessage as Message;
        let mut topology = Topology::default();
        let handle = &self.0;
        let links = handle.link().get().execute();
        read(&mut topology, "interfaces", links, Message::NewLink).await?;
        let addresses = handle.address().get().execute();
        read(&mut topology, "addresses", addresses, Message::NewAddress).await?;
        let v4 = RouteMessageBuilder::<std::net::Ipv4Addr>::new().build();
        let v6 = RouteMessageBuilder::<std::net::Ipv6Addr>::new().build();
        for family in [v4, v6] {
            let routes = handle.route().get(family).execute();
            read(&mut topology, "routes", routes, Message::NewRoute).await?;
        }
        let neighbours = handle.neighbours().get().execute();
        read(&mut topology, "neighbours", neighbours, Message::NewNeighbour).await?;
        Ok(topology)
    }

    /// What kind of interface it is.
    ///
    /// # Errors
    ///
    /// When the kernel does not tell, or there is no such interface.
    pub async fn device(&self, interface: u32) -> Result<Device, KernelError> {
        let link = self.link(interface, None).await?;
        let (is_virtual, is_veth) = (decode::is_virtual(&link), decode::is_veth(&link));
        Ok(Device { is_virtual, is_veth, mtu: decode::mtu(&link) })
    }

    /// Index of the interface of this name; `None` if there is none.
    ///
    /// # Errors
    ///
    /// When the kernel does not tell.
    pub async fn index(&self, name: &str) -> Result<Option<u32>, KernelError> {
        let mut links = pin!(self.0.link().get().match_name(name.to_owned()).execute());
        match links.try_next().await {
            Ok(link) => Ok(link.map(|link| link.header.index)),
            Err(rtnetlink::Error::NetlinkError(message)) if message.raw_code() == -libc::ENODEV => {
                Ok(None)
            }
            Err(error) => {
                Err(KernelError::from_netlink(format!("asking for interface {name}"), error))
            }
        }
    }

    /// Makes a pair of veths.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub async fn add_pair(&self, near: LinkMessage, far: LinkMessage) -> Result<(), KernelError> {
        let mut pair = near;
        let info =
            [LinkInfo::Kind(InfoKind::Veth), LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(far)))];
        pair.attributes.push(LinkAttribute::LinkInfo(info.into()));
        let added = self.0.link().add(pair).execute().await;
        added.map_err(|error| KernelError::from_netlink("making a pair of veths", error))
    }

    /// Changes an interface.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub async fn set_link(&self, link: LinkMessage) -> Result<(), KernelError> {
        let what = || format!("changing interface {}", link.header.index);
        let set = self.0.link().set(link.clone()).execute().await;
        set.map_err(|error| KernelError::from_netlink(what(), error))
    }

    /// Deletes an interface, and with one end of a veth the other.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub async fn delete_link(&self, index: u32) -> Result<(), KernelError> {
        let deleted = self.0.link().del(index).execute().await;
        deleted.map_err(|error| {
            KernelError::from_netlink(format!("deleting interface {index}"), error)
        })
    }

    /// Whether a packet that came in by an interface can be sent back there with `XDP_TX`: where the
    /// program runs in the kernel's generic hook, by hardware, and by a veth whose far end runs a
    /// native XDP program. Any other veth leaves it until something else comes along
    /// (`veth_xdp_flush` of drivers/net/veth.c).
    ///
    /// # Errors
    ///
    /// When there is no such interface, or the kernel does not tell, as of a far end in a network
    /// namespace that this process has no rights in.
    pub async fn bounces(&self, interface: u32) -> Result<bool, KernelError> {
        let link = self.link(interface, None).await?;
        if decode::xdp(&link) == XdpAttached::SocketBuffer {
            return Ok(true);
        }
        match decode::far_end(&link) {
            Some((far, namespace)) => {
                Ok(decode::runs_native_xdp(&self.link(far, namespace).await?))
            }
            None => Ok(!decode::is_virtual(&link)),
        }
    }

    /// What the kernel says of an interface, of another network namespace if one is named
    /// (`IFLA_TARGET_NETNSID`, since kernel 4.20).
    async fn link(&self, index: u32, namespace: Option<i32>) -> Result<LinkMessage, KernelError> {
        let what = || format!("asking for interface {index}");
        let mut request = self.0.link().get().match_index(index);
        let namespace = namespace.map(LinkAttribute::IfNetnsId);
        request.message_mut().attributes.extend(namespace);
        let mut links = pin!(request.execute());
        let link = links.try_next().await;
        let link = link.map_err(|error| KernelError::from_netlink(what(), error))?;
        link.ok_or_else(|| KernelError::new(what(), io::ErrorKind::NotFound.into()))
    }

    /// Has the kernel ask for a neighbour's MAC, or confirm it if it is stale, as if it had a
    /// packet for it (`NTF_USE`). What it learns comes as an event.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub async fn resolve(&self, (interface, address): NeighbourKey) -> Result<(), KernelError> {
        let request = self.0.neighbours().add(interface, address);
        let request = request.state(NeighbourState::None).flags(NeighbourFlags::Use).replace();
        request.execute().await.map_err(|error| {
            KernelError::from_netlink(format!("asking for neighbour {address}"), error)
        })
    }

    /// Adds a host address to an interface.
    ///
    /// # Errors
    ///
    /// When the kernel refuses; [`io::ErrorKind::AlreadyExists`] if the address is there.
    pub async fn add_address(&self, interface: u32, address: IpAddr) -> Result<(), KernelError> {
        let length = IpNet::from(address).prefix_len();
        let mut request = self.0.address().add(interface, address, length);
        if address.is_ipv6() {
            // Else it could not be used while duplicates of it are looked for (RFC 4862 §5.4).
            request.message_mut().header.flags |= AddressHeaderFlags::Nodad;
        }
        request
            .execute()
            .await
            .map_err(|error| KernelError::from_netlink(format!("adding address {address}"), error))
    }

    /// Removes a host address from an interface.
    ///
    /// # Errors
    ///
    /// When the kernel refuses; [`io::ErrorKind::AddrNotAvailable`] if the address is not there.
    pub async fn remove_address(&self, interface: u32, address: IpAddr) -> Result<(), KernelError> {
        let message = match address {
            IpAddr::V4(v4) => AddressMessageBuilder::<std::net::Ipv4Addr>::new()
                .index(interface)
                .address(v4, 32)
                .build(),
            IpAddr::V6(v6) => AddressMessageBuilder::<std::net::Ipv6Addr>::new()
                .index(interface)
                .address(v6, 128)
                .build(),
        };
        self.0.address().del(message).execute().await.map_err(|error| {
            KernelError::from_netlink(format!("removing address {address}"), error)
        })
    }
}

/// Applies every message of a table.
async fn read<M>(
    topology: &mut Topology,
    what: &str,
    messages: impl Stream<Item = Result<M, rtnetlink::Error>>,
    wrap: impl Fn(M) -> RouteNetlinkMessage,
) -> Result<(), KernelError> {
    let failed = |error| KernelError::from_netlink(format!("reading the kernel's {what}"), error);
    let mut messages = pin!(messages);
    while let Some(message) = messages.try_next().await.map_err(failed)? {
        if let Some(change) = decode::change(&wrap(message), false) {
            // Nothing is removed here, and so nothing missing.
            let _ = topology.apply(change);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::network::testing::{in_namespace, run};

    #[test]
    fn the_interfaces_of_this_namespace_are_asked_for_not_those_of_another() {
        in_namespace(async || {
            let kernel = Kernel::connect().unwrap();
            run("ip link add veth0 index 77 type veth peer name veth1 index 78");
            let veth = Device { is_virtual: true, is_veth: true, mtu: 1500 };
            assert_eq!(kernel.device(77).await.unwrap(), veth);
            let loopback = Device { is_virtual: true, is_veth: false, mtu: 65536 };
            assert_eq!(kernel.device(1).await.unwrap(), loopback);
            kernel.device(99).await.unwrap_err();
            assert_eq!(kernel.index("veth1").await.unwrap(), Some(78));
            assert_eq!(kernel.index("veth2").await.unwrap(), None);
        });
    }

    #[test]
    fn nothing_bounces_that_is_virtual_and_runs_no_xdp_at_its_far_end() {
        in_namespace(async || {
            let kernel = Kernel::connect().unwrap();
            run("ip link add veth0 index 77 type veth peer name veth1 index 78");
            for index in [1, 77, 78] {
                assert!(!kernel.bounces(index).await.unwrap(), "{index}");
            }
            kernel.bounces(99).await.unwrap_err();
        });
    }
}
