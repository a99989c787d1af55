use std::{collections::HashMap, sync::Mutex};

use lb_common::next_hop::Mac;
use rustix::net::{AddressFamily, SocketType, netdevice, socket};

use super::*;
use crate::control::network::{
    next_hops::{State, Unreachable},
    testing::{Peer, eventually, in_namespace, ip, run},
    view::Toward,
};

const SERVER: Mac = [2, 0, 0, 0, 0, 0x11];
const OTHER: Mac = [2, 0, 0, 0, 0, 0x22];
const OURS: Mac = [2, 0, 0, 0, 1, 2];

/// A running network on `eth0`, and the map that it writes.
struct Running {
    handle: NetworkHandle,
    clients: mpsc::Sender<IpAddr>,
    map: Arc<Mutex<HashMap<NextHopId, NextHop>>>,
    task: tokio::task::JoinHandle<Result<(), NetworkError>>,
}

impl Running {
    async fn start(servers: &[&str]) -> Self {
        let map = Arc::<Mutex<HashMap<_, _>>>::default();
        let settings = Settings {
            interfaces: vec!["eth0".into()],
            servers: servers.iter().map(|server| ip(server)).collect(),
            assigned: Vec::new(),
        };
        let (clients, receiver) = mpsc::channel(16);
        let written = Arc::clone(&map);
        let write = move |id, _target, entry| {
            written.lock().unwrap().insert(id, entry);
            Ok(())
        };
        let (handle, network) = Network::start(settings, receiver, write).await.unwrap();
        Self { handle, clients, map, task: tokio::spawn(network.run()) }
    }

    fn toward(&self, address: &str) -> Toward {
        self.handle.view().load().toward(ip(address))
    }

    fn id(&self, address: &str) -> NextHopId {
        match self.toward(address) {
            Toward::Known(id) => id,
            other => panic!("{address}: {other:?}"),
        }
    }

    /// Waits for the map to hold an entry, and the view the same.
    async fn expect(&self, id: NextHopId, entry: NextHop) {
        eventually(&format!("{id:?} to be {entry:?}"), || {
            let written = self.map.lock().unwrap().get(&id) == Some(&entry);
            (written && self.handle.view().load().entry(id) == entry).then_some(())
        })
        .await;
    }
}

/// Some small kernels are built without. That is no missing privilege, which would be a failure
/// in CI: what a tag does to a packet is shown by the golden packets, and which next hop gets one
/// by the tests of `next_hops`.
fn has_vlans() -> bool {
    let probe = ["link", "add", "link", "eth0", "name", "probe", "type", "vlan", "id", "1"];
    let output = std::process::Command::new("ip").args(probe).output().unwrap();
    if !output.status.success() {
        let complaint = String::from_utf8_lossy(&output.stderr);
        eprintln!("SKIPPED, needs a kernel with CONFIG_VLAN_8021Q: {complaint}");
    }
    output.status.success()
}

fn index(name: &str) -> u32 {
    let socket = socket(AddressFamily::INET, SocketType::DGRAM, None).unwrap();
    netdevice::name_to_index(socket, name).unwrap()
}

fn by_eth0(destination: Mac) -> NextHop {
    let interface = index("eth0");
    NextHop::new(interface, destination, OURS)
}

#[test]
fn a_server_s_entry_follows_its_neighbour() {
    in_namespace(async || {
        run("ip neigh add 10.0.0.11 lladdr 02:00:00:00:00:11 dev eth0");
        let network = Running::start(&["10.0.0.11"]).await;
        let id = network.id("10.0.0.11");
        network.expect(id, by_eth0(SERVER)).await;
        run("ip neigh change 10.0.0.11 lladdr 02:00:00:00:00:22 dev eth0");
        network.expect(id, by_eth0(OTHER)).await;
        run("ip neigh del 10.0.0.11 dev eth0");
        network.expect(id, NextHop::default()).await;
        // It is being asked for by now: there may be an entry.
        run("ip neigh replace 10.0.0.11 lladdr 02:00:00:00:00:11 dev eth0");
        network.expect(id, by_eth0(SERVER)).await;

        drop(network.handle);
        network.task.await.unwrap().unwrap();
    });
}

#[test]
fn an_unknown_neighbour_is_asked_for() {
    in_namespace(async || {
        let peer = Peer::listen();
        let network = Running::start(&["10.0.0.11"]).await;
        let id = network.id("10.0.0.11");
        network.expect(id, NextHop::default()).await;
        let server = "10.0.0.11".parse::<std::net::Ipv4Addr>().unwrap();
        let asks = || peer.request().filter(|request| request.target == server);
        let request = eventually("an ARP request for the server", asks).await;
        peer.answer(&request, SERVER);
        network.expect(id, by_eth0(SERVER)).await;
    });
}

