//! Real servers.

mod dnsmasq;
mod iperf;
mod nginx;

use std::{net::SocketAddr, time::Duration};

use anyhow::Result;

use crate::{Namespace, Process};

pub use self::{dnsmasq::Dnsmasq, iperf::Iperf, nginx::Nginx};

const STARTUP: Duration = Duration::from_secs(30);

/// Waits until the server's kernel has a socket for `address`. Nothing is sent to find out, so a
/// server's first visitor is the test's.
fn wait_listening(process: &mut Process, namespace: &Namespace, address: SocketAddr) -> Result<()> {
    let port = format!("sport = :{}", address.port());
    process.wait_until(&format!("a server at {address}"), STARTUP, || {
        let sockets = namespace.run(&["ss", "-H", "-l", "-n", "-t", "-u", &port])?;
        Ok(!sockets.is_empty())
    })
}
