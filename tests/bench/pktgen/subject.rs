//! What packets go through, each between two hosts of its own.

use std::{net::Ipv4Addr, time::Duration};

use anyhow::{Result, bail};
use aya::Ebpf;
use lb_tests::{Balancer, Sent, check_stopped, pktgen};

use super::{Machine, is_forwarded};
use crate::{
    cpu::{self, Napi},
    forward::punted,
    link::{CLIENTS, Link, PORT},
    traffic::{self, Traffic},
};

/// Passes over all flows until each is established; only an overloaded machine needs many.
const PASSES: u32 = 20;
/// Nanoseconds between two packets of such a pass. The generator sleeps meanwhile, so that what is
/// measured has its time even on the generator's own core.
const UNHURRIED: u64 = 200_000;
/// What one measurement may take. An emulated machine can be slow.
const PATIENCE: Duration = Duration::from_secs(600);

/// Natively: pktgen keeps a hold of each packet's buffer, and the generic hook of a kernel without tcx stops
/// it with a panic when it makes room in a buffer that somebody else holds (6.1).
const CONFIGURATION: &str = r#"
[instance]
name = "{instance}"
interfaces = ["{interface}"]
attach_mode = "native"
snat_addresses = ["10.0.0.8", "10.0.0.9"]
flow_capacity = 65536
cores = [{core}]
half_open_share = 100
udp_one_way_timeout = "1h"
[[virtual_service]]
name = "dns"
address = "192.0.2.10"
port = 53
protocol = "udp"
idle_timeout = "1h"
pool = "resolvers"
[[pool]]
name = "resolvers"
forwarding = "{forwarding}"
servers = [{ address = "10.0.0.11", port = 53 }, { address = "10.0.0.12", port = 53 }]
"#;
const NFTABLES: &str = "table ip balancer {
    chain prerouting {
        type nat hook prerouting priority dstnat
        ip daddr 192.0.2.10 dnat to numgen inc mod 2 map { 0 : 10.0.0.11, 1 : 10.0.0.12 }
    }
}";

/// What forwards.
pub struct Way {
    /// As it is reported.
    pub name: &'static str,
    kind: Kind,
}

