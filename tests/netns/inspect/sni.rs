//! TLS by the server name: the example, real clients and servers, and ClientHellos cut anywhere.

use std::{
    fs,
    io::{ErrorKind, Read as _, Write as _},
    net::{Shutdown, TcpStream},
    path::Path,
};

use lb_tests::{Namespace, Process, require_root};
use tempfile::TempDir;

use super::echo::{Echo, NAME, Speaks, exchange};
use crate::{
    examples::{balance, example},
    site::{SOON, Site, wait_logged},
};

const VIP: &str = "192.0.2.10:443";

/// A TLS server with a certificate of its own for this name.
fn s_server(site: &Site, folder: &Path, number: u8, name: &str) -> Process {
    certificate(&site.servers, folder, name);
    let [key, pem] = ["key", "pem"].map(|kind| path(folder, name, kind));
    let accept = format!("10.0.0.{}:443", 10 + number);
    let words =
        ["openssl", "s_server", "-accept", &accept, "-cert", &pem, "-key", &key, "-www", "-quiet"];
    started(site, site.servers.spawn(&words).unwrap(), number)
}

/// nginx with several certificates, told apart by name.
pub fn nginx(site: &Site, folder: &Path, number: u8, names: &[&str]) -> Process {
    let server = |name: &&str| {
        certificate(&site.servers, folder, name);
        let [key, pem] = ["key", "pem"].map(|kind| path(folder, name, kind));
        let number = 10 + number;
        format!(
            "server {{ listen 10.0.0.{number}:443 ssl; server_name {name}; ssl_certificate {pem}; \
             ssl_certificate_key {key}; \
             ssl_protocols TLSv1.2 TLSv1.3; return 200 {name}; }}\n"
        )
    };
    let servers: String = names.iter().map(server).collect();
    let configuration = folder.join("nginx.conf");
    let text = format!(
        "daemon off; master_process off; error_log stderr; pid nginx.pid;\n\
         events {{ }}\nhttp {{ access_log off; {servers} }}\n"
    );
    fs::write(&configuration, text).unwrap();
    let [prefix, file] = [folder, &configuration].map(Path::to_string_lossy);
    let words = ["nginx", "-e", "stderr", "-p", &prefix, "-c", &file];
    started(site, site.servers.spawn(&words).unwrap(), number)
}

pub fn path(folder: &Path, name: &str, kind: &str) -> String {
    folder.join(format!("{name}.{kind}")).to_string_lossy().into_owned()
}

fn certificate(host: &Namespace, folder: &Path, name: &str) {
    let [key, pem] = ["key", "pem"].map(|kind| path(folder, name, kind));
    let (subject, names) = (format!("/CN={name}"), format!("subjectAltName=DNS:{name}"));
    let kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
    let ends = ["-days", "2", "-subj", &subject, "-addext", &names, "-keyout", &key, "-out", &pem];
    host.run(&[&["openssl", "req", "-x509"][..], &kind, &ends].concat()).unwrap();
}

/// Waits until it listens.
fn started(site: &Site, mut server: Process, number: u8) -> Process {
    let listening = format!("10.0.0.{}:443", 10 + number);
    let listens = || Ok(site.servers.run(&["ss", "-Hltn"])?.contains(&listening));
    server.wait_until("a TLS server", SOON, listens).unwrap();
    server
}

#[test]
fn real_clients_reach_the_server_that_they_name() {
    if !require_root() {
        return;
    }
    let site = Site::new();
    let folder = TempDir::with_prefix("tls-").unwrap();
    let folder = folder.path();
    let _shop = s_server(&site, folder, 1, "shop.test");
    let _mail = nginx(&site, folder, 2, &["mail.test", "unused.test"]);
    let default = TempDir::with_prefix("tls-").unwrap();
    let _default = nginx(&site, default.path(), 3, &["first.test", "other.test"]);
    let balancer = balance(&site, "sni", &example("sni.lua"));

    // A certificate that is not that name's is refused by the client.
    let names = [("shop.test", folder, "shop"), ("mail.test", folder, "mail")];
    let names = names.into_iter().chain([("other.test", default.path(), "default")]);
    let mut expected = Vec::new();
    for (name, folder, pool) in names {
        let trusted = path(folder, name, "pem");
        let resolve = format!("{name}:443:192.0.2.10");
        for version in [["--tlsv1.2", "--tls-max", "1.2"], ["--tlsv1.3", "--tls-max", "1.3"]] {
            let url = format!("https://{name}/");
            let words = ["curl", "--silent", "--show-error", "--fail", "--max-time", "10"];
            let more = ["--cacert", &trusted, "--resolve", &resolve, &url];
            site.client.run(&[&words[..], &version, &more].concat()).unwrap();
            expected.push((name, pool));
        }
        // As long as one with post-quantum key shares: several segments.
        let protocols: Vec<_> = (0..150).map(|number| format!("protocol-{number:010}")).collect();
        let protocols = format!("http/1.1,{}", protocols.join(","));
        let words = ["openssl", "s_client", "-connect", VIP, "-CAfile", &trusted, "-alpn"];
        let verify = ["-verify_return_error", "-verify_hostname", name, "-servername", name];
        let said = site.client.run(&[&words[..], &[&protocols], &verify].concat()).unwrap();
        assert!(said.contains("Verify return code: 0 (ok)"), "{said}");
        expected.push((name, pool));
    }
    // Without a name: the default pool's first certificate.
    let trusted = path(default.path(), "first.test", "pem");
    let words = ["openssl", "s_client", "-connect", VIP, "-noservername", "-CAfile", &trusted];
    let said = site.client.run(&[&words[..], &["-verify_return_error"]].concat()).unwrap();
    assert!(said.contains("Verify return code: 0 (ok)"), "{said}");
    expected.push(("no name", "default"));

    let records = wait_logged(&balancer, expected.len());
    let mut found: Vec<_> = records
        .iter()
        .map(|record| (record["ds_log"].as_str().unwrap(), record["pool"].as_str().unwrap()))
        .collect();
    // Records come in the order of the ends.
    found.sort_unstable();
    expected.sort_unstable();
    assert_eq!(found, expected, "{records:#?}");
}

