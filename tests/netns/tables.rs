//! What an operator does to scripts' tables with `lb tables`, and what scripts see of it.

use std::{
    collections::BTreeSet,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use lb_tests::{Balancer, http_get, require_root, wait_until};
use serde_json::{Value, json};

use crate::site::{SOON, Site, URL, WEB, client, event, pool, wait_logged};

/// Clients that an operator has pinned go to that server; of all others the flow is noted.
const SCRIPT: &str = r#"
local client = avi.vs.client_ip()
local pinned = avi.vs.table_lookup("pins", client, 0)
if pinned then
  avi.vs.log("pinned")
  avi.pool.select("web", pinned, 80)
else
  avi.vs.table_insert("flows", client .. ":" .. avi.vs.client_port(), "seen")
end
"#;

fn balance(site: &Site, limits: &str, script: &str) -> Balancer {
    let rest = format!(
        "{limits}{WEB}datascripts = [\"set\"]
[[datascript]]
name = \"set\"
pools = [\"web\"]
l4_request = \"set.lua\"
{}",
        pool("web", 1..=3, 80)
    );
    site.balance(&rest, &[("set.lua", script)])
}

fn tables(balancer: &Balancer, words: &[&str]) -> String {
    balancer.lb(&[&["tables"], words].concat()).unwrap()
}

fn json_of(balancer: &Balancer, words: &[&str]) -> Value {
    serde_json::from_str(&tables(balancer, &[words, &["--json"]].concat())).unwrap()
}

/// What `lb tables` says when it fails, as it must.
fn refusal(balancer: &Balancer, words: &[&str]) -> String {
    let refused = balancer.try_lb(&[&["tables"], words].concat()).unwrap();
    assert_eq!(refused.status.code(), Some(1), "{words:?}: {}", refused.stdout);
    refused.stderr
}

/// Asks from every client's address in turn until told to stop; none of these is pinned.
fn traffic(site: &Site, stop: &AtomicBool) {
    for host in (6..10).cycle() {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        http_get(&site.client, URL, Some(client(host))).unwrap();
    }
}

/// The servers that answer a client's next flows: enough for both workers to have some.
fn servers_of(site: &Site, host: u8) -> BTreeSet<String> {
    (0..8).map(|_| http_get(&site.client, URL, Some(client(host))).unwrap().server).collect()
}

/// An operator at work, while two workers write to the tables.
fn operate(site: &Site, balancer: &Balancer) {
    for (address, server) in [("10.0.0.13", "3"), ("10.0.0.12", "2")] {
        tables(balancer, &["put", "web", "192.0.2.5", address, "--table", "pins"]);
        let entry = json_of(balancer, &["get", "web", "192.0.2.5", "--table", "pins"]);
        assert_eq!(entry["value"], address, "{entry:#}");
        assert_eq!(servers_of(site, 5), [server.to_owned()].into());
    }
    tables(balancer, &["delete", "web", "192.0.2.5", "--table", "pins"]);
    // The next flows are balanced, each worker in turn, though not this client's alone.
    let other = || Ok(http_get(&site.client, URL, Some(client(5)))?.server != "2");
    wait_until("another server than the pinned one", SOON, other).unwrap();
    for number in 0..20 {
        let (key, value) = (format!("own-{number}"), number.to_string());
        tables(balancer, &["put", "web", &key, &value, "--number", "--table", "flows"]);
        let entry = json_of(balancer, &["get", "web", &key, "--table", "flows"]);
        assert_eq!(entry["value"], number, "{entry:#}");
        let listed = json_of(balancer, &["list", "--table", "flows", "--prefix", "own-"]);
        let keys: Vec<_> = listed[0]["entries"].as_array().unwrap().iter().collect();
        assert!(keys.len() == 1 && keys[0]["key"] == *key, "{listed:#}");
        tables(balancer, &["delete", "web", &key, "--table", "flows"]);
    }
}

#[test]
fn scripts_of_two_workers_see_what_an_operator_does_at_once_and_lose_nothing() {
    if !require_root() {
        return;
    }
    let site = Site::with_queues(2);
    let _servers = site.web_servers(3);
    let balancer = balance(&site, "", SCRIPT);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| traffic(&site, &stop));
        }
        // The traffic ends even if an assertion fails.
        let operated = catch_unwind(AssertUnwindSafe(|| operate(&site, &balancer)));
        stop.store(true, Ordering::Relaxed);
        operated.unwrap_or_else(|panic| resume_unwind(panic));
    });
    let records = wait_logged(&balancer, event(&balancer, "punt_first_packet") as usize);
    let workers: BTreeSet<_> = records.iter().map(|record| record["worker"].as_u64()).collect();
    assert_eq!(workers.len(), 2, "{workers:?}");
    let noted = records.iter().filter(|record| record["ds_log"] == "");
    let noted: BTreeSet<_> = noted.map(|record| record["client"].as_str().unwrap()).collect();
    let listed = json_of(&balancer, &["list", "--service", "web", "--table", "flows"]);
    let entries = listed[0]["entries"].as_array().unwrap();
    let keys: BTreeSet<_> = entries.iter().map(|entry| entry["key"].as_str().unwrap()).collect();
    assert_eq!(keys, noted);
    assert!(keys.iter().any(|key| key.starts_with("192.0.2.5:")), "{keys:?}");
}

