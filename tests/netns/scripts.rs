//! Scripts decide, fail and close, with real flows to feel it.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::ErrorKind,
    net::UdpSocket,
};

use lb_tests::{Balancer, http_get, require_root, wait_until};
use serde_json::Value;

use crate::site::{SOON, Site, URL, VIP, WEB, client, event, pool, wait_logged};

/// The service [`VIP`] with a script, and beside it one without at port 81 of the same servers.
fn scripted(event: &str, rest: &str) -> String {
    let plain = WEB.replace("port = 80", "port = 81").replace("name = \"web\"", "name = \"plain\"");
    format!(
        "{WEB}datascripts = [\"set\"]
{plain}
[[datascript]]
name = \"set\"
pools = [\"web\"]
{event} = \"set.lua\"
{rest}
{}",
        pool("web", 1..=3, 80)
    )
}

fn with_script(site: &Site, rest: &str, script: &str) -> Balancer {
    site.balance(&scripted("l4_request", rest), &[("set.lua", script)])
}

/// The connection to [`VIP`] is reset before it stands.
fn assert_reset(site: &Site) {
    let error = site.connect(VIP).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{error}");
}

fn assert_plain_service_goes_on(site: &Site) {
    http_get(&site.client, "http://192.0.2.10:81/", None).unwrap();
}

fn assert_script_failed(record: &Value, line: u32, message: &str) {
    let significance = record["significance"].as_array().unwrap();
    assert!(significance.contains(&"ADF_DATASCRIPT_EXECUTION_FAILED".into()), "{record:#}");
    let error = &record["error"];
    assert!(error["script"].as_str().unwrap().ends_with("set.lua"), "{record:#}");
    assert!(error["message"].as_str().unwrap().contains(message), "{record:#}");
    assert_eq!(error["line"], line, "{record:#}");
}

#[test]
fn a_failed_script_resets_the_connection_and_tells_the_log() {
    if !require_root() {
        return;
    }
    let site = Site::new();
    let _servers = site.web_servers(3);
    let balancer = with_script(&site, "", "avi.vs.log('so far')\nlocal x = nil + 1");
    assert_reset(&site);
    let record = wait_logged(&balancer, 1).remove(0);
    assert_script_failed(&record, 2, "attempt to perform arithmetic");
    assert_eq!(record["error"]["event"], "L4_REQUEST", "{record:#}");
    assert_eq!(record["reason"], "script_error", "{record:#}");
    assert_eq!(record["client"].as_str().unwrap().split(':').next(), Some("192.0.2.2"));
    assert_eq!(event(&balancer, "drop_script_error"), 1);
    assert_plain_service_goes_on(&site);
}

#[test]
fn a_failed_script_leaves_the_flow_to_the_services_pool_where_it_may() {
    if !require_root() {
        return;
    }
    let site = Site::new();
    let _servers = site.web_servers(3);
    let balancer = with_script(&site, "on_error = \"default-pool\"", "error('boom')");
    assert_eq!([site.ask(), site.ask()], ["1", "2"]);
    for record in wait_logged(&balancer, 2) {
        assert_script_failed(&record, 1, "boom");
        assert_eq!(
            (&record["decided_by"], &record["reason"]),
            (&"on_error".into(), &"finished".into())
        );
    }
}

#[test]
fn a_script_that_never_ends_fails_its_flow_alone() {
    if !require_root() {
        return;
    }
    let site = Site::new();
    let _servers = site.web_servers(3);
    let balancer = with_script(&site, "", "while true do end");
    assert_reset(&site);
    assert_plain_service_goes_on(&site);
    assert_script_failed(&wait_logged(&balancer, 1)[0], 1, "instruction");
}

#[test]
fn a_script_that_eats_memory_fails_its_flow_alone() {
    if !require_root() {
        return;
    }
    let site = Site::new();
    let _servers = site.web_servers(3);
    let hog = "local s = 'x'\nwhile true do\ns = s .. s\nend";
    let balancer = with_script(&site, "", hog);
    assert_reset(&site);
    assert_reset(&site);
    assert_plain_service_goes_on(&site);
    for record in wait_logged(&balancer, 2).iter().filter(|r| r["virtual_service"] == "web") {
        // Lua says no line when it has no memory left to say it with.
        assert_script_failed(record, 0, "not enough memory");
    }
}

#[test]
fn a_failed_response_script_resets_both_sides() {
    if !require_root() {
        return;
    }
    let site = Site::new();
    let _servers = site.web_servers(3);
    let script = [("set.lua", "avi.vs.log(avi.pool.server_ip())\nerror('late')")];
    let balancer = site.balance(&scripted("l4_response", ""), &script);
    assert_reset(&site);
    let record = wait_logged(&balancer, 1).remove(0);
    assert_script_failed(&record, 2, "late");
    assert_eq!(record["error"]["event"], "L4_RESPONSE", "{record:#}");
    let open = || site.servers.run(&["ss", "-H", "-t", "-n", "state", "syn-recv"]);
    wait_until("the server's reset", SOON, || Ok(open()?.is_empty())).unwrap();
    assert_plain_service_goes_on(&site);
}

#[test]
fn a_closed_connection_is_reset() {
    if !require_root() {
        return;
    }
    let site = Site::new();
    let _servers = site.web_servers(3);
    let script = "if avi.vs.client_ip() == '192.0.2.2' then avi.vs.close_conn() end";
    let balancer = with_script(&site, "", script);
    assert_reset(&site);
    http_get(&site.client, URL, Some(client(3))).unwrap();
    let record = wait_logged(&balancer, 2).remove(0);
    assert_eq!(record["reason"], "closed_by_script", "{record:#}");
    assert_eq!((&record["line"], &record["server"]), (&1.into(), &Value::Null), "{record:#}");
    assert_eq!(event(&balancer, "drop_script_closed"), 1);
}

#[test]
fn datagrams_of_a_closed_flow_are_dropped_to_the_last() {
    if !require_root() {
        return;
    }
    let site = Site::new();
    let server = site.servers.enter(|| UdpSocket::bind("10.0.0.11:80")).unwrap().unwrap();
    server.set_nonblocking(true).unwrap();
    let rest = scripted("l4_request", "").replace("\"tcp\"", "\"udp\"");
    let script = "if avi.l4.read() == 'close' then avi.vs.close_conn() end";
    let one = rest.replace(&pool("web", 1..=3, 80), &pool("web", [1], 80));
    let balancer = site.balance(&one, &[("set.lua", script)]);
    let bind = || UdpSocket::bind("192.0.2.2:0");
    let [closed, open] = [(); 2].map(|()| site.client.enter(bind).unwrap().unwrap());
    closed.send_to(b"close", VIP).unwrap();
    // A kernel that still asks for a neighbour's address may let a second datagram overtake.
    wait_until("the first datagram's drop", SOON, || {
        Ok(event(&balancer, "drop_script_closed") == 1)
    })
    .unwrap();
    // Not decided anew: by itself it would go to the server.
    closed.send_to(b"more", VIP).unwrap();
    wait_until("the second datagram's drop", SOON, || Ok(event(&balancer, "drop_closed") == 1))
        .unwrap();
    open.send_to(b"open", VIP).unwrap();
    let mut buffer = [0; 16];
    let mut length = 0;
    wait_until("a datagram", SOON, || {
        length = server.recv(&mut buffer).unwrap_or_default();
        Ok(length > 0)
    })
    .unwrap();
    assert_eq!(&buffer[..length], b"open");
    assert_eq!(event(&balancer, "drop_script_closed"), 1);
}

#[test]
fn clients_are_pinned_by_a_table_that_two_workers_share() {
    if !require_root() {
        return;
    }
    let site = Site::with_queues(2);
    let _servers = site.web_servers(3);
    let script = "avi.vs.persist(avi.vs.client_ip())";
    let rest = scripted("l4_request", "");
    let balancer = site.balance(&rest, &[("set.lua", script)]);
    assert_eq!(balancer.status_json().unwrap()["workers"], 2);
    let mut servers: BTreeMap<u8, BTreeSet<String>> = BTreeMap::new();
    for _ in 0..8 {
        for host in 2..10 {
            let reply = http_get(&site.client, URL, Some(client(host))).unwrap();
            servers.entry(host).or_default().insert(reply.server);
        }
    }
    assert!(servers.values().all(|servers| servers.len() == 1), "{servers:?}");
    let all: BTreeSet<_> = servers.values().flatten().collect();
    assert_eq!(all.len(), 3, "{servers:?}");
    let records = wait_logged(&balancer, 64);
    let workers: BTreeSet<_> = records.iter().map(|r| r["worker"].as_u64().unwrap()).collect();
    assert_eq!(workers, [0, 1].into(), "{workers:?}");
    let new = records.iter().filter(|record| record["decided_by"] == "persistence_new").count();
    assert_eq!(new, 8);
    let tables = balancer.tables_json().unwrap();
    assert_eq!(tables[0]["entries"].as_array().unwrap().len(), 8, "{tables:#}");
}