#[test]
fn clients_behind_a_gateway_follow_their_route() {
    in_namespace(async || {
        run("ip neigh add 10.0.0.1 lladdr 02:00:00:00:00:11 dev eth0");
        run("ip neigh add 10.0.0.2 lladdr 02:00:00:00:00:22 dev eth0");
        run("ip route add default via 10.0.0.1");
        let network = Running::start(&[]).await;
        let id = network.id("198.51.100.7");
        assert_eq!(network.id("203.0.113.7"), id);
        network.expect(id, by_eth0(SERVER)).await;
        run("ip route replace default via 10.0.0.2");
        network.expect(id, by_eth0(OTHER)).await;
        run("ip route del default");
        network.expect(id, NextHop::default()).await;
        assert_eq!(network.toward("198.51.100.7"), Toward::Unreachable);
    });
}

#[test]
fn a_link_that_goes_down_and_up_again_is_followed() {
    in_namespace(async || {
        run("ip neigh add 10.0.0.11 lladdr 02:00:00:00:00:11 dev eth0");
        let network = Running::start(&["10.0.0.11"]).await;
        let id = network.id("10.0.0.11");
        network.expect(id, by_eth0(SERVER)).await;
        run("ip link set eth0 down");
        network.expect(id, NextHop::default()).await;
        let reason = network.handle.view().load().slot(id).unwrap().state.clone();
        assert_eq!(reason, State::Unreachable(Unreachable::NoRoute));
        run("ip link set eth0 up");
        run("ip neigh replace 10.0.0.11 lladdr 02:00:00:00:00:11 dev eth0");
        network.expect(id, by_eth0(SERVER)).await;
    });
}

#[test]
fn clients_on_the_link_are_added_when_a_worker_asks() {
    in_namespace(async || {
        run("ip neigh add 10.0.0.77 lladdr 02:00:00:00:00:22 dev eth0");
        let network = Running::start(&[]).await;
        assert_eq!(network.toward("10.0.0.77"), Toward::Unknown);
        network.clients.try_send(ip("10.0.0.77")).unwrap();
        let known = || matches!(network.toward("10.0.0.77"), Toward::Known(_)).then_some(());
        eventually("the client to be known", known).await;
        network.expect(network.id("10.0.0.77"), by_eth0(OTHER)).await;
    });
}

#[test]
fn servers_on_a_vlan_are_sent_tagged_frames_by_the_interface_below() {
    in_namespace(async || {
        if !has_vlans() {
            return;
        }
        run("ip link add link eth0 name eth0.100 type vlan id 100");
        run("ip link set eth0.100 address 02:00:00:00:01:64");
        run("ip link set eth0.100 up");
        run("ip addr add 10.2.0.9/24 dev eth0.100");
        run("ip neigh add 10.2.0.11 lladdr 02:00:00:00:00:11 dev eth0.100");
        let network = Running::start(&["10.2.0.11"]).await;
        let source = [2, 0, 0, 0, 1, 0x64];
        let tagged = NextHop { vlan: 100, ..NextHop::new(index("eth0"), SERVER, source) };
        network.expect(network.id("10.2.0.11"), tagged).await;
    });
}

#[test]
fn servers_and_interfaces_of_a_new_configuration_are_taken_up() {
    in_namespace(async || {
        run("ip link add eth1 address 02:00:00:00:01:03 type veth peer name peer1");
        run("ip addr add 10.1.0.9/24 dev eth1");
        run("ip link set eth1 up");
        run("ip neigh add 10.1.0.11 lladdr 02:00:00:00:00:11 dev eth1");
        let network = Running::start(&[]).await;
        network.handle.add_servers(vec![ip("10.1.0.11")]);
        let slot = || {
            let view = network.handle.view().load_full();
            view.slots().next().map(|(id, slot)| (id, slot.state.clone()))
        };
        let (id, state) = eventually("the server's slot", slot).await;
        let reason = Unreachable::NotOurInterface { interface: "eth1".into() };
        assert_eq!(state, State::Unreachable(reason));

        network.handle.set_interfaces(vec!["eth0".into(), "eth1".into()]);
        let source = [2, 0, 0, 0, 1, 3];
        let entry = NextHop::new(index("eth1"), SERVER, source);
        network.expect(id, entry).await;
    });
}

#[test]
fn an_entry_that_cannot_be_written_ends_it_with_the_reason() {
    in_namespace(async || {
        let settings = Settings { servers: vec![ip("10.0.0.11")], ..Settings::default() };
        let refuse = |_, _, _| Err(io::Error::from(io::ErrorKind::PermissionDenied));
        let started = Network::start(settings, mpsc::channel(1).1, refuse).await;
        let error = started.err().unwrap().to_string();
        assert!(error.contains("entry 1") && error.contains("next_hops"), "{error}");
    });
}
