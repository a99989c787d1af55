//! Rules, pool groups and new versions of scripts decide real flows, and `lb explain` says how.

use std::io::{Read as _, Write as _};

use lb_tests::{Balancer, Namespace, require_root};
use serde_json::Value;

use crate::site::{SOON, Site, VIP, WEB, event, pool, wait_logged};

/// `web` under a policy and a script, over a group of two pools.
const GROUPED: &str = r#"
[[virtual_service]]
name = "web"
address = "192.0.2.10"
port = 80
protocol = "tcp"
pool_group = "tiers"
l4_policies = ["by-client"]
datascripts = ["set"]

[[l4_policy]]
name = "by-client"
rules = [{ name = "third", clients = ["192.0.2.3"], pool = "far" }]

[[pool_group]]
name = "tiers"
members = [{ pool = "near", priority = 2 }, { pool = "far", priority = 1 }]

[[datascript]]
name = "set"
pools = ["near", "far"]
pool_groups = ["tiers"]
l4_request = "set.lua"
"#;

fn grouped(near: &str) -> String {
    let far = pool("far", [2], 80);
    [GROUPED, &pool("near", [1], 80).replace("port = 80", near), &far].concat()
}

/// Which server answers a client's address.
fn ask(client: &Namespace, host: u8) -> String {
    let source = Some(crate::site::client(host));
    lb_tests::http_get(client, crate::site::URL, source).unwrap().server
}

fn explain(balancer: &Balancer, words: &[&str]) -> Value {
    let text = balancer.lb(&[&["explain", "--json"], words].concat()).unwrap();
    serde_json::from_str(&text).unwrap()
}

#[test]
fn rules_and_groups_send_flows_and_explain_says_why_before_they_come() {
    if !require_root() {
        return;
    }
    let site = Site::new();
    let _servers = site.web_servers(2);
    let script = "if avi.vs.client_ip() == '192.0.2.4' then avi.pool.select('far') end";
    let balancer = site.balance(&grouped("port = 80"), &[("set.lua", script)]);
    let expected = [
        (2, "algorithm", "1", Value::Null, Value::Null),
        (3, "policy_rule", "2", "by-client/third".into(), Value::Null),
        (4, "script_pool", "2", Value::Null, 1.into()),
    ];
    for (host, by, server, rule, line) in expected {
        let would = &explain(&balancer, &["tcp", &format!("192.0.2.{host}:4000"), VIP])["would"];
        assert_eq!(would["decision"], "server", "{would:#}");
        assert_eq!(would["server"], format!("10.0.0.1{server}:80"), "{would:#}");
        assert_eq!((&would["decided_by"], &would["rule"]), (&by.into(), &rule), "{would:#}");
        assert_eq!(would["line"], line, "{would:#}");
        assert_eq!(ask(&site.client, host), server);
    }
    let records = wait_logged(&balancer, 3);
    let decided: Vec<_> = records.iter().map(|record| record["decided_by"].clone()).collect();
    for by in ["algorithm", "policy_rule", "script_pool"] {
        assert!(decided.contains(&by.into()), "{decided:?}");
    }
    let nobody = balancer.try_lb(&["explain", "udp", "192.0.2.2:1", VIP]).unwrap();
    let error = nobody.stderr;
    assert!(error.contains("no virtual service listens on udp 192.0.2.10:80"), "{error}");
    assert!(error.contains("web (tcp 192.0.2.10:80)"), "{error}");

    // The pool of the higher priority has nobody left: the other one takes over.
    balancer.reload(&crate::site::configuration(&grouped("port = 80, enabled = false"))).unwrap();
    assert_eq!(ask(&site.client, 2), "2");
    let text = balancer.lb(&["explain", "tcp", "192.0.2.2:4000", VIP]).unwrap();
    for words in ["would go to 10.0.0.12:80 of pool \"far\"", "1      down", "generation 2"] {
        assert!(text.contains(words), "{words}:\n{text}");
    }
}

