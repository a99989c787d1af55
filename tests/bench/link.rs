//! One link between a host that makes traffic and one that is to send it back.

use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, Result};
use lb_tests::{End, Namespace, veth};

use crate::cpu::{self, Napi};

/// The virtual service.
pub const SERVICE: [u8; 4] = [192, 0, 2, 10];
/// Clients begin here; the traffic's host routes for them.
pub const CLIENTS: [u8; 4] = [10, 64, 0, 0];
/// The service's port and the servers'.
pub const PORT: u16 = 53;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// The two hosts. Each end receives on a thread of the kernel of its own.
pub struct Link {
    /// Makes packets, is clients and servers.
    pub traffic: Namespace,
    /// Is measured.
    pub balancer: Namespace,
    /// The traffic's interface.
    pub near: String,
    /// The balancer's.
    pub far: String,
}

impl Link {
    /// Makes it. Neither end has a program yet.
    pub fn new() -> Result<Self> {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        // Threads of the kernel are found by these names, so no other may have them; and there is
        // room for eleven letters.
        let name = |end| format!("{end}{}x{number}", std::process::id() % 100_000);
        let (near, far) = (name("t"), name("b"));
        let [traffic, balancer] = [Namespace::new("traffic")?, Namespace::new("balancer")?];
        let servers = ["192.0.2.2/24", "10.0.0.11/24", "10.0.0.12/24"];
        veth(
            &End { namespace: &traffic, device: &near, addresses: &servers },
            &End {
                namespace: &balancer,
                device: &far,
                addresses: &["192.0.2.1/24", "10.0.0.1/24"],
            },
            1,
        )?;
        // As the generator writes them.
        traffic.ip(&["link", "set", &near, "address", "02:00:00:00:00:02"])?;
        balancer.ip(&["link", "set", &far, "address", "02:00:00:00:00:01"])?;
        balancer.ip(&["route", "add", "10.64.0.0/10", "via", "192.0.2.2"])?;
        Ok(Self { traffic, balancer, near, far })
    }

    /// The kernel's own forwarding, out by the interface that packets came in by.
    pub fn let_the_kernel_forward(&self) -> Result<()> {
        self.balancer.ip(&["route", "add", "192.0.2.10/32", "via", "10.0.0.11"])?;
        let settings = ["ip_forward=1", "conf.all.send_redirects=0", "conf.all.rp_filter=0"];
        for setting in settings {
            self.balancer.run(&["sysctl", "-q", "-w", &format!("net.ipv4.{setting}")])?;
        }
        let redirects = format!("net.ipv4.conf.{}.send_redirects=0", self.far);
        self.balancer.run(&["sysctl", "-q", "-w", &redirects]).map(drop)
    }

    /// Puts both ends' threads where they belong, once all programs are there. `urgent`: what the
    /// balancer receives comes before its ordinary threads.
    pub fn pin(&self, urgent: bool) -> Result<Napi> {
        Napi::new(&self.traffic, &self.near, cpu::TRAFFIC, true)?;
        Napi::new(&self.balancer, &self.far, cpu::BALANCER, urgent)
    }

    /// How many packets the balancer's end has received.
    pub fn received(&self) -> Result<u64> {
        let statistics = self.balancer.run(&["ethtool", "-S", &self.far])?;
        let line = statistics.lines().find_map(|line| {
            let (name, value) = line.trim().split_once(": ")?;
            (name == "rx_queue_0_xdp_packets").then_some(value)
        });
        line.and_then(|value| value.parse().ok())
            .with_context(|| format!("no count of packets in\n{statistics}"))
    }
}
