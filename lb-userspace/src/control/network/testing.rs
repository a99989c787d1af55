//! What this module's tests share: small topologies, and network namespaces.

use std::{
    net::{IpAddr, Ipv4Addr},
    os::fd::OwnedFd,
    process::Command,
    time::{Duration, Instant},
};

use etherparse::{ArpOperation, NetSlice, SlicedPacket};
use ipnet::IpNet;
use lb_common::next_hop::Mac;
use rustix::{
    net::{
        AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, netdevice, recv,
        sendto, socket_with,
    },
    thread::{UnshareFlags, unshare_unsafe},
};

use super::{
    announce::LinkAddress,
    topology::{Change, Interface, Topology, Vlan},
};

pub fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

/// An Ethernet interface whose MAC ends in its index.
pub fn interface(index: u8, name: &str) -> Interface {
    let mac = Some([2, 0, 0, 0, 1, index]);
    Interface { index: index.into(), name: name.into(), mac, up: true, vlan: None }
}

/// A VLAN device over `eth<parent - 2>`.
pub fn vlan(index: u8, id: u16, parent: u8) -> Interface {
    let name = format!("eth{}.{id}", parent - 2);
    Interface { vlan: Some(Vlan { id, parent: parent.into() }), ..interface(index, &name) }
}

pub fn topology(changes: impl IntoIterator<Item = Change>) -> Topology {
    let mut topology = Topology::default();
    apply(&mut topology, changes);
    topology
}

pub fn apply(topology: &mut Topology, changes: impl IntoIterator<Item = Change>) {
    for change in changes {
        let _ = topology.apply(change);
    }
}

/// Runs a test in a network namespace of its own, which ends with it. What `eth0` sends arrives
/// at `peer0`, which has no address; `eth0` is 10.0.0.9/24 with MAC 02:00:00:00:01:02.
///
/// Without the privilege the test is skipped, loudly; in CI (environment variable `CI`) it fails.
pub fn in_namespace<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send + 'static) {
    let thread = std::thread::spawn(|| {
        // SAFETY: only this thread's network namespace changes, which no memory depends on.
        if let Err(error) = unsafe { unshare_unsafe(UnshareFlags::NEWNET) } {
            assert!(std::env::var_os("CI").is_none(), "no network namespace in CI: {error}");
            eprintln!("SKIPPED, needs root (CAP_SYS_ADMIN) for a network namespace: {error}");
            return;
        }
        run("ip link add eth0 address 02:00:00:00:01:02 type veth peer name peer0");
        run("ip addr add 10.0.0.9/24 dev eth0");
        run("ip link set lo up");
        run("ip link set peer0 up");
        run("ip link set eth0 up");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.unwrap().block_on(async {
            eventually("eth0 and peer0 to send", || {
                (can_send("eth0") && can_send("peer0")).then_some(())
            })
            .await;
            test().await;
        });
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// The kernel gives an interface that was set up its queue a little later, and until then drops
/// without a word what is sent by it.
fn can_send(interface: &str) -> bool {
    let output = Command::new("ip").args(["link", "show", interface]).output().unwrap();
    String::from_utf8_lossy(&output.stdout).contains("qdisc noqueue state UP")
}

/// Runs a command in the calling thread's network namespace.
pub fn run(command: &str) {
    output(command);
}

/// The same; returns what the command says.
pub fn output(command: &str) -> String {
    let mut words = command.split_whitespace();
    let output = Command::new(words.next().unwrap()).args(words).output().unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command}: {complaint}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Waits until `look` finds something, at most ten seconds, while other tasks run.
pub async fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}: not within ten seconds");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Sees the ARP requests that arrive at `peer0`, and can answer them.
pub struct Peer(OwnedFd);

/// An ARP request.
pub struct Request {
    pub sender_mac: Mac,
    pub sender: Ipv4Addr,
    pub target: Ipv4Addr,
}

impl Peer {
    pub fn listen() -> Self {
        // Sockets for one protocol do not see what leaves the host: only `peer0`'s side is seen.
        let arp = Protocol::from_raw(u32::from(0x0806u16.to_be()).try_into().unwrap());
        let (family, kind) = (AddressFamily::PACKET, SocketType::RAW);
        Self(socket_with(family, kind, SocketFlags::CLOEXEC, Some(arp)).unwrap())
    }

    /// The next request, if one is there.
    pub fn request(&self) -> Option<Request> {
        let mut frame = [0; 128];
        let (_, length) = recv(&self.0, &mut frame, RecvFlags::DONTWAIT).ok()?;
        let packet = SlicedPacket::from_ethernet(&frame[..length]).unwrap();
        let Some(NetSlice::Arp(arp)) = packet.net else { panic!("not ARP") };
        let v4 = |bytes: &[u8]| Ipv4Addr::from(<[u8; 4]>::try_from(bytes).unwrap());
        (arp.operation() == ArpOperation::REQUEST).then(|| Request {
            sender_mac: arp.sender_hw_addr().try_into().unwrap(),
            sender: v4(arp.sender_protocol_addr()),
            target: v4(arp.target_protocol_addr()),
        })
    }

    /// Tells whoever sent `request` that its target has this MAC.
    pub fn answer(&self, request: &Request, mac: Mac) {
        let target = request.target.octets();
        let sender = request.sender.octets();
        let to = request.sender_mac;
        let reply = [&to[..], &mac, &[8, 6, 0, 1, 8, 0, 6, 4, 0, 2], &mac, &target, &to, &sender];
        let peer0 = LinkAddress::of(netdevice::name_to_index(&self.0, "peer0").unwrap()).unwrap();
        sendto(&self.0, &reply.concat(), SendFlags::empty(), &peer0).unwrap();
    }
}
