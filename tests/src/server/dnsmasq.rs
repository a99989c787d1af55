//! dnsmasq: a DNS server.

use std::net::{IpAddr, SocketAddr};

use anyhow::Result;

use crate::{Namespace, Process, server::wait_listening};

/// A DNS server that knows a few names and asks nobody.
#[derive(Debug)]
pub struct Dnsmasq {
    _process: Process,
}

impl Dnsmasq {
    /// Starts one in `namespace` that answers each name, and all below it, with its address.
    pub fn start(
        namespace: &Namespace,
        address: SocketAddr,
        answers: &[(&str, IpAddr)],
    ) -> Result<Self> {
        let listen = format!("--listen-address={}", address.ip());
        let port = format!("--port={}", address.port());
        let answers: Vec<_> =
            answers.iter().map(|(name, answer)| format!("--address=/{name}/{answer}")).collect();
        let mut words = vec!["dnsmasq", "--no-daemon", "--conf-file=/dev/null", "--pid-file"];
        words.extend(["--no-resolv", "--no-hosts", "--user=root", "--bind-interfaces"]);
        words.extend([listen.as_str(), port.as_str()]);
        words.extend(answers.iter().map(String::as_str));
        let mut process = namespace.spawn(&words)?;
        wait_listening(&mut process, namespace, address)?;
        Ok(Self { _process: process })
    }
}
