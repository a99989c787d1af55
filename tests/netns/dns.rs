//! DNS through the balancer: UDP services, and scripts that read a datagram.

use std::net::IpAddr;

use lb_tests::{Dnsmasq, dig, require_root};

use crate::site::{SNAT, Site, WEB, client, event, pool, wait_logged};

const AT: &str = "192.0.2.10:53";

/// Two name servers that disagree, so that an answer tells who gave it.
fn name_servers(site: &Site) -> [Dnsmasq; 2] {
    [1, 2].map(|number: u8| {
        let answer: IpAddr = [198, 51, 100, number].into();
        let answers = [("corp.test", answer), ("public.test", answer)];
        let address = ([10, 0, 0, 10 + number], 53).into();
        Dnsmasq::start(&site.servers, address, &answers).unwrap()
    })
}

/// A virtual service of this protocol at port 53 over the pool `web`, and what else belongs to it.
pub fn service(protocol: &str, rest: &str) -> String {
    let service = WEB.replace("port = 80", "port = 53").replace("\"tcp\"", protocol);
    service.replace("name = \"web\"", &format!("name = {protocol}")) + rest
}

/// Which of the name servers answers.
fn ask(site: &Site, name: &str, host: u8) -> u8 {
    let answer = dig(&site.client, AT.parse().unwrap(), name, Some(client(host))).unwrap();
    let IpAddr::V4(answer) = answer else { panic!("{answer} is no IPv4 address") };
    answer.octets()[3]
}

#[test]
fn queries_over_udp_and_tcp_are_balanced() {
    if !require_root() {
        return;
    }
    let site = Site::new();
    let _servers = name_servers(&site);
    let short = "idle_timeout = \"200ms\"\n";
    let services = [service("\"udp\"", short), service("\"tcp\"", ""), pool("web", 1..=2, 53)];
    let balancer = site.balance(&services.concat(), &[]);
    assert_eq!([2, 3, 4, 5].map(|host| ask(&site, "corp.test", host)), [1, 2, 1, 2]);
    let records = wait_logged(&balancer, 4);
    for record in &records {
        assert_eq!(record["reason"], "idle", "{record:#}");
        assert_eq!((&record["packets"], &record["reply_packets"]), (&1.into(), &1.into()));
        assert!(record["snat"].as_str().unwrap().starts_with(SNAT), "{record:#}");
    }
    let words = ["dig", "@192.0.2.10", "corp.test", "A", "+short", "+tcp", "+tries=1"];
    let answers = [(); 2].map(|()| site.client.run(&words).unwrap());
    assert_ne!(answers[0], answers[1]);
}

#[test]
fn a_script_chooses_by_the_name_that_is_asked_for() {
    if !require_root() {
        return;
    }
    let site = Site::new();
    let _servers = name_servers(&site);
    let script = include_str!("../../scripts/datascripts/dns-by-name.lua");
    let rest = "datascripts = [\"by-name\"]
idle_timeout = \"200ms\"
[[datascript]]
name = \"by-name\"
pools = [\"internal\", \"public\"]
l4_request = \"by-name.lua\"
";
    let rest = service("\"udp\"", rest).replace("pool = \"web\"", "pool = \"public\"");
    let rest = [rest, pool("internal", [1], 53), pool("public", [2], 53)].concat();
    let balancer = site.balance(&rest, &[("by-name.lua", script)]);
    let names = ["www.corp.test", "public.test", "CORP.test", "notcorp.public.test"];
    assert_eq!(names.map(|name| ask(&site, name, 2)), [1, 2, 1, 2]);
    let records = wait_logged(&balancer, 4);
    let mut logged: Vec<_> = records.iter().map(|r| r["ds_log"].as_str().unwrap()).collect();
    logged.sort_unstable();
    assert_eq!(logged, ["corp.test", "notcorp.public.test", "public.test", "www.corp.test"]);
    assert!(records.iter().all(|record| record["decided_by"] == "script_pool"));
    assert!(records.iter().all(|record| record["script"].as_str().unwrap().ends_with(".lua")));

    let socket = site.client.enter(|| std::net::UdpSocket::bind("192.0.2.2:0")).unwrap().unwrap();
    socket.send_to(b"no query", AT).unwrap();
    let record = wait_logged(&balancer, 5).remove(4);
    assert_eq!(record["ds_log"], "not a DNS query", "{record:#}");
    assert_eq!(event(&balancer, "drop_script_closed"), 1);
}
