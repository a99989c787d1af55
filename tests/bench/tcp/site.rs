//! Three hosts in a row: clients, what is measured, servers.

use std::{fs, net::IpAddr, path::Path, time::Duration};

use anyhow::{Context as _, Result};
use lb_tests::{Balancer, End, Namespace, Process, veth, wait_until};
use tempfile::TempDir;

use super::{client, server::Server};
use crate::cpu;

/// Where clients, servers and what is between them run. The kernel's share of it runs where a
/// packet was sent, so on this core too.
pub const CORE: usize = 0;
const SOON: Duration = Duration::from_secs(30);

/// What is between clients and servers.
pub struct Way {
    /// As it is reported.
    pub name: &'static str,
    kind: Kind,
}

enum Kind {
    Forwarding,
    Nftables,
    Firstpacket { script: bool },
    Haproxy { lua: bool },
    Nginx,
}

/// The first is what the others are compared with.
pub const WAYS: [Way; 7] = [
    Way { name: "plain forwarding", kind: Kind::Forwarding },
    Way { name: "nftables", kind: Kind::Nftables },
    Way { name: "firstpacket", kind: Kind::Firstpacket { script: false } },
    Way { name: "firstpacket, script", kind: Kind::Firstpacket { script: true } },
    Way { name: "haproxy", kind: Kind::Haproxy { lua: false } },
    Way { name: "haproxy, Lua", kind: Kind::Haproxy { lua: true } },
    Way { name: "nginx stream", kind: Kind::Nginx },
];

/// The hosts, and what runs on them. Fields are dropped in this order.
pub struct Site {
    /// What is measured.
    pub way: &'static Way,
    /// Where clients send to.
    pub target: IpAddr,
    _running: Running,
    _server: Server,
    client: Namespace,
}

/// Held for as long as it runs.
#[expect(dead_code, reason = "dropping them ends them")]
enum Running {
    Kernel(Namespace),
    Firstpacket(Balancer),
    Process(Process, TempDir),
}

impl Site {
    /// Makes the hosts and waits until a client is answered.
    pub fn new(way: &'static Way) -> Result<Self> {
        let [client, middle, servers] =
            [Namespace::new("client")?, Namespace::new("middle")?, Namespace::new("servers")?];
        join(&client, &middle, &servers)?;
        let server = Server::start(&servers)?;
        let running = way.start(&middle)?;
        let target = if matches!(way.kind, Kind::Forwarding) { "10.0.0.11" } else { "192.0.2.10" };
        let target: IpAddr = target.parse()?;
        let site = Self { way, target, _running: running, _server: server, client };
        for port in [80, 81] {
            site.wait_answer(port)?;
        }
        Ok(site)
    }

    /// Runs clients, on the core that all share.
    pub fn run<R: Send>(&self, work: impl FnOnce() -> Result<R> + Send) -> Result<R> {
        lb_tests::check_stopped()?;
        self.client.enter(|| {
            cpu::pin(CORE)?;
            cpu::come_first()?;
            work()
        })?
    }

    fn wait_answer(&self, port: u16) -> Result<()> {
        let server = (self.target, port).into();
        let mut last = None;
        let waited = wait_until("a way to the servers", SOON, || {
            let sent = self.run(|| client::bulk(server, 0));
            last = sent.err();
            Ok(last.is_none())
        });
        waited.with_context(|| last.map_or_else(String::new, |error| format!("{error:#}")))
    }
}

/// The links are all alike: checksums are computed, segments cut as for a wire and never merged
/// again, so that nobody forwards fewer packets than clients and servers send.
fn join(client: &Namespace, middle: &Namespace, servers: &Namespace) -> Result<()> {
    veth(
        &End { namespace: client, device: "eth0", addresses: &["192.0.2.2/24"] },
        &End { namespace: middle, device: "clients", addresses: &["192.0.2.1/24"] },
        1,
    )?;
    veth(
        &End { namespace: middle, device: "servers", addresses: &["10.0.0.1/24"] },
        &End { namespace: servers, device: "eth0", addresses: &["10.0.0.11/24", "10.0.0.12/24"] },
        1,
    )?;
    let ends = [(client, "eth0"), (middle, "clients"), (middle, "servers"), (servers, "eth0")];
    for (host, device) in ends {
        host.run(&["ethtool", "-K", device, "gro", "off"])?;
    }
    client.ip(&["route", "add", "default", "via", "192.0.2.1"])?;
    servers.ip(&["route", "add", "default", "via", "10.0.0.1"])?;
    for host in [client, middle, servers] {
        // Many short connections: ports are used again as soon as the protocol allows.
        for setting in ["tcp_tw_reuse=1", "ip_local_port_range=1025 65535"] {
            host.run(&["sysctl", "-q", "-w", &format!("net.ipv4.{setting}")])?;
        }
    }
    Ok(())
}

