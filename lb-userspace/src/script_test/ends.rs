//! Between whom a flow is, as a test writes it.

use std::net::{IpAddr, SocketAddr};

use lb_common::address::Protocol;

use super::failure::Told;

/// The client's address of a flow, with the port that a test did not care about.
pub(super) fn client(text: &str, port: u16) -> Told<SocketAddr> {
    let with_port = text.parse::<SocketAddr>().ok();
    let address = with_port.or_else(|| Some(SocketAddr::new(text.parse::<IpAddr>().ok()?, port)));
    match address {
        Some(address) if address.is_ipv4() => Ok(address),
        _ => Err(format!(
            "flow: `client` must be an IPv4 address, with a port or without, such as \
             \"198.51.100.7:4000\", not {text:?}"
        )),
    }
}

/// Where a flow goes to.
pub(super) fn vip(text: &str) -> Told<SocketAddr> {
    let wrong = || {
        format!("flow: `vip` must be an address and a port such as \"192.0.2.10:53\", not {text:?}")
    };
    text.parse().map_err(|_| wrong())
}

/// A transport by its name.
pub(super) fn protocol(text: &str) -> Told<Protocol> {
    let all = [Protocol::Tcp, Protocol::Udp];
    let found = all.into_iter().find(|protocol| protocol.name() == text);
    found.ok_or_else(|| format!("flow: `protocol` must be \"tcp\" or \"udp\", not {text:?}"))
}
