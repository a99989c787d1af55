//! Links between namespaces.

use anyhow::Result;

use crate::Namespace;

/// One end of a link.
#[derive(Clone, Copy, Debug)]
pub struct End<'a> {
    /// The host that it is in.
    pub namespace: &'a Namespace,
    /// The interface's name there.
    pub device: &'a str,
    /// Its addresses, with prefix length.
    pub addresses: &'a [&'a str],
}

/// Joins two hosts by a pair of veth interfaces with `queues` receive and transmit queues each.
///
/// Both ends compute checksums themselves, else XDP sees packets whose checksum is not filled in
/// yet; and both have GRO on: without it (or a program of its own) a veth drops the frames that
/// XDP_TX or XDP_REDIRECT sends it. They have no link-local IPv6 addresses, whose traffic would
/// move a test's counters.
///
/// What XDP_TX sends stays in the peer's ring until something else wakes the peer, unless that has
/// a program too (`veth_xdp_flush` in drivers/net/veth.c). So a balancer has an interface for
/// clients and one for servers, even on one segment: XDP_REDIRECT wakes the peer.
pub fn veth(a: &End, b: &End, queues: u32) -> Result<()> {
    let queues = queues.to_string();
    let many = ["numrxqueues", &queues, "numtxqueues", &queues];
    let far = ["netns", b.namespace.name()];
    let pair = [&["link", "add", a.device][..], &many, &["type", "veth", "peer", "name", b.device]];
    a.namespace.ip(&[&pair.concat()[..], &many, &far].concat())?;
    [a, b].into_iter().try_for_each(bring_up)?;
    // Only now: a veth that is down does not tell its peer that it has GRO, and the kernel (since
    // 6.3) redirects nothing to a peer that was not told.
    [a, b].into_iter().try_for_each(set_offloads)?;
    [a, b].into_iter().try_for_each(add_addresses)
}

fn bring_up(end: &End) -> Result<()> {
    end.namespace.ip(&["link", "set", end.device, "addrgenmode", "none", "up"]).map(drop)
}

fn set_offloads(end: &End) -> Result<()> {
    end.namespace.run(&["ethtool", "-K", end.device, "tx", "off", "gro", "on"]).map(drop)
}

fn add_addresses(end: &End) -> Result<()> {
    let End { namespace, device, addresses } = end;
    for address in *addresses {
        let family = if address.contains(':') { "-6" } else { "-4" };
        // Duplicate address detection would keep an IPv6 address from being used for a second.
        let nodad = if family == "-6" { &["nodad"][..] } else { &[] };
        namespace.ip(&[&[family, "address", "add", address, "dev", device], nodad].concat())?;
    }
    Ok(())
}

/// Makes `ports`, interfaces of one host, the ports of a switch.
pub fn bridge(namespace: &Namespace, ports: &[&str]) -> Result<()> {
    namespace.ip(&["link", "add", "bridge", "type", "bridge"])?;
    namespace.ip(&["link", "set", "bridge", "addrgenmode", "none", "up"])?;
    for port in ports {
        namespace.ip(&["link", "set", port, "master", "bridge"])?;
    }
    Ok(())
}
