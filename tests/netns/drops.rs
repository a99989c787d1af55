//! Every packet that is lost on the way to a worker is counted.

use std::net::{Ipv4Addr, UdpSocket};

use lb_tests::{Balancer, require_root, wait_until};
use rustix::process::Signal;
use serde_json::Value;

use crate::site::{SOON, Site, VIP, WEB, configuration, event, pool};

/// More first packets than a socket has room for, and fewer flows than the table has.
const FLOOD: u16 = 6000;

/// UDP whose flows outlast any test.
fn udp() -> String {
    let timeouts = "udp_one_way_timeout = \"1h\"\nhalf_open_share = 100\n";
    let service = WEB.replace("\"tcp\"", "\"udp\"");
    format!("{timeouts}{service}idle_timeout = \"1h\"\n{}", pool("web", [1], 80))
}

/// Sends the first packet of so many flows.
fn send_first_packets(site: &Site, ports: impl IntoIterator<Item = u16> + Send) {
    let send = |port| UdpSocket::bind((Ipv4Addr::new(192, 0, 2, 2), port))?.send_to(b"x", VIP);
    let sent = site.client.enter(|| ports.into_iter().try_for_each(|port| send(port).map(drop)));
    sent.unwrap().unwrap();
}

fn flows(status: &Value) -> u64 {
    status["flows"]["now"].as_u64().unwrap()
}

#[test]
fn first_packets_that_a_stopped_worker_had_no_room_for_are_counted_each() {
    if !require_root() {
        return;
    }
    let site = Site::new();
    let _server = site.servers.enter(|| UdpSocket::bind("10.0.0.11:80")).unwrap().unwrap();
    let mut balancer = site.balance(&udp(), &[]);
    // From now on all that resolves addresses has been said.
    send_first_packets(&site, [1024]);
    wait_until("the first flow", SOON, || Ok(flows(&balancer.status_json()?) == 1)).unwrap();
    assert_eq!(event(&balancer, "drop_receive_full"), 0);

    balancer.process().signal(Signal::STOP).unwrap();
    send_first_packets(&site, 2000..2000 + FLOOD);
    balancer.process().signal(Signal::CONT).unwrap();

    let mut status = Value::Null;
    let counted = |status: &Value, name: &str| status["events"][name].as_u64().unwrap();
    let accounted = wait_until("an account of every packet", SOON, || {
        status = balancer.status_json()?;
        let decided = flows(&status);
        let lost = counted(&status, "drop_receive_full");
        Ok(decided > 1 && counted(&status, "punt_first_packet") == decided + lost)
    });
    assert!(accounted.is_ok(), "{status:#}");
    let lost = counted(&status, "drop_receive_full");
    assert!(lost > 0, "{status:#}");
    assert_eq!(counted(&status, "drop_receive_too_long"), 0, "{status:#}");

    let shown = balancer.lb(&["status"]).unwrap();
    let wanted = ["drop_receive_full", &lost.to_string()];
    assert!(shown.lines().any(|line| line.split_whitespace().eq(wanted)), "{shown}");
    let socket = format!("/run/lb/{}.sock", balancer.instance());
    let get = ["curl", "--silent", "--fail", "--unix-socket", &socket, "http://lb/metrics"];
    let metrics = balancer.run(&get).unwrap();
    let packets = format!("lb_packets_total{{event=\"drop_receive_full\"}} {lost}\n");
    for line in [packets.as_str(), "lb_lost_log_records_total 0\n"] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
}

#[test]
fn records_that_the_log_cannot_take_are_counted_too() {
    if !require_root() {
        return;
    }
    let site = Site::new();
    let _server = site.servers.enter(|| UdpSocket::bind("10.0.0.11:80")).unwrap().unwrap();
    let short = udp().replace("\"1h\"", "\"100ms\"");
    let full = configuration(&short).replace("connections.jsonl", "/dev/full");
    let balancer = Balancer::start(&site.balancer, &full, &[]).unwrap();
    let records = 100u16;
    send_first_packets(&site, 2000..2000 + records);
    let mut status = Value::Null;
    wait_until("all records", SOON, || {
        status = balancer.status_json()?;
        let of = |key: &str| status[key].as_u64().unwrap();
        Ok(of("logged_flows") + of("lost_log_records") == u64::from(records))
    })
    .unwrap();
    let lost = status["lost_log_records"].as_u64().unwrap();
    assert!(lost > 0, "{status:#}");
    let shown = balancer.lb(&["status"]).unwrap();
    let line = format!("lost           {lost} records of the connection log");
    assert!(shown.contains(&line), "{shown}");
}