impl Way {
    fn start(&self, host: &Namespace) -> Result<Running> {
        match self.kind {
            Kind::Forwarding => forward(host),
            Kind::Nftables => nftables(host),
            Kind::Firstpacket { script } => firstpacket(host, script),
            Kind::Haproxy { lua } => haproxy(host, lua),
            Kind::Nginx => nginx(host),
        }
    }
}

fn forward(host: &Namespace) -> Result<Running> {
    host.run(&["sysctl", "-q", "-w", "net.ipv4.ip_forward=1"])?;
    Ok(Running::Kernel(host.clone()))
}

fn nftables(host: &Namespace) -> Result<Running> {
    let folder = files(&[("nat.nft", include_str!("configurations/nat.nft"))])?;
    own_addresses(host)?;
    host.ip(&["address", "add", "10.0.0.9/24", "dev", "servers"])?;
    host.run(&["nft", "-f", &path(&folder, "nat.nft")])?;
    forward(host)
}

fn firstpacket(host: &Namespace, script: bool) -> Result<Running> {
    let mut configuration = include_str!("configurations/lb.toml").to_owned();
    if script {
        configuration = configuration.replace("\n# ", "\n");
    }
    let scripts = [("request.lua", include_str!("configurations/request.lua"))];
    let mut balancer = Balancer::start(host, &configuration, &scripts)?;
    cpu::let_come_first(host, balancer.process().id())?;
    Ok(Running::Firstpacket(balancer))
}

fn haproxy(host: &Namespace, lua: bool) -> Result<Running> {
    let configuration = match lua {
        true => include_str!("configurations/haproxy-lua.cfg"),
        false => include_str!("configurations/haproxy.cfg"),
    };
    let pick = include_str!("configurations/pick.lua");
    let folder = files(&[("haproxy.cfg", configuration), ("pick.lua", pick)])?;
    let [directory, file] = [path(&folder, ""), path(&folder, "haproxy.cfg")];
    start(host, &["haproxy", "-db", "-C", &directory, "-f", &file], folder)
}

fn nginx(host: &Namespace) -> Result<Running> {
    let folder = files(&[("nginx.conf", include_str!("configurations/nginx.conf"))])?;
    let [directory, file] = [path(&folder, ""), path(&folder, "nginx.conf")];
    start(host, &["nginx", "-e", "stderr", "-p", &directory, "-c", &file], folder)
}

/// Starts a proxy on the core that all share.
fn start(host: &Namespace, words: &[&str], folder: TempDir) -> Result<Running> {
    own_addresses(host)?;
    let core = CORE.to_string();
    let first = ["nice", "-n", "-20", "taskset", "-c", &core];
    let mut process = host.spawn(&[&first, words].concat())?;
    process.wait_until("the proxy", SOON, || {
        Ok(!host.run(&["ss", "-H", "-l", "-n", "-t", "sport = :80"])?.is_empty())
    })?;
    Ok(Running::Process(process, folder))
}

/// The virtual service's address, which `lb` adds by itself.
fn own_addresses(host: &Namespace) -> Result<()> {
    host.ip(&["address", "add", "192.0.2.10/24", "dev", "clients"]).map(drop)
}

fn files(files: &[(&str, &str)]) -> Result<TempDir> {
    let folder = TempDir::with_prefix("bench-").context("cannot make a folder")?;
    for (name, content) in files {
        fs::write(folder.path().join(name), content).with_context(|| (*name).to_owned())?;
    }
    Ok(folder)
}

fn path(folder: &TempDir, name: &str) -> String {
    Path::join(folder.path(), name).to_string_lossy().into_owned()
}