#[test]
fn who_is_denied_or_comes_too_often_is_dropped_before_any_worker() {
    if !require_root() {
        return;
    }
    let site = Site::new();
    let _servers = site.web_servers(1);
    let service = |rest: &str| {
        let policy = "[[network_security_policy]]\nname = \"inside\"\nallow = [\"192.0.2.0/29\"]\n\
                      deny = [\"192.0.2.3\"]\n";
        format!("{WEB}network_security_policy = \"inside\"\n{rest}{policy}{}", pool("web", [1], 80))
    };
    let balancer = site.balance(&service(""), &[]);
    let knock = |host: u8, times: usize| {
        for _ in 0..times {
            // A SYN that nobody answers: curl gives up at once.
            let source = crate::site::client(host).to_string();
            let words =
                ["curl", "-s", "--max-time", "0.2", "--interface", &source, crate::site::URL];
            let _ = site.client.try_run(&words, SOON).unwrap();
        }
    };
    assert_eq!(ask(&site.client, 2), "1");
    for host in [3, 9] {
        knock(host, 1);
        let asked = [&format!("192.0.2.{host}:4000") as &str, VIP];
        let would = &explain(&balancer, &[&["tcp"], &asked[..]].concat())["would"];
        assert_eq!(would["decision"], "refused", "{would:#}");
        assert_eq!(would["steps"][0]["number"], 1, "{would:#}");
    }
    assert!(event(&balancer, "drop_denied") >= 2);
    assert_eq!(event(&balancer, "punt_first_packet"), 1);

    let limit = "client_connection_rate_limit = 1\n";
    balancer.reload(&crate::site::configuration(&service(limit))).unwrap();
    assert_eq!(ask(&site.client, 4), "1");
    knock(4, 3);
    assert!(event(&balancer, "drop_rate_limited") >= 1);
    assert_eq!(ask(&site.client, 5), "1");
}

#[test]
fn explain_without_a_daemon_decides_by_the_configuration() {
    if !require_root() {
        return;
    }
    let site = Site::new();
    let script = "avi.vs.log(avi.l4.read()) avi.vs.persist(avi.vs.client_ip())";
    let text = crate::site::configuration(&grouped("port = 80"));
    let configuration = lb_tests::Configuration::new(&text, &[("set.lua", script)]).unwrap();
    let words = ["explain", "--config", "{file}", "tcp", "192.0.2.9:1", VIP, "--payload", "6869"];
    let finished = configuration.try_lb(&site.client, &words).unwrap();
    assert!(finished.status.success(), "{}", finished.stderr);
    assert!(finished.stderr.starts_with("no daemon runs"), "{}", finished.stderr);
    for words in ["would go to 10.0.0.11:80", "\"hi\"", "table_insert", "priority 1"] {
        assert!(finished.stdout.contains(words), "{words}:\n{}", finished.stdout);
    }
}

#[test]
fn a_changed_script_decides_new_flows_and_the_generation_is_told() {
    if !require_root() {
        return;
    }
    let site = Site::with_queues(2);
    let servers = site.web_servers(2);
    std::fs::write(servers[0].files().join("page"), "x").unwrap();
    let service = WEB.to_owned()
        + "datascripts = [\"set\"]\n[[datascript]]\nname = \"set\"\npools = [\"web\"]\n\
           l4_request = \"set.lua\"\n";
    let rest = service + &pool("web", 1..=2, 80);
    let to = |server: u8| format!("avi.pool.select('web', '10.0.0.1{server}')");
    let balancer = site.balance(&rest, &[("set.lua", &to(1))]);
    let mut old = site.connect(VIP).unwrap();
    let asked: Vec<_> = (2..8).map(|host| ask(&site.client, host)).collect();
    assert_eq!(asked, ["1"; 6]);

    balancer.configuration().write("set.lua", "avi.pool.select('web'").unwrap();
    let refused = balancer.try_lb(&["reload"]).unwrap();
    assert!(!refused.status.success() && refused.stderr.contains("set.lua:1"), "{refused:?}");
    assert_eq!(ask(&site.client, 2), "1");

    balancer.configuration().write("set.lua", &format!("\n{}", to(2))).unwrap();
    balancer.lb(&["reload"]).unwrap();
    let asked: Vec<_> = (2..8).map(|host| ask(&site.client, host)).collect();
    assert_eq!(asked, ["2"; 6]);

    // What the old script decided goes on, and says so.
    let own = old.local_addr().unwrap().to_string();
    let existing = &explain(&balancer, &["tcp", &own, VIP])["existing"];
    let flow = &existing["flow"];
    assert_eq!((&flow["generation"], &flow["line"]), (&1.into(), &1.into()), "{existing:#}");
    assert_eq!(flow["server"], "10.0.0.11:80", "{existing:#}");
    assert!(existing["decided"].as_str().unwrap().ends_with('Z'), "{existing:#}");
    old.set_read_timeout(Some(SOON)).unwrap();
    old.write_all(b"GET /page HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    old.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("\r\n\r\nx"), "{answer}");
    drop(old);

    let records = wait_logged(&balancer, 14);
    let by = |server: &str| {
        let records = records.iter().filter(|record| record["server"] == server);
        records.map(|record| record["generation"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    assert!(by("10.0.0.11:80").iter().all(|generation| *generation == 1), "{records:#?}");
    assert!(by("10.0.0.12:80").iter().all(|generation| *generation == 2), "{records:#?}");
}
