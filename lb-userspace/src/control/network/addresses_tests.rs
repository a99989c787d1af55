use super::*;
use crate::control::network::{
    testing::{Peer, eventually, in_namespace, interface, ip, net, run, topology, vlan},
    topology::Change,
};

/// `eth0` with 10.0.0.9/24, `eth1` with 10.1.0.9/24 and 10.1.0.50/32, `eth0.100` with
/// 10.2.0.9/24.
fn network() -> Topology {
    topology([
        Change::Interface(interface(2, "eth0")),
        Change::Interface(interface(3, "eth1")),
        Change::Interface(vlan(4, 100, 2)),
        Change::Address(2, net("10.0.0.9/24")),
        Change::Address(3, net("10.1.0.9/24")),
        Change::Address(3, net("10.1.0.50/32")),
        Change::Address(4, net("10.2.0.9/24")),
    ])
}

fn owned(interface: &str, address: &str) -> OwnedAddress {
    OwnedAddress { interface: interface.into(), address: ip(address) }
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().copied().map(String::from).collect()
}

fn plan(before: &[OwnedAddress], wanted: &[&str]) -> Plan {
    let before = Owned { addresses: before.to_vec() };
    let wanted: Vec<_> = wanted.iter().map(|address| ip(address)).collect();
    Plan::new(&network(), before, &wanted, &names(&["eth0", "eth1"])).unwrap()
}

#[test]
fn an_address_goes_where_its_subnet_is_and_else_to_the_first_interface() {
    let wanted = ["10.0.0.10", "10.1.0.10", "10.2.0.10", "192.0.2.10", "10.1.0.10"];
    let add = vec![
        owned("eth0", "10.0.0.10"),
        owned("eth1", "10.1.0.10"),
        owned("eth0.100", "10.2.0.10"),
        owned("eth0", "192.0.2.10"),
    ];
    assert_eq!(plan(&[], &wanted), Plan { add, ..Plan::default() });
}

#[test]
fn an_address_that_is_there_is_left_alone() {
    assert_eq!(plan(&[], &["10.0.0.9", "10.1.0.50"]), Plan::default());
    // As a state file might say that was written just before the operator was faster.
    let elsewhere = [owned("eth0", "10.1.0.50"), owned("eth0", "10.0.0.9")];
    assert_eq!(plan(&elsewhere, &["10.1.0.50", "10.0.0.9"]), Plan::default());
    assert_eq!(plan(&elsewhere, &[]), Plan::default());
}

#[test]
fn what_was_added_is_kept_or_removed_or_added_again() {
    let before = [owned("eth1", "10.1.0.50"), owned("eth0", "10.0.0.10")];
    let kept = vec![before[0].clone()];
    assert_eq!(plan(&before, &["10.1.0.50"]), Plan { keep: kept.clone(), ..Plan::default() });
    assert_eq!(plan(&before, &[]), Plan { remove: kept, ..Plan::default() });
    let add = vec![before[1].clone()];
    assert_eq!(plan(&before[1..], &["10.0.0.10"]), Plan { add, ..Plan::default() });
}

#[test]
fn a_missing_interface_is_named() {
    let error = Plan::new(&network(), Owned::default(), &[], &names(&["eth7"])).unwrap_err();
    assert!(error.to_string().contains("`eth7`"), "{error}");
}

#[test]
fn a_state_file_that_is_none_is_named() {
    let folder = Folder::new("broken");
    fs::write(folder.state(), "{").unwrap();
    let error = read(&folder.state()).unwrap_err();
    assert!(error.to_string().contains("addresses.json"), "{error}");
}

#[test]
fn addresses_come_change_and_go_with_the_configuration() {
    in_namespace(async || {
        let folder = Folder::new("addresses");
        let state = folder.state();
        let interfaces = names(&["eth0"]);
        run("ip addr add 10.0.0.20/24 dev eth0");
        let initial = addresses().await;

        let first = [ip("10.0.0.10"), ip("10.0.0.20"), ip("2001:db8::10")];
        let added = ensure(&state, &first, &interfaces).await.unwrap();
        let expected = vec![owned("eth0", "10.0.0.10"), owned("eth0", "2001:db8::10")];
        assert_eq!(added, Owned { addresses: expected });
        assert_eq!(read(&state).unwrap(), added);
        let with = |more: &[&str]| {
            let mut all = initial.clone();
            all.extend(more.iter().map(|address| net(address)));
            all.sort();
            all
        };
        assert_eq!(addresses().await, with(&["10.0.0.10/32", "2001:db8::10/128"]));
        assert_eq!(ensure(&state, &first, &interfaces).await.unwrap(), added);

        let second = [ip("10.0.0.30"), ip("10.0.0.10")];
        let changed = ensure(&state, &second, &interfaces).await.unwrap();
        let expected = vec![owned("eth0", "10.0.0.10"), owned("eth0", "10.0.0.30")];
        assert_eq!(changed, Owned { addresses: expected });
        assert_eq!(addresses().await, with(&["10.0.0.10/32", "10.0.0.30/32"]));

        // One that the operator removed does not keep the others from going.
        run("ip addr del 10.0.0.10/32 dev eth0");
        assert_eq!(release(&state).await.unwrap(), changed);
        assert_eq!(addresses().await, initial);
        assert!(!state.exists());
        assert_eq!(release(&state).await.unwrap(), Owned::default());
    });
}

#[test]
fn an_added_address_is_announced_twice() {
    in_namespace(async || {
        let peer = Peer::listen();
        let folder = Folder::new("announced");
        let address = "10.0.0.10".parse().unwrap();
        ensure(&folder.state(), &[IpAddr::V4(address)], &names(&["eth0"])).await.unwrap();
        for time in ["first", "second"] {
            let what = format!("the {time} announcement");
            let request =
                eventually(&what, || peer.request().filter(|request| request.target == address))
                    .await;
            assert_eq!(request.sender, address);
            assert_eq!(request.sender_mac, [2, 0, 0, 0, 1, 2]);
        }
    });
}

async fn addresses() -> Vec<IpNet> {
    let topology = Kernel::connect().unwrap().topology().await.unwrap();
    let eth0 = topology.interface_named("eth0").unwrap().index;
    let addresses = topology.addresses().filter(|(index, _)| *index == eth0);
    // Link-local ones come by themselves.
    let link_local = net("fe80::/10");
    let mut addresses: Vec<_> =
        addresses.map(|(_, address)| address).filter(|own| !link_local.contains(own)).collect();
    addresses.sort();
    addresses
}

/// A folder that goes with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("lb-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    fn state(&self) -> PathBuf {
        self.0.join("test.addresses.json")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
