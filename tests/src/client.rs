//! Real clients.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::Namespace;

/// What [`http_get`] got.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HttpReply {
    /// The server's name, from `X-Server`.
    pub server: String,
    /// The address that the server saw, from `X-Client`.
    pub client: String,
    /// The body.
    pub body: String,
}

/// What [`throughput`] measured.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Throughput {
    /// As the receiver counted.
    pub bits_per_second: f64,
    /// Segments that were sent again.
    pub retransmits: u64,
}

/// Gets a page of a server made with [`Nginx`](crate::Nginx), from the address `source` of this
/// host if one is given.
pub fn http_get(namespace: &Namespace, url: &str, source: Option<IpAddr>) -> Result<HttpReply> {
    let source = source.map(|address| address.to_string());
    let mut words = vec!["curl", "--silent", "--show-error", "--fail", "--max-time", "10"];
    words.extend(source.iter().flat_map(|address| ["--interface", address]));
    words.extend(["--include", url]);
    let reply = namespace.run(&words)?;
    parse(&reply).with_context(|| format!("{url} answered without the servers' headers:\n{reply}"))
}

fn parse(reply: &str) -> Option<HttpReply> {
    let (head, body) = reply.split_once("\r\n\r\n")?;
    let header = |name: &str| {
        let (_, value) =
            head.lines().filter_map(|line| line.split_once(": ")).find(|x| x.0 == name)?;
        Some(value.to_owned())
    };
    Some(HttpReply { server: header("X-Server")?, client: header("X-Client")?, body: body.into() })
}

/// Asks the DNS server at `server` for the IPv4 address of `name`, once.
pub fn dig(
    namespace: &Namespace,
    server: SocketAddr,
    name: &str,
    source: Option<IpAddr>,
) -> Result<IpAddr> {
    let at = format!("@{}", server.ip());
    let port = server.port().to_string();
    let source = source.map(|address| address.to_string());
    let mut words = vec!["dig", &at, "-p", &port, name, "A", "+short", "+tries=1", "+time=5"];
    words.extend(source.iter().flat_map(|address| ["-b", address]));
    let answer = namespace.run(&words)?;
    answer.trim().parse().with_context(|| format!("dig {name} {at} answered `{answer}`"))
}

/// Sends TCP to an [`Iperf`](crate::Iperf) server for so many seconds.
pub fn throughput(namespace: &Namespace, server: SocketAddr, seconds: u64) -> Result<Throughput> {
    let [ip, port] = [server.ip().to_string(), server.port().to_string()];
    let time = seconds.to_string();
    let words = ["iperf3", "-J", "-c", &ip, "-p", &port, "-t", &time];
    let patience = Duration::from_secs(seconds + 30);
    let report = namespace.try_run(&words, patience)?.success("iperf3 -c")?;
    let report: Value = serde_json::from_str(&report).context("iperf3's report is not JSON")?;
    let bits_per_second = report["end"]["sum_received"]["bits_per_second"].as_f64();
    Ok(Throughput {
        bits_per_second: bits_per_second.context("iperf3's report has no sum")?,
        retransmits: report["end"]["sum_sent"]["retransmits"].as_u64().unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_without_the_servers_headers_is_not_theirs() {
        let reply = "HTTP/1.1 200 OK\r\nX-Server: a\r\nX-Client: 192.0.2.1\r\n\r\nhello";
        let [server, client, body] = ["a", "192.0.2.1", "hello"].map(str::to_owned);
        assert_eq!(parse(reply), Some(HttpReply { server, client, body }));
        assert_eq!(parse("HTTP/1.1 200 OK\r\nX-Server: a\r\n\r\nhello"), None);
    }
}
