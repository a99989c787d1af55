//! Clients that greet as today's browsers do, with and without post-quantum key shares.

use std::{collections::BTreeMap, fs, path::PathBuf, time::Duration};

use anyhow::ensure;
use lb_tests::{require, require_root};
use tempfile::TempDir;

use super::{
    capture::{Capture, Segment},
    sni::{nginx, path},
};
use crate::{
    examples::{balance, example},
    site::{Site, wait_logged},
};

/// Asks each server by name as each browser, by TLS of its own each time, and prints who answers.
const CLIENT: &str = r#"
import sys
from curl_cffi import CurlOpt, requests

trusted, *cases = sys.argv[1:]
for case in cases:
    browser, groups, name = case.split()
    options = {CurlOpt.RESOLVE: [f"{name}:443:192.0.2.10"]}
    if groups == "classic":
        options[CurlOpt.SSL_EC_CURVES] = "X25519:P-256:P-384"
    url = f"https://{name}/"
    answer = requests.get(url, impersonate=browser, verify=trusted, curl_options=options, timeout=10)
    print(case, answer.status_code, answer.text)
"#;

const BROWSERS: [&str; 3] = ["chrome150", "firefox147", "safari2601"];

/// The names that servers have certificates for, the first of each its own by default; and the pool
/// that the example chooses.
const SERVERS: [(&str, [&str; 2]); 3] = [
    ("shop", ["other.shop.test", "shop.test"]),
    ("mail", ["mail.test", "unused.test"]),
    ("default", ["first.test", "unknown.test"]),
];
const ASKED: [(&str, &str); 3] =
    [("shop.test", "shop"), ("mail.test", "mail"), ("unknown.test", "default")];

/// What the least segment that is ever full has room for: a ClientHello above it has two.
const SEGMENT: usize = 1460;

/// Where `cargo xtask test` installs the client.
fn curl_cffi() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target/tools/curl-cffi")
}

#[test]
fn browsers_reach_the_server_that_they_name_with_post_quantum_groups_and_without() {
    let installed = || {
        let module = curl_cffi().join("curl_cffi");
        ensure!(module.exists(), "there is no {}: run `cargo xtask test`", module.display());
        Ok(())
    };
    if !require_root() || !require(installed()) {
        return;
    }
    let site = Site::new();
    let folders = SERVERS.map(|_| TempDir::with_prefix("tls-").unwrap());
    let all = || SERVERS.iter().zip(&folders).zip(1..);
    let _servers: Vec<_> = all()
        .map(|(((_, names), folder), number)| nginx(&site, folder.path(), number, names))
        .collect();
    let balancer = balance(&site, "sni", &example("sni.lua"));
    let certificates: String = all()
        .flat_map(|(((_, names), folder), _)| names.map(|name| path(folder.path(), name, "pem")))
        .map(|file| fs::read_to_string(file).unwrap())
        .collect();
    let trusted = folders[0].path().join("trusted.pem");
    fs::write(&trusted, certificates).unwrap();

    let cases = || {
        BROWSERS.into_iter().flat_map(|browser| {
            ["post-quantum", "classic"].into_iter().flat_map(move |groups| {
                ASKED.map(|(name, pool)| (format!("{browser} {groups} {name}"), name, pool))
            })
        })
    };
    let capture = Capture::start(&site.client, "eth0");
    let (path, trusted) =
        (format!("PYTHONPATH={}", curl_cffi().display()), trusted.to_str().unwrap());
    let texts: Vec<_> = cases().map(|(text, ..)| text).collect();
    let words = ["env", &path, "python3", "-c", CLIENT, trusted];
    let words: Vec<_> = words.into_iter().chain(texts.iter().map(String::as_str)).collect();
    let said = site.client.try_run(&words, Duration::from_secs(60)).unwrap();
    let said = said.success("the browsers").unwrap();
    let expected: String = cases().map(|(case, name, _)| format!("{case} 200 {name}\n")).collect();
    assert_eq!(said, expected);

    let hellos = hellos(&capture.segments());
    assert_eq!(hellos.len(), texts.len(), "{hellos:?}");
    for (text, length) in texts.iter().zip(hellos) {
        assert_eq!(text.contains("post-quantum"), length > SEGMENT, "{text}: {length} bytes");
    }
    let mut chosen: Vec<_> = wait_logged(&balancer, texts.len())
        .iter()
        .map(|record| ["ds_log", "pool"].map(|key| record[key].as_str().unwrap().to_owned()))
        .collect();
    let mut expected: Vec<_> =
        cases().map(|(_, name, pool)| [name, pool].map(str::to_owned)).collect();
    // Records come in the order of the ends.
    chosen.sort_unstable();
    expected.sort_unstable();
    assert_eq!(chosen, expected);
}

/// How long the first record of each connection is, as its header says, in the order of connections.
fn hellos(segments: &[Segment]) -> Vec<usize> {
    let mut seen = BTreeMap::new();
    for (number, segment) in segments.iter().enumerate() {
        if segment.to.port() == 443
            && let [22, 3, _, high, low, ..] = segment.payload[..]
        {
            let length = 5 + usize::from(u16::from_be_bytes([high, low]));
            seen.entry(segment.from.port()).or_insert((number, length));
        }
    }
    let mut hellos: Vec<_> = seen.into_values().collect();
    hellos.sort_unstable();
    hellos.into_iter().map(|(_, length)| length).collect()
}
