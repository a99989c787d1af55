//! The harness itself, without a balancer: what it makes works, and is gone afterwards.

use std::{
    fs,
    net::{IpAddr, SocketAddr},
    path::Path,
    thread,
    time::Duration,
};

use lb_tests::{
    Dnsmasq, End, Iperf, Load, Namespace, Nginx, Plan, bridge, dig, http_get, require_root,
    throughput, veth, wait_until,
};

const SOON: Duration = Duration::from_secs(30);

/// A client and a server, joined directly.
fn pair() -> (Namespace, Namespace) {
    let [client, server] = ["client", "server"].map(|role| Namespace::new(role).unwrap());
    let near = ["192.0.2.2/24", "192.0.2.3/24", "2001:db8::2/64"];
    let a = End { namespace: &client, device: "eth0", addresses: &near };
    let far = ["192.0.2.1/24", "2001:db8::1/64"];
    let b = End { namespace: &server, device: "eth0", addresses: &far };
    veth(&a, &b, 2).unwrap();
    (client, server)
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn a_link_has_its_queues_and_its_offloads_off() {
    if !require_root() {
        return;
    }
    let (client, server) = pair();
    for host in [&client, &server] {
        let features = host.run(&["ethtool", "-k", "eth0"]).unwrap();
        for wanted in ["tx-checksumming: off", "generic-receive-offload: on"] {
            assert!(features.contains(wanted), "{wanted} is not among\n{features}");
        }
        let channels = host.run(&["ethtool", "-l", "eth0"]).unwrap();
        assert!(channels.contains("RX:\t\t2") && channels.contains("TX:\t\t2"), "{channels}");
    }
}

#[test]
fn a_web_server_says_who_it_is_and_whom_it_sees() {
    if !require_root() {
        return;
    }
    let (client, server) = pair();
    let nginx = Nginx::start(&server, "one", address("192.0.2.1:8080")).unwrap();
    fs::write(nginx.files().join("page"), "text").unwrap();
    for source in ["192.0.2.2", "192.0.2.3"] {
        let root = http_get(&client, "http://192.0.2.1:8080/", Some(ip(source))).unwrap();
        assert_eq!((root.server.as_str(), root.client.as_str()), ("one", source));
        assert_eq!(root.body, "one");
    }
    let page = http_get(&client, "http://192.0.2.1:8080/page", None).unwrap();
    assert_eq!(page.body, "text");
    http_get(&client, "http://192.0.2.1:8080/no-such-page", None).unwrap_err();
    drop(nginx);
    http_get(&client, "http://192.0.2.1:8080/", None).unwrap_err();
}

#[test]
fn ipv6_addresses_serve_at_once() {
    if !require_root() {
        return;
    }
    let (client, server) = pair();
    let _nginx = Nginx::start(&server, "six", address("[2001:db8::1]:80")).unwrap();
    let reply = http_get(&client, "http://[2001:db8::1]/", None).unwrap();
    assert_eq!((reply.server.as_str(), reply.client.as_str()), ("six", "2001:db8::2"));
}

#[test]
fn a_name_server_answers_its_names() {
    if !require_root() {
        return;
    }
    let (client, server) = pair();
    let at = address("192.0.2.1:53");
    let answers = [("whoami.test", ip("10.0.0.11")), ("other.test", ip("10.0.0.12"))];
    let _dnsmasq = Dnsmasq::start(&server, at, &answers).unwrap();
    let source = Some(ip("192.0.2.3"));
    assert_eq!(dig(&client, at, "whoami.test", source).unwrap(), ip("10.0.0.11"));
    assert_eq!(dig(&client, at, "other.test", None).unwrap(), ip("10.0.0.12"));
    dig(&client, at, "unknown.test", None).unwrap_err();
}

#[test]
fn a_load_asks_real_servers_by_both_protocols() {
    if !require_root() {
        return;
    }
    let (client, server) = pair();
    let (web, dns) = (address("192.0.2.1:80"), address("192.0.2.1:53"));
    let _nginx = Nginx::start(&server, "one", web).unwrap();
    let _dnsmasq = Dnsmasq::start(&server, dns, &[("whoami.test", ip("10.0.0.11"))]).unwrap();
    let plans = [(Plan::http(web), "one"), (Plan::dns(dns, "whoami.test"), "10.0.0.11")];
    for (plan, name) in plans {
        let load = Load::start(&client, plan);
        load.wait_answers(name, 200, SOON).unwrap();
        let report = load.finish().unwrap();
        assert_eq!(report.failures().count(), 0, "{report}");
    }
}

#[test]
fn hosts_on_a_bridge_reach_each_other_at_speed() {
    if !require_root() {
        return;
    }
    let [client, switch, server] =
        ["client", "switch", "server"].map(|x| Namespace::new(x).unwrap());
    for (host, port, own) in [(&client, "p0", "10.0.0.1/24"), (&server, "p1", "10.0.0.2/24")] {
        let near = End { namespace: host, device: "eth0", addresses: &[own] };
        let far = End { namespace: &switch, device: port, addresses: &[] };
        veth(&near, &far, 1).unwrap();
    }
    bridge(&switch, &["p0", "p1"]).unwrap();
    let at = address("10.0.0.2:5201");
    let _iperf = Iperf::start(&server, at).unwrap();
    let measured = throughput(&client, at, 1).unwrap();
    assert!(measured.bits_per_second > 1e6, "{measured:?}");
}

#[test]
fn a_panic_leaves_no_namespace_and_no_process() {
    if !require_root() {
        return;
    }
    let (sender, receiver) = std::sync::mpsc::channel();
    let panicking = thread::spawn(move || {
        let namespace = Namespace::new("doomed").unwrap();
        let process = namespace.spawn(&["sleep", "1000"]).unwrap();
        // Nobody holds this one: only the namespace's own end can reach it.
        let escaped = namespace.run(&["sh", "-c", "setsid sleep 1000 & echo $!"]).unwrap();
        let pids = [process.id(), escaped.trim().parse().unwrap()];
        sender.send((namespace.name().to_owned(), pids)).unwrap();
        panic!("as planned");
    });
    let (name, pids) = receiver.recv().unwrap();
    panicking.join().unwrap_err();
    assert!(!Path::new("/run/netns").join(name).exists());
    for pid in pids {
        let executable = format!("/proc/{pid}/exe");
        wait_until("the process's end", SOON, || Ok(fs::read_link(&executable).is_err())).unwrap();
    }
}

#[test]
fn a_failed_command_says_what_it_printed() {
    if !require_root() {
        return;
    }
    let host = Namespace::new("host").unwrap();
    let error = host.run(&["ls", "/no-such-folder"]).unwrap_err().to_string();
    assert!(error.contains("ls /no-such-folder") && error.contains("No such file"), "{error}");
}

#[test]
fn pins_are_seen_from_inside() {
    if !require_root() {
        return;
    }
    let host = Namespace::new("host").unwrap();
    let kind = host.run(&["stat", "--file-system", "--format=%T", "/sys/fs/bpf"]).unwrap();
    assert_eq!(kind.trim(), "bpf_fs");
}
