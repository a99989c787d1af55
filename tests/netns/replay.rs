//! `lb replay` of captures that tcpdump takes of real traffic.

use std::{collections::BTreeMap, net::IpAddr, path::Path};

use lb_tests::{Balancer, Dnsmasq, Namespace, Process, dig, http_get, require_root, wait_until};
use rustix::process::Signal;
use serde_json::Value;

use crate::site::{SOON, Site, WEB, client, configuration, pool, wait_logged};

/// DNS by name, and web servers by the hash of the client's address.
fn services() -> String {
    let dns = WEB
        .replace("port = 80", "port = 53")
        .replace("\"tcp\"", "\"udp\"")
        .replace("\"web\"", "\"dns\"")
        .replace("pool = \"dns\"", "pool = \"public\"");
    let web = pool("web", 1..=3, 80) + "algorithm = \"consistent-hash\"\n";
    let pools = [pool("internal", [1], 53), pool("public", [2], 53), web].concat();
    format!(
        "{dns}datascripts = [\"by-name\"]
idle_timeout = \"200ms\"
{WEB}{pools}[[datascript]]
name = \"by-name\"
pools = [\"internal\", \"public\"]
l4_request = \"by-name.lua\"
l4_response = \"answer.lua\"
"
    )
}

const SCRIPTS: [(&str, &str); 2] = [
    ("by-name.lua", include_str!("../../scripts/datascripts/dns-by-name.lua")),
    ("answer.lua", "avi.vs.log(' ', #avi.l4.read(), ' bytes of ', avi.pool.server_ip())"),
];

/// Captures what a host sends and receives on one of its devices.
fn tcpdump(host: &Namespace, device: &str, file: &Path, options: &[&str]) -> Process {
    let file = file.to_str().unwrap();
    let words = ["tcpdump", "-i", device, "-n", "-U", "--immediate-mode", "-w", file];
    let mut capturing = host.spawn(&[&words[..], options].concat()).unwrap();
    wait_until("tcpdump's socket", SOON, || {
        let status = capturing.status()?;
        assert!(status.is_none(), "tcpdump ended: {}", capturing.stderr());
        Ok(capturing.stderr().contains("listening on"))
    })
    .unwrap();
    capturing
}

/// Ends a capture once so many packets are in it.
fn finish(mut capturing: Process, host: &Namespace, file: &Path, packets: usize) {
    let read = || host.run(&["tcpdump", "-n", "-r", file.to_str().unwrap()]);
    let enough = || Ok(read().is_ok_and(|text| text.lines().count() >= packets));
    capturing.wait_until("the packets in the capture", SOON, enough).unwrap();
    capturing.signal(Signal::INT).unwrap();
    assert!(capturing.wait(SOON).unwrap().success());
}

/// What `lb replay --json` prints.
fn replay(balancer: &Balancer, capture: &Path, more: &[&str]) -> Vec<Value> {
    let arguments = [&["replay", "--json", capture.to_str().unwrap()], more].concat();
    let printed = balancer.lb(&arguments).unwrap();
    assert_eq!(printed, balancer.lb(&arguments).unwrap());
    printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// What was decided about each flow, by its ends.
fn decisions(flows: &[Value], log: &str) -> BTreeMap<String, [Value; 8]> {
    let decision = |flow: &Value| {
        let key = format!("{} {}", flow["protocol"], flow["client"]);
        let fields = ["virtual_service", "pool", "server", "decided_by", "script", "line"];
        let [a, b, c, d, e, f] = fields.map(|field| flow[field].clone());
        (key, [a, b, c, d, e, f, flow["reply_packets"].clone(), flow[log].clone()])
    };
    flows.iter().map(decision).collect()
}

#[test]
fn a_capture_of_a_running_balancer_is_decided_alike() {
    if !require_root() {
        return;
    }
    let site = Site::new();
    let _web = site.web_servers(3);
    let _names = [1, 2].map(|number: u8| {
        let answer: IpAddr = [198, 51, 100, number].into();
        let answers = [("www.corp.test", answer), ("public.test", answer)];
        Dnsmasq::start(&site.servers, ([10, 0, 0, 10 + number], 53).into(), &answers).unwrap()
    });
    let balancer = site.balance(&services(), &SCRIPTS);
    let capture = balancer.configuration().beside("client.pcap");
    let capturing = tcpdump(&site.client, "eth0", &capture, &[]);
    for host in 2..8 {
        http_get(&site.client, "http://192.0.2.10/", Some(client(host))).unwrap();
        let name = ["www.corp.test", "public.test"][usize::from(host % 2)];
        dig(&site.client, "192.0.2.10:53".parse().unwrap(), name, Some(client(host))).unwrap();
    }
    let logged = wait_logged(&balancer, 12);
    finish(capturing, &site.client, &capture, 12 + 6 * 8);

    let written = balancer.configuration().beside("written.pcap");
    let flows = replay(&balancer, &capture, &["--write", written.to_str().unwrap()]);
    assert_eq!(decisions(&flows, "log"), decisions(&logged, "ds_log"));
    assert!(flows.iter().all(|flow| flow["decision"] == "server"), "{flows:#?}");
    let shown = balancer.run(&["tcpdump", "-n", "-vv", "-r", written.to_str().unwrap()]).unwrap();
    assert!(shown.contains("10.0.0.11.80") && shown.contains("www.corp.test"), "{shown}");
    assert!(shown.contains("10.0.0.12.53") && shown.contains("[udp sum ok]"), "{shown}");
    // tcpdump computes every checksum anew.
    let wrong = ["bad udp cksum", "incorrect", "bad cksum"];
    assert!(wrong.iter().all(|wrong| !shown.contains(wrong)), "{shown}");
}

#[test]
fn a_capture_of_all_devices_is_understood_and_one_that_is_cut_refused() {
    if !require_root() {
        return;
    }
    let site = Site::new();
    let answer: IpAddr = [198, 51, 100, 1].into();
    let answers = [("www.corp.test", answer)];
    let _names = Dnsmasq::start(&site.servers, ([10, 0, 0, 11], 53).into(), &answers).unwrap();
    let balancer = site.balance(&services(), &SCRIPTS);
    let ask = || {
        let vip = "192.0.2.10:53".parse().unwrap();
        dig(&site.client, vip, "www.corp.test", Some(client(2))).unwrap();
    };
    let beside = |name: &str| balancer.configuration().beside(name);
    // Linux cooked: `-i any` is how most captures are taken.
    for (name, options) in
        [("sll2.pcap", &["-y", "LINUX_SLL2"]), ("sll.pcap", &["-y", "LINUX_SLL"])]
    {
        let capture = beside(name);
        let capturing = tcpdump(&site.client, "any", &capture, &[options, &["udp"][..]].concat());
        ask();
        finish(capturing, &site.client, &capture, 2);
        let flows = replay(&balancer, &capture, &[]);
        let [flow] = &flows[..] else { panic!("{flows:#?}") };
        assert_eq!((&flow["pool"], &flow["reply_packets"]), (&"internal".into(), &1.into()));
    }
    let capture = beside("cut.pcap");
    let capturing = tcpdump(&site.client, "eth0", &capture, &["-s", "60", "udp"]);
    ask();
    finish(capturing, &site.client, &capture, 2);
    let file = capture.to_str().unwrap();
    let refused = balancer.try_lb(&["replay", file]).unwrap();
    assert_eq!((refused.status.code(), refused.stdout.as_str()), (Some(1), ""));
    let expected = "packet 1: only ";
    assert!(refused.stderr.contains(expected), "{}", refused.stderr);
    assert!(refused.stderr.contains("a script may read more of it"), "{}", refused.stderr);

    let whole = std::fs::read(beside("sll.pcap")).unwrap();
    std::fs::write(&capture, &whole[..whole.len() - 1]).unwrap();
    let refused = balancer.try_lb(&["replay", file]).unwrap();
    assert_eq!((refused.status.code(), refused.stdout.as_str()), (Some(1), ""));
    assert!(refused.stderr.contains("packet 2, at byte"), "{}", refused.stderr);

    let wrong = configuration(&services().replace("pool = \"public\"", "pool = \"none\""));
    balancer.configuration().replace(&wrong).unwrap();
    assert_eq!(balancer.try_lb(&["replay", file]).unwrap().status.code(), Some(2));
}