#[test]
fn entries_are_put_shown_and_taken_out() {
    if !require_root() {
        return;
    }
    let site = Site::new();
    let balancer = balance(&site, "", SCRIPT);
    let lb = |words: &[&str]| tables(&balancer, words);
    assert_eq!(lb(&["put", "web", "a", "7", "--lifetime", "1000"]), "stored for 1000 s\n");
    lb(&["put", "web", "a", "8", "--lifetime", "1000"]);
    lb(&["put", "web", "-1", "-2.5", "--number"]);
    lb(&["put", "web", r"b\xff\\", r"\x00", "--table", r"odd\x0a"]);
    let heading = ["VIRTUAL", "SERVICE", "TABLE", "KEY", "TYPE", "VALUE", "EXPIRES", "IN"];
    let shown = lb(&["get", "web", "a"]);
    let lines: Vec<Vec<&str>> =
        shown.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], heading);
    assert_eq!(lines[1][..5], ["web", "(default)", "a", "string", "8"]);
    let all = lb(&[]);
    assert_eq!(all, lb(&["list"]));
    assert!(all.contains(r"odd\x0a"), "{all}");

    let entry = |words: &[&str]| {
        let mut entry = json_of(&balancer, words);
        let left = entry.as_object_mut().unwrap().remove("remaining_seconds").unwrap();
        (entry, left.as_u64().unwrap())
    };
    let (first, left) = entry(&["get", "web", "a"]);
    assert_eq!(first, json!({ "key": "a", "value": "8" }));
    // A get does not extend the lifetime.
    let again = entry(&["get", "web", "a"]).1;
    assert!(left <= 1000 && again <= left, "{left}, {again}");
    assert_eq!(entry(&["get", "web", "-1"]).0, json!({ "key": "-1", "value": -2.5 }));
    let odd = entry(&["get", "web", r"b\xFF\\", "--table", r"odd\x0a"]).0;
    assert_eq!(odd, json!({ "key": r"b\xff\\", "value": r"\x00" }));
    let keys = |words: &[&str]| -> Vec<Value> {
        let listed = json_of(&balancer, words);
        let tables = listed.as_array().unwrap().iter();
        tables.flat_map(|t| t["entries"].as_array().unwrap()).map(|e| e["key"].clone()).collect()
    };
    assert_eq!(keys(&["list", "--limit", "2"]), ["-1", "a"]);
    assert_eq!(keys(&["list", "--prefix", r"b\xff"]), [r"b\xff\\"]);
    assert_eq!(keys(&["--table", ""]), ["-1", "a"]);
    assert_eq!(lb(&["delete", "web", "a"]), "deleted\n");
    assert_eq!(keys(&["list", "--service", "web", "--table", ""]), ["-1"]);
}

