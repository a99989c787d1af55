//! The way by which socket buffers get to where XDP sees them.
//!
//! Only XDP reaches AF_XDP sockets. What the program at the ingress of traffic control punts it sends into
//! the near end of a pair of veths, and at the far end XDP runs. On the way the kernel makes plain packets
//! of it: the near end computes no checksums, cuts no segments and keeps no VLAN tag beside the packet, so
//! the kernel does all that before.

use netlink_packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, LinkAttribute, LinkMessage,
};
use rtnetlink::{LinkMessageBuilder, LinkUnspec};

use super::{
    kernel::{Kernel, KernelError},
    offloads,
};
use crate::datapath::Detour;

/// Room for two VLAN tags that packets carry inside.
const TAGS: u32 = 8;

/// Name of the far end of an interface's detour.
pub fn far_name(interface: u32) -> String {
    format!("fp{interface}in")
}

/// Makes the detour of an interface, or sets up the one that an earlier daemon left.
///
/// # Errors
///
/// When the kernel refuses.
pub async fn ensure(kernel: &Kernel, interface: u32) -> Result<Detour, KernelError> {
    let mtu = kernel.device(interface).await?.mtu + TAGS;
    let (near_name, far_name) = (format!("fp{interface}"), far_name(interface));
    if kernel.index(&far_name).await?.is_none() {
        kernel.add_pair(named(&near_name), named(&far_name)).await?;
    }
    let near = index(kernel, &near_name).await?;
    let far = index(kernel, &far_name).await?;
    offloads::disable(&near_name)?;
    for index in [near, far] {
        kernel.set_link(ready(index, mtu)).await?;
    }
    Ok(Detour { near, far, far_name })
}

/// Removes the detours with these far ends; one that is gone already is no error.
///
/// # Errors
///
/// When the kernel refuses.
pub async fn remove(kernel: &Kernel, far_ends: &[String]) -> Result<(), KernelError> {
    for name in far_ends {
        if let Some(index) = kernel.index(name).await? {
            kernel.delete_link(index).await?;
        }
    }
    Ok(())
}

fn named(name: &str) -> LinkMessage {
    LinkMessageBuilder::<LinkUnspec>::new().name(name).build()
}

/// An end as it is to be: up, but without an address it does not need, and so without a word of its own.
fn ready(index: u32, mtu: u32) -> LinkMessage {
    let silent = AfSpecInet6::AddrGenMode(In6AddrGenMode::None);
    let silent = LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(vec![silent])]);
    let end = LinkMessageBuilder::<LinkUnspec>::new().index(index).mtu(mtu).arp(false).up();
    end.append_extra_attribute(silent).build()
}

async fn index(kernel: &Kernel, name: &str) -> Result<u32, KernelError> {
    let missing = || KernelError::new(name, std::io::ErrorKind::NotFound.into());
    kernel.index(name).await?.ok_or_else(missing)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::network::testing::{in_namespace, output};

    #[test]
    fn a_detour_is_made_once_and_removed_whole() {
        in_namespace(async || {
            let kernel = Kernel::connect().unwrap();
            let eth0 = kernel.index("eth0").await.unwrap().unwrap();
            let made = ensure(&kernel, eth0).await.unwrap();
            assert_eq!(ensure(&kernel, eth0).await.unwrap(), made);
            for name in [format!("fp{eth0}"), made.far_name.clone()] {
                let shown = output(&format!("ip -details link show {name}"));
                for word in ["UP", "mtu 1508", "NOARP", "addrgenmode none"] {
                    assert!(shown.contains(word), "no {word} in {shown}");
                }
            }
            let features = output(&format!("ethtool -k fp{eth0}"));
            for off in [
                "tx-checksumming: off",
                "tx-tcp-segmentation: off",
                "generic-segmentation-offload: off",
                "tx-vlan-offload: off",
            ] {
                assert!(features.contains(off), "no {off} in {features}");
            }
            let far_ends = [made.far_name];
            remove(&kernel, &far_ends).await.unwrap();
            assert_eq!(kernel.index(&far_ends[0]).await.unwrap(), None);
            assert_eq!(kernel.index(&format!("fp{eth0}")).await.unwrap(), None);
            remove(&kernel, &far_ends).await.unwrap();
        });
    }
}
