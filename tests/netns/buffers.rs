//! Socket buffers: veths as they are by default, whose checksums nobody has computed and whose segments
//! nobody has cut.

use std::{
    io::{Read, Write},
    net::{SocketAddr, UdpSocket},
    time::Duration,
};

use lb_tests::{Balancer, Configuration, Namespace, require_root};

use crate::site::{SOON, Site, VIP, WEB, configuration, event, events, pool, pseudo_random};

/// A site whose hosts leave to their veths all that these offer.
fn site() -> Site {
    let site = Site::new();
    let ends = [
        (&site.client, "eth0"),
        (&site.balancer, "clients"),
        (&site.balancer, "servers"),
        (&site.servers, "eth0"),
    ];
    for (host, device) in ends {
        host.run(&["ethtool", "-K", device, "tx", "on", "tso", "on", "gso", "on", "gro", "off"])
            .unwrap();
    }
    site
}

/// The balancer, as it attaches by itself.
fn balance(site: &Site, rest: &str, scripts: &[(&str, &str)]) -> Balancer {
    let text = configuration(rest).replace("attach_mode = \"native\"\n", "");
    let balancer = Balancer::start(&site.balancer, &text, scripts).unwrap();
    let status = balancer.status_json().unwrap();
    assert_eq!(status["interfaces"][0]["mode"], "tc", "{status:#}");
    balancer
}

fn web(more: &str) -> String {
    format!("{WEB}{more}{}", pool("web", [1], 80))
}

/// More of the service: it is inspected, by a script that waits for payload.
const INSPECTED: &str = r#"tcp_mode = "inspect"
datascripts = ["waits"]
[[datascript]]
name = "waits"
pools = ["web"]
l4_request = "waits.lua"
"#;

/// The interfaces of a host that are there for a detour.
fn detours(host: &Namespace) -> Vec<String> {
    let links = host.run(&["ip", "-brief", "link"]).unwrap();
    let names = links.lines().filter_map(|line| line.split(['@', ' ']).next());
    names.filter(|name| name.starts_with("fp")).map(str::to_owned).collect()
}

#[test]
fn bytes_arrive_as_they_were_with_all_offloads_on() {
    if !require_root() {
        return;
    }
    let site = site();
    let servers = site.web_servers(1);
    let content = pseudo_random(16 << 20);
    std::fs::write(servers[0].files().join("file"), &content).unwrap();
    let balancer = balance(&site, &web(""), &[]);
    let mut got = Vec::new();
    site.begin_download("file").read_to_end(&mut got).unwrap();
    assert!(got == content);
    // What is forwarded is not cut: far fewer packets than of 1,500 bytes went.
    let flows = balancer.flows_json().unwrap();
    let packets = flows[0]["reply_packets"].as_u64().unwrap();
    assert!(packets < (content.len() / 1448 / 4) as u64, "{flows:#?}");
    assert_eq!(event(&balancer, "punt_first_packet"), 1);
}

/// The client's request is longer than a segment, and leaves it as one buffer before there is a flow for
/// it.
#[test]
fn an_inspected_connection_takes_the_detour_in_segments() {
    if !require_root() {
        return;
    }
    let site = site();
    let _servers = site.web_servers(1);
    let balancer = balance(&site, &web(INSPECTED), &[("waits.lua", "avi.l4.collect(4)")]);
    let mut stream = site.connect(VIP).unwrap();
    let long = "x".repeat(6000);
    write!(stream, "GET / HTTP/1.0\r\nX-Long: {long}\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(event(&balancer, "answer_cookie"), 1);
    // A socket of a worker takes no frame as long as the request.
    let dropped: Vec<_> = events(&balancer, "drop_").into_iter().filter(|(_, n)| *n > 0).collect();
    assert_eq!(dropped, []);
}

#[test]
fn datagrams_whose_checksum_is_not_computed_go_through_and_back() {
    if !require_root() {
        return;
    }
    let site = site();
    let service = WEB.replace("\"tcp\"", "\"udp\"");
    let _balancer = balance(&site, &format!("{service}{}", pool("web", [1], 80)), &[]);
    let address = SocketAddr::from(([10, 0, 0, 11], 80));
    let server = site.servers.enter(|| UdpSocket::bind(address)).unwrap().unwrap();
    let client = site.client.enter(|| UdpSocket::bind("192.0.2.2:0")).unwrap().unwrap();
    for socket in [&server, &client] {
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    }
    client.connect(VIP).unwrap();
    let mut buffer = [0; 2048];
    // The first is punted, the others are not.
    for question in [&b"first"[..], b"second", &[7; 1400]] {
        client.send(question).unwrap();
        let (length, from) = server.recv_from(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], question);
        server.send_to(question, from).unwrap();
        assert_eq!(client.recv(&mut buffer).unwrap(), question.len());
    }
}