#[test]
fn what_cannot_be_done_is_said_with_its_reason() {
    if !require_root() {
        return;
    }
    let site = Site::new();
    let limits = "[instance.tables]\nentries = 2\nkey_size = 8\nvalue_size = 4\n";
    let balancer = balance(&site, limits, SCRIPT);
    let long = "123456789";
    for key in ["one", "two"] {
        tables(&balancer, &["put", "web", key, "v"]);
    }
    let cases: [(&[&str], &[&str]); 13] = [
        (&["get", "web", "three"], &["the default table of web has no key \"three\""]),
        (&["delete", "web", "three"], &["the default table of web has no key \"three\""]),
        (&["get", "web", "k", "--table", "pin"], &["no table \"pin\"", "the default table"]),
        (&["get", "wbe", "one"], &["no virtual service \"wbe\"; there are: web"]),
        (&["put", "wbe", "one", "v"], &["no virtual service \"wbe\"; there are: web"]),
        (&["list", "--service", "wbe"], &["no virtual service \"wbe\"; there are: web"]),
        (&["get", "web", long], &["the key has 9 bytes", "key_size", "allows 8"]),
        (&["put", "web", long, "v"], &["the key has 9 bytes", "key_size", "allows 8"]),
        (&["put", "web", "one", "12345"], &["the value has 5 bytes", "value_size", "allows 4"]),
        (&["put", "web", "three", "v"], &["the default table of web is full", "2 entries"]),
        (&["put", "web", r"\q", "v"], &[r"\xNN", "backslash"]),
        (&["list", "--prefix", r"\x1"], &[r"\xNN", "backslash"]),
        (&["put", "web", "one", "seven", "--number"], &["\"seven\" is not a number"]),
    ];
    for (words, parts) in cases {
        let said = refusal(&balancer, words);
        for part in parts {
            assert!(said.contains(part), "{part} is not in what {words:?} says: {said}");
        }
    }
    let status = balancer.status_json().unwrap();
    assert_eq!(status["refused_table_inserts"], 1, "{status:#}");
    let shown = balancer.lb(&["status"]).unwrap();
    assert!(shown.contains("refused        1 inserts into tables that were full\n"), "{shown}");
    // What is there may be replaced in a full table, and a deleted key leaves room.
    tables(&balancer, &["put", "web", "one", "new"]);
    tables(&balancer, &["delete", "web", "two"]);
    tables(&balancer, &["put", "web", "three", "v"]);
}

#[test]
fn the_admin_api_answers_with_fitting_codes() {
    if !require_root() {
        return;
    }
    let site = Site::new();
    let limits = "[instance.tables]\nentries = 1\nkey_size = 8\nvalue_size = 4\n";
    let balancer = balance(&site, limits, SCRIPT);
    let socket = format!("/run/lb/{}.sock", balancer.instance());
    let code = |method: &str, query: &str, body: &str| {
        let url = format!("http://lb/v1/tables{query}");
        let words = ["curl", "--silent", "--unix-socket", &socket, "--request", method, "--data"];
        let rest = [body, "--header", "content-type: application/json", "--output", "/dev/null"];
        let format = ["--write-out", "%{http_code}", &url];
        balancer.run(&[&words[..], &rest, &format].concat()).unwrap()
    };
    let one = "/entry?virtual_service=web&key=one";
    let cases = [
        ("GET", one, "", "404"),
        ("PUT", one, r#"{ "value": "a", "lifetime": 9 }"#, "200"),
        ("PUT", one, r#"{ "value": 2.5 }"#, "200"),
        ("GET", one, "", "200"),
        ("PUT", one, r#"{ "value": true }"#, "422"),
        ("PUT", one, r#"{ "value": "a", "lifetime": 0 }"#, "422"),
        ("PUT", one, r#"{ "value": "a", "life": 9 }"#, "422"),
        ("PUT", one, r#"{ "value": "12345" }"#, "422"),
        ("PUT", one, r#"{ "value": "#, "400"),
        ("PUT", "/entry?virtual_service=web&key=two", r#"{ "value": "a" }"#, "507"),
        ("PUT", "/entry?virtual_service=web&key=123456789", r#"{ "value": "a" }"#, "422"),
        ("PUT", "/entry?virtual_service=wbe&key=one", r#"{ "value": "a" }"#, "404"),
        ("GET", "/entry?virtual_service=web&key=%5Cq", "", "400"),
        ("GET", "/entry?virtual_service=web", "", "400"),
        ("GET", "?virtual_service=wbe", "", "404"),
        ("GET", "?virtual_service=web&limit=1", "", "200"),
        ("DELETE", one, "", "204"),
        ("DELETE", one, "", "404"),
    ];
    for (method, query, body, wanted) in cases {
        assert_eq!(code(method, query, body), wanted, "{method} {query} {body}");
    }
}
