//! iperf3: the other end of a throughput measurement.

use std::net::SocketAddr;

use anyhow::Result;

use crate::{Namespace, Process, server::wait_listening};

/// An iperf3 server.
#[derive(Debug)]
pub struct Iperf {
    _process: Process,
}

impl Iperf {
    /// Starts one in `namespace`.
    pub fn start(namespace: &Namespace, address: SocketAddr) -> Result<Self> {
        let [ip, port] = [address.ip().to_string(), address.port().to_string()];
        let mut process = namespace.spawn(&["iperf3", "-s", "-B", &ip, "-p", &port])?;
        wait_listening(&mut process, namespace, address)?;
        Ok(Self { _process: process })
    }
}
