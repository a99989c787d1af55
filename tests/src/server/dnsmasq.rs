//! dnsmasq: a DNS server.

use std::{
    fs,
    net::{IpAddr, SocketAddr},
};

use anyhow::{Context, Result};
use rustix::process::Signal;
use tempfile::NamedTempFile;

use crate::{Namespace, Process, server::wait_listening};

/// A DNS server that knows a few names and asks nobody.
#[derive(Debug)]
pub struct Dnsmasq {
    process: Process,
    /// Addresses and names, for one whose names change.
    hosts: Option<NamedTempFile>,
}

impl Dnsmasq {
    /// Starts one in `namespace` that answers each name, and all below it, with its address.
    pub fn start(
        namespace: &Namespace,
        address: SocketAddr,
        answers: &[(&str, IpAddr)],
    ) -> Result<Self> {
        let answers: Vec<_> =
            answers.iter().map(|(name, answer)| format!("--address=/{name}/{answer}")).collect();
        let process = spawn(namespace, address, &answers)?;
        Ok(Self { process, hosts: None })
    }

    /// Starts one whose names, all in `test`, may be changed. Answers hold for `ttl` seconds; of
    /// other names in `test` it says that there are none.
    pub fn start_changing(
        namespace: &Namespace,
        address: SocketAddr,
        ttl: u32,
        hosts: &[(&str, IpAddr)],
    ) -> Result<Self> {
        let file = NamedTempFile::with_prefix("lb-hosts-")?;
        write(&file, hosts)?;
        let words = [
            format!("--addn-hosts={}", file.path().display()),
            format!("--local-ttl={ttl}"),
            "--local=/test/".to_owned(),
        ];
        let process = spawn(namespace, address, &words)?;
        Ok(Self { process, hosts: Some(file) })
    }

    /// Other addresses for the names of one that was made for that.
    pub fn change(&mut self, hosts: &[(&str, IpAddr)]) -> Result<()> {
        let file = self.hosts.as_ref().context("its names do not change")?;
        write(file, hosts)?;
        self.process.signal(Signal::HUP)
    }

    /// Its process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}

fn write(file: &NamedTempFile, hosts: &[(&str, IpAddr)]) -> Result<()> {
    let lines = hosts.iter().map(|(name, address)| format!("{address} {name}\n"));
    fs::write(file.path(), lines.collect::<String>()).context("cannot write the name server's file")
}

fn spawn(namespace: &Namespace, address: SocketAddr, answers: &[String]) -> Result<Process> {
    let listen = format!("--listen-address={}", address.ip());
    let port = format!("--port={}", address.port());
    let mut words = vec!["dnsmasq", "--no-daemon", "--conf-file=/dev/null", "--pid-file"];
    words.extend(["--no-resolv", "--no-hosts", "--user=root", "--bind-interfaces"]);
    words.extend([listen.as_str(), port.as_str()]);
    words.extend(answers.iter().map(String::as_str));
    let mut process = namespace.spawn(&words)?;
    wait_listening(&mut process, namespace, address)?;
    Ok(process)
}