#[test]
fn a_restart_takes_links_and_detours_over_and_a_detach_leaves_none() {
    if !require_root() {
        return;
    }
    let site = site();
    let servers = site.web_servers(1);
    let content = pseudo_random(4 << 20);
    std::fs::write(servers[0].files().join("file"), &content).unwrap();
    let mut balancer = balance(&site, &web(""), &[]);
    let made = detours(&site.balancer);
    assert_eq!(made.len(), 4, "{made:?}");
    let mut stream = site.begin_download("file");
    let mut got = vec![0; 1 << 20];
    stream.read_exact(&mut got).unwrap();

    balancer.kill_9();
    balancer.start_again().unwrap();
    assert_eq!(balancer.status_json().unwrap()["adopted_flows"], 1);
    assert_eq!(detours(&site.balancer), made);
    stream.read_to_end(&mut got).unwrap();
    assert!(got == content);
    assert_eq!(site.ask(), "1");

    balancer.lb(&["detach"]).unwrap();
    assert!(balancer.process().wait(SOON).unwrap().success());
    assert_eq!(detours(&site.balancer), Vec::<String>::new());
    assert!(!balancer.pins().exists());
    // Nobody forwards what comes now.
    site.connect(VIP).unwrap_err();
}

/// Sets the MTU of the veth that servers are reached by.
fn set_mtu(site: &Site, mtu: u32) {
    site.balancer.run(&["ip", "link", "set", "servers", "mtu", &mtu.to_string()]).unwrap();
}

/// The most that a detour carries with its two tags, where a page has 4,096 bytes.
const MOST: u32 = 3498;

#[test]
fn an_mtu_that_no_detour_carries_gets_generic_xdp_if_no_mode_is_asked_for() {
    if !require_root() {
        return;
    }
    let site = site();
    let _servers = site.web_servers(1);
    for (mtu, mode) in [(MOST, "tc"), (MOST + 1, "generic")] {
        set_mtu(&site, mtu);
        let mut balancer = balance(&site, &web(""), &[]);
        let status = balancer.status_json().unwrap();
        assert_eq!(status["interfaces"][1]["mode"], mode, "{status:#}");
        assert_eq!(site.ask(), "1");
        balancer.lb(&["detach"]).unwrap();
        assert!(balancer.process().wait(SOON).unwrap().success());
        assert_eq!(detours(&site.balancer), Vec::<String>::new());
    }
}

#[test]
fn an_mtu_that_is_too_large_for_the_mode_that_is_asked_for_is_refused() {
    if !require_root() {
        return;
    }
    let site = site();
    set_mtu(&site, MOST + 1);
    // Native XDP gets frames as long as the far end sends them.
    site.servers.run(&["ip", "link", "set", "eth0", "mtu", "9000"]).unwrap();
    for mode in ["tc", "native"] {
        let text = configuration(&web("")).replace("\"native\"", &format!("\"{mode}\""));
        let configuration = Configuration::new(&text, &[]).unwrap();
        let refused = configuration.try_lb(&site.balancer, &["run", "--config", "{file}"]).unwrap();
        assert_eq!(refused.status.code(), Some(1), "{}", refused.stderr);
        let place = format!("cannot attach to servers in {mode} mode: frames are too long");
        for words in [&*place, "`ip link set dev servers mtu 3498`"] {
            assert!(refused.stderr.contains(words), "{words} is not in\n{}", refused.stderr);
        }
        assert_eq!(detours(&site.balancer), Vec::<String>::new());
        assert!(!configuration.pins().exists());
    }
}

#[test]
fn a_restart_says_of_an_mtu_that_has_grown_too_large() {
    if !require_root() {
        return;
    }
    let site = site();
    let mut balancer = balance(&site, &web(""), &[]);
    balancer.kill_9();
    set_mtu(&site, MOST + 1);
    let said = format!("{:#}", balancer.start_again().unwrap_err());
    assert!(
        said.contains("cannot make the detour of servers, whose MTU may be 3498 at most"),
        "{said}"
    );
    set_mtu(&site, MOST);
    balancer.start_again().unwrap();
}

#[test]
fn a_second_instance_on_the_same_veths_is_refused_and_leaves_the_detours_of_the_first() {
    if !require_root() {
        return;
    }
    let site = site();
    let _servers = site.web_servers(1);
    let _first = balance(&site, &web(""), &[]);
    let made = detours(&site.balancer);
    let text = configuration(&web("").replace("192.0.2.10", "192.0.2.33"));
    for mode in ["tc", "auto"] {
        let text = text.replace("\"native\"", &format!("\"{mode}\""));
        let second = Configuration::new(&text, &[]).unwrap();
        let refused = second.try_lb(&site.balancer, &["run", "--config", "{file}"]).unwrap();
        assert_eq!(refused.status.code(), Some(1), "{}", refused.stderr);
        assert_eq!(detours(&site.balancer), made);
    }
    // A new connection takes the first's detour.
    assert_eq!(site.ask(), "1");
}

/// The same configuration works on a kernel that has no tcx.
#[test]
#[ignore = "needs a kernel without tcx: cargo xtask test --machine"]
fn without_tcx_a_veth_gets_generic_xdp_and_no_detour() {
    if !require_root() {
        return;
    }
    let site = Site::new();
    let _servers = site.web_servers(1);
    let text = configuration(&web("")).replace("attach_mode = \"native\"\n", "");
    let balancer = Balancer::start(&site.balancer, &text, &[]).unwrap();
    let status = balancer.status_json().unwrap();
    assert_eq!(status["interfaces"][0]["mode"], "generic", "{status:#}");
    assert_eq!(detours(&site.balancer), Vec::<String>::new());
    assert_eq!(site.ask(), "1");
}