enum Kind {
    Forwarding,
    Reflector,
    Nftables,
    /// How `ipvsadm` is told to reach a server.
    Ipvs(&'static str),
    /// How a pool reaches its servers.
    Firstpacket(&'static str),
}

/// The first is what the others are compared with.
pub const WAYS: [Way; 7] = [
    Way { name: "plain forwarding", kind: Kind::Forwarding },
    Way { name: "bare reflector", kind: Kind::Reflector },
    Way { name: "nftables, DNAT", kind: Kind::Nftables },
    Way { name: "IPVS, NAT", kind: Kind::Ipvs("--masquerading") },
    Way { name: "IPVS, direct routing", kind: Kind::Ipvs("--gatewaying") },
    Way { name: "firstpacket, dnat", kind: Kind::Firstpacket("dnat") },
    Way { name: "firstpacket, snat", kind: Kind::Firstpacket("snat") },
];

/// One of them, with all flows established. Fields are dropped in this order.
pub struct Subject {
    /// Which it is.
    pub way: &'static Way,
    /// Takes in what came through. In one packet of 256 the generator's time looks like the mark of a
    /// standing flow.
    pub sink: Traffic,
    running: Running,
    /// The thread on which the balancer receives.
    pub napi: Napi,
    /// The hosts.
    pub link: Link,
    /// Clients, each of which is a flow.
    flows: u32,
}

/// Held for as long as it runs.
enum Running {
    Kernel,
    Reflector(#[expect(dead_code, reason = "dropping it detaches it")] Ebpf),
    Firstpacket(Balancer),
}

impl Subject {
    /// Starts it, and sends packets of all flows until each is known.
    pub fn new(way: &'static Way, machine: Machine) -> Result<Self> {
        let link = Link::new()?;
        let running = way.start(&link, machine.core)?;
        let sink = Traffic::new(&link, 0)?;
        let shared = machine.counts_instructions();
        let sink_napi = Napi::new(&link.traffic, &link.near, cpu::TRAFFIC, !shared)?;
        let napi = Napi::new(&link.balancer, &link.far, machine.core, false)?;
        if shared {
            // Nor may the sink be woken at once: from then on the kernel would charge what the
            // balancer still does before it gives way to the sink (`rq_clock_skip_update`).
            sink_napi.take_turns(&link.traffic)?;
            napi.take_turns(&link.balancer)?;
        }
        let mut subject = Self { way, sink, running, napi, link, flows: machine.flows };
        subject.establish()?;
        Ok(subject)
    }

    /// Sends packets, so many nanoseconds between two of them.
    pub fn send(&mut self, length: usize, packets: u64, wait: u64) -> Result<Sent> {
        check_stopped()?;
        let (first, last) = (Ipv4Addr::from(CLIENTS), u32::from_be_bytes(CLIENTS) + self.flows - 1);
        let clients = format!("{first}-{}", Ipv4Addr::from(last));
        let [port, length, packets, wait, core] = [
            PORT.to_string(),
            length.to_string(),
            packets.to_string(),
            wait.to_string(),
            cpu::TRAFFIC.to_string(),
        ];
        let to = ["-i", &self.link.near, "-m", "02:00:00:00:00:01", "-d", "192.0.2.10"];
        let of = ["-s", &clients, "-p", &port, "-l", &length, "-n", &packets];
        let pace = ["-w", &wait, "-c", &core];
        let sent = pktgen(&self.link.traffic, &[&to[..], &of, &pace].concat(), PATIENCE)?;
        self.sink.wait_for_stragglers()?;
        Ok(sent)
    }

    fn establish(&mut self) -> Result<()> {
        let (flows, mut received) = (u64::from(self.flows), 0);
        for _ in 0..PASSES {
            self.sink.reset()?;
            let before = self.punted()?;
            self.send(60, flows, UNHURRIED)?;
            received = self.sink.received()?;
            let enough = match &self.running {
                Running::Firstpacket(_) => received == flows,
                // Who keeps nothing of flows need not have seen each.
                Running::Kernel | Running::Reflector(_) => is_forwarded(received, flows),
            };
            if enough && self.punted()? == before {
                return Ok(());
            }
        }
        bail!("after {PASSES} passes over {flows} flows {received} come through")
    }

    fn punted(&self) -> Result<u64> {
        match &self.running {
            Running::Firstpacket(balancer) => punted(balancer),
            Running::Kernel | Running::Reflector(_) => Ok(0),
        }
    }
}

impl Way {
    fn start(&self, link: &Link, core: usize) -> Result<Running> {
        match self.kind {
            Kind::Forwarding => link.let_the_kernel_forward()?,
            Kind::Reflector => return traffic::reflector(link).map(Running::Reflector),
            Kind::Nftables => nftables(link)?,
            Kind::Ipvs(method) => ipvs(link, method)?,
            Kind::Firstpacket(forwarding) => {
                let configuration = CONFIGURATION
                    .replace("{interface}", &link.far)
                    .replace("{core}", &core.to_string())
                    .replace("{forwarding}", forwarding);
                let balancer = Balancer::start(&link.balancer, &configuration, &[])?;
                return Ok(Running::Firstpacket(balancer));
            }
        }
        Ok(Running::Kernel)
    }
}

/// Only the destination is rewritten, as by IPVS and by `dnat`.
fn nftables(link: &Link) -> Result<()> {
    link.let_the_kernel_forward()?;
    link.balancer.run(&["nft", NFTABLES])?;
    // What nobody answers would be forgotten between two rounds.
    link.balancer.run(&["sysctl", "-q", "-w", "net.netfilter.nf_conntrack_udp_timeout=3600"])?;
    Ok(())
}

fn ipvs(link: &Link, method: &str) -> Result<()> {
    link.let_the_kernel_forward()?;
    let host = &link.balancer;
    // IPVS takes what is for this host.
    host.ip(&["route", "delete", "192.0.2.10/32"])?;
    host.ip(&["address", "add", "192.0.2.10/32", "dev", "lo"])?;
    let service = "192.0.2.10:53";
    host.run(&["ipvsadm", "--add-service", "--udp-service", service, "--scheduler", "rr"])?;
    for server in ["10.0.0.11:53", "10.0.0.12:53"] {
        let to = ["--udp-service", service, "--real-server", server, method];
        host.run(&[&["ipvsadm", "--add-server"][..], &to].concat())?;
    }
    host.run(&["ipvsadm", "--set", "0", "0", "3600"]).map(drop)
}