/// A ClientHello (RFC 8446 §4.1.2) with this name and so many bytes of padding (RFC 7685).
fn client_hello(name: &str, padding: u16) -> Vec<u8> {
    let counted =
        |bytes: &[u8]| [&u16::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat();
    let names = counted(&[&[0][..], &counted(name.as_bytes())].concat());
    let padding = vec![0; padding.into()];
    let extensions = [&[0, 0][..], &counted(&names), &[0, 21], &counted(&padding)].concat();
    let head = [&[3, 3][..], &[7; 32], &[0], &counted(&[0x13, 0x01]), &[1, 0]].concat();
    let body = [head, counted(&extensions)].concat();
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    [&[22, 3, 1][..], &counted(&[&[1][..], &length[1..], &body].concat())].concat()
}

#[test]
fn a_client_hello_is_read_wherever_it_is_cut_and_arrives_whole() {
    if !require_root() {
        return;
    }
    let site = Site::new();
    let _servers = [1, 2, 3].map(|number| Echo::start(&site, number, 443, Speaks::WhenSpokenTo));
    let _balancer = balance(&site, "sni", &example("sni.lua"));
    let cases = [("shop.test", "1"), ("MAIL.test", "2"), ("shop.test.example", "3")];
    for (name, server) in cases {
        let hello = client_hello(name, 3000);
        for piece in [1, 7, 100, 536, 1459, 3000] {
            let mut stream = site.connect(VIP).unwrap();
            stream.set_nodelay(true).unwrap();
            let (most, last) = hello.split_at(hello.len() - 1);
            most.chunks(piece).for_each(|piece| stream.write_all(piece).unwrap());
            // Another part may come behind it at once.
            let rest = [last, b"and what follows"].concat();
            let who = exchange_after(&mut stream, most, &rest);
            assert_eq!(who, server, "{name} in pieces of {piece}");
        }
    }
}

/// Goes on after `sent`: all must come back.
fn exchange_after(stream: &mut TcpStream, sent: &[u8], rest: &[u8]) -> String {
    stream.write_all(rest).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let echoed = answer.split_off(NAME);
    assert!(echoed == [sent, rest].concat(), "{} bytes came back", echoed.len());
    String::from_utf8_lossy(&answer).trim().into()
}

#[test]
fn what_is_no_client_hello_of_a_known_name_has_its_outcome() {
    if !require_root() {
        return;
    }
    let site = Site::new();
    let _servers = [1, 2, 3].map(|number| Echo::start(&site, number, 443, Speaks::WhenSpokenTo));
    let balancer = balance(&site, "sni", &example("sni.lua"));
    let longest = "n".repeat(255);
    for hello in [client_hello(&longest, 0), garbage_lengths()] {
        let mut stream = site.connect(VIP).unwrap();
        assert_eq!(exchange(&mut stream, &hello), ("3".into(), true));
    }
    let mut stream = site.connect(VIP).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n").unwrap();
    let error = stream.read(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
    let records = wait_logged(&balancer, 3);
    let closed = records.iter().find(|record| record["ds_log"] == "not TLS").unwrap();
    assert_eq!(closed["reason"], "closed_by_script", "{closed:#}");
}

/// A ClientHello whose list of names is longer than its extension.
fn garbage_lengths() -> Vec<u8> {
    let mut hello = client_hello("shop.test", 0);
    let name = hello.windows(4).position(|bytes| bytes == b"shop").unwrap();
    hello[name - 5] = 0xff;
    hello
}
