//! The hosts of the demo.

use std::{fs, net::SocketAddr};

use anyhow::{Context, Result};
use lb_tests::{Balancer, Dnsmasq, End, Namespace, Nginx, bridge, veth};

use crate::workspace;

/// What [`Network::new`] makes.
pub const DRAWING: &str = "\
client                          balancer                    server-1  10.0.0.11  nginx, dnsmasq
192.0.2.101  192.0.2.102  ───── clients     servers ──┬──── server-2  10.0.0.12  nginx, dnsmasq
192.0.2.201  192.0.2.150        192.0.2.1  10.0.0.1   └──── server-3  10.0.0.13  nginx, dnsmasq";

/// The configuration that is shipped as an example.
pub const SETUP: &str = "scripts/datascripts/demo.toml";
/// The addresses that requests come from.
pub const CLIENTS: [&str; 3] = ["192.0.2.101", "192.0.2.102", "192.0.2.201"];
/// The address that downloads.
pub const DOWNLOADER: [u8; 4] = [192, 0, 2, 150];
/// Names that every server answers with its own address.
pub const NAMES: [&str; 2] = ["www.example.test", "wiki.corp.test"];

const INSTANCE: &str = "demo";
const SERVERS: [(&str, &str); 3] =
    [("server-1", "10.0.0.11"), ("server-2", "10.0.0.12"), ("server-3", "10.0.0.13")];

/// The hosts, and what runs on them. Fields are dropped in this order.
pub struct Network {
    servers: Vec<Server>,
    /// Where requests come from.
    pub client: Namespace,
    balancer: Namespace,
    _switch: Namespace,
}

struct Server {
    nginx: Nginx,
    _dnsmasq: Dnsmasq,
}

impl Network {
    /// Joins client and balancer directly, balancer and servers by a switch.
    pub fn new() -> Result<Self> {
        let client = Namespace::new("client")?;
        let balancer = Namespace::new("balancer")?;
        let switch = Namespace::new("switch")?;
        join_client(&client, &balancer)?;
        veth(
            &End { namespace: &balancer, device: "servers", addresses: &["10.0.0.1/24"] },
            &End { namespace: &switch, device: "balancer", addresses: &[] },
            2,
        )?;
        let start = |&(name, address)| Server::start(&switch, name, address);
        let servers = SERVERS.iter().map(start).collect::<Result<_>>()?;
        bridge(&switch, &["balancer", "server-1", "server-2", "server-3"])?;
        Ok(Self { servers, client, balancer, _switch: switch })
    }

    /// Starts `lb run` with the shipped configuration.
    pub fn start_balancer(&self) -> Result<Balancer> {
        Balancer::start_file(&self.balancer, &workspace::root().join(SETUP), INSTANCE)
    }

    /// Puts the same file on every server.
    pub fn publish(&self, name: &str, content: &[u8]) -> Result<()> {
        let mut files = self.servers.iter().map(|server| server.nginx.files().join(name));
        files.try_for_each(|file| fs::write(&file, content)).context("cannot write a server's file")
    }
}

fn join_client(client: &Namespace, balancer: &Namespace) -> Result<()> {
    let [a, b, c, d] = DOWNLOADER;
    let downloader = format!("{a}.{b}.{c}.{d}");
    let all = CLIENTS.iter().copied().chain([downloader.as_str()]);
    let addresses: Vec<_> = all.map(|address| format!("{address}/24")).collect();
    let addresses: Vec<_> = addresses.iter().map(String::as_str).collect();
    veth(
        &End { namespace: client, device: "eth0", addresses: &addresses },
        &End { namespace: balancer, device: "clients", addresses: &["192.0.2.1/24"] },
        2,
    )?;
    // Without a bound the kernel would take a whole download for a client that reads slowly.
    let bound = "net.ipv4.tcp_rmem=4096 131072 262144";
    client.run(&["sysctl", "-q", "-w", bound]).map(drop)
}

impl Server {
    /// A host on the switch; its namespace lives as long as what runs in it.
    fn start(switch: &Namespace, name: &str, address: &str) -> Result<Self> {
        let host = Namespace::new(name)?;
        veth(
            &End { namespace: &host, device: "eth0", addresses: &[&format!("{address}/24")] },
            &End { namespace: switch, device: name, addresses: &[] },
            1,
        )?;
        let ip = address.parse()?;
        let answers = NAMES.map(|name| (name, ip));
        Ok(Self {
            nginx: Nginx::start(&host, name, SocketAddr::new(ip, 80))?,
            _dnsmasq: Dnsmasq::start(&host, SocketAddr::new(ip, 53), &answers)?,
        })
    }
}
