//! A download that outlives the daemon.

use std::{fs, net::Ipv4Addr, time::Duration};

use anyhow::{Context, Result, ensure};
use lb_tests::{Balancer, Process, wait_until};
use serde_json::{Value, json};
use tempfile::NamedTempFile;

use super::{
    flows::{number, of, text},
    network::{DOWNLOADER, Network},
    show::{command, drawing, result, step},
};

/// Four seconds at [`RATE`]: far more than the socket buffers on the way hold.
const SIZE: usize = 16 << 20;
const RATE: &str = "4M";
const PATIENCE: Duration = Duration::from_secs(60);
/// Fields of a slot that are shown, and the parts of those that have some.
const SHOWN: [(&str, &[&str]); 6] = [
    ("key", &["source", "destination", "source_port", "destination_port", "protocol"]),
    ("rewrite", &["addresses", "ports"]),
    ("next_hop", &[]),
    ("version", &[]),
    ("packets", &[]),
    ("bytes", &[]),
];

/// A download on its way, and the flow that it makes.
pub struct Download {
    curl: Process,
    file: NamedTempFile,
    content: Vec<u8>,
}

impl Download {
    /// Starts it, and waits until some of it has come.
    pub fn start(network: &Network) -> Result<Self> {
        step("A client downloads slowly. Its packets are forwarded in the kernel alone.");
        let content = noise(SIZE);
        network.publish("large", &content)?;
        let file = NamedTempFile::new().context("cannot make a file for the download")?;
        let source = Ipv4Addr::from(DOWNLOADER).to_string();
        let path = file.path().to_string_lossy();
        let url = "http://192.0.2.10/large";
        let mut words = vec!["curl", "--silent", "--show-error", "--fail", "--limit-rate", RATE];
        words.extend(["--interface", &source, "--output", &path, url]);
        command(&format!("curl --limit-rate {RATE} --interface {source} {url}"));
        let mut curl = network.client.spawn(&words)?;
        curl.wait_until("the download's first bytes", PATIENCE, || {
            Ok(fs::metadata(file.path())?.len() > 0)
        })?;
        Ok(Self { curl, file, content })
    }

    /// Shows the flow's slot in the pinned map, as anyone with bpftool sees it.
    pub fn show_slot(&self, balancer: &Balancer) -> Result<()> {
        let flow = flow(balancer)?;
        let server = text(&flow, "server");
        let bucket = u32::try_from(number(&flow, "bucket")).context("no bucket is that large")?;
        result(&format!("`lb flows` says: to {server}, bucket {bucket} of the pinned flow table."));
        let key = bucket.to_le_bytes().map(|byte| byte.to_string());
        let pin = balancer.pins().join("flows_v4");
        let mut words = vec!["bpftool", "map", "lookup", "pinned"];
        let pin = pin.to_string_lossy();
        words.push(&pin);
        words.push("key");
        words.extend(key.iter().map(String::as_str));
        command(&words.join(" "));
        words.insert(1, "--json");
        let bucket: Value = serde_json::from_str(&balancer.run(&words)?)?;
        drawing(&slot(&bucket).with_context(|| format!("bpftool shows no such slot: {bucket}"))?);
        Ok(())
    }

    /// Kills the daemon, and waits for the download's end.
    pub fn outlive(mut self, balancer: &mut Balancer) -> Result<()> {
        step("The daemon is killed in the middle. The program and its maps stay in the kernel.");
        command(&format!("kill -9 {}", balancer.process().id()));
        ensure!(
            self.curl.status()?.is_none(),
            "the download was over before the daemon was killed"
        );
        balancer.kill_9();
        let before = packets(&flow(balancer)?);
        let status = self.curl.wait(PATIENCE)?;
        ensure!(status.success(), "curl: {status}: {}", self.curl.stderr());
        let forwarded = packets(&flow(balancer)?).saturating_sub(before);
        let identical = fs::read(self.file.path())? == self.content;
        ensure!(identical, "the download is not what the server sent");
        ensure!(forwarded > 0, "no packet was forwarded after the daemon's end");
        let megabytes = SIZE >> 20;
        result(&format!("All {megabytes} MiB arrived, byte for byte what the server has."));
        result(&format!("{forwarded} of the packets were forwarded with no daemon running."));
        Ok(())
    }
}

/// The download's flow. Without a daemon `lb flows` reads the pinned maps.
fn flow(balancer: &Balancer) -> Result<Value> {
    let client = Ipv4Addr::from(DOWNLOADER).to_string();
    let mut found = None;
    wait_until("the download in `lb flows`", PATIENCE, || {
        found = of(&balancer.flows_json()?, "web", &client).next().cloned();
        Ok(found.is_some())
    })?;
    found.context("the wait was for it")
}

fn packets(flow: &Value) -> u64 {
    number(flow, "packets") + number(flow, "reply_packets")
}

/// The client's slot of a bucket, a line a field; `None` without one of the fields too.
fn slot(bucket: &Value) -> Option<String> {
    let slots = bucket["formatted"]["value"]["slots"].as_array()?;
    let slot = slots.iter().find(|slot| slot["key"]["source"] == json!(DOWNLOADER))?;
    let line = |(field, parts): &(&str, &[&str])| {
        let value = slot.get(field)?;
        if parts.is_empty() {
            return Some(format!("{field:10}{value}"));
        }
        let part = |part: &&str| Some(format!("{part} {}", value.get(part)?));
        let parts: Option<Vec<_>> = parts.iter().map(part).collect();
        Some(format!("{field:10}{}", parts?.join("  ")))
    };
    let lines: Option<Vec<_>> = SHOWN.iter().map(line).collect();
    Some(lines?.join("\n"))
}

/// Bytes in which no part repeats another: a misplaced segment would be noticed.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(next).take(length / 8).flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clients_slot_is_found_among_the_buckets() {
        let free = json!({ "key": { "source": [0, 0, 0, 0] }, "packets": 0 });
        let key = json!({ "source": DOWNLOADER, "destination": [192, 0, 2, 10],
            "source_port": [156, 64], "destination_port": [0, 80], "protocol": 6 });
        let rewrite =
            json!({ "addresses": [192, 0, 2, 9, 10, 0, 0, 11], "ports": [4, 0, 31, 144] });
        let used = json!({ "key": key, "rewrite": rewrite, "next_hop": 1, "version": 2,
            "packets": 7, "bytes": 700 });
        let shown =
            |slots: [&Value; 2]| slot(&json!({ "formatted": { "value": { "slots": slots } } }));
        let lines = shown([&free, &used]).unwrap();
        assert!(lines.contains("source [192,0,2,150]") && lines.contains("packets   7"), "{lines}");
        assert_eq!(shown([&free, &free]), None);
        // A field has another name now.
        let mut renamed = used.clone();
        renamed["rewrite"] = json!({ "source": [192, 0, 2, 9] });
        assert_eq!(shown([&free, &renamed]), None);
    }

    #[test]
    fn noise_has_its_length_and_does_not_repeat() {
        let noise = noise(4096);
        assert_eq!(noise.len(), 4096);
        assert_ne!(noise[..1448], noise[1448..2896]);
    }
}
