//! Health monitors: how it is told whether a server can take flows.

mod read;
mod value;

use std::{net::SocketAddr, ops::RangeInclusive, path::PathBuf, sync::Arc, time::Duration};

use hyper::{HeaderMap, Method, Version};

use super::Script;
pub(super) use read::{RawMonitor, build, check_files, files, read};

/// `[[health_monitor]]`: a question that servers are asked over and over.
#[derive(Clone, PartialEq, Debug)]
pub struct HealthMonitor {
    /// Unique.
    pub name: String,
    /// From one check of a server to its next.
    pub interval: Duration,
    /// How long a check may take; not longer than the interval.
    pub timeout: Duration,
    /// Successes in a row that bring a server up.
    pub successful_checks: u16,
    /// Failures in a row that take a server down.
    pub failed_checks: u16,
    /// The port to ask at, if not the server's own.
    pub port: Option<u16>,
    /// What is asked.
    pub check: Check,
}

impl HealthMonitor {
    /// Where a server is asked.
    pub fn target(&self, server: SocketAddr) -> SocketAddr {
        SocketAddr::new(server.ip(), self.port.unwrap_or(server.port()))
    }
}

/// Index into [`Config::health_monitors`](super::Config::health_monitors).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct MonitorIndex(pub usize);

/// What a monitor asks, and which answer is a good one.
#[derive(Clone, PartialEq, Debug)]
pub enum Check {
    /// `ping`: an ICMP echo.
    Ping,
    /// `tcp`: a connection, and what is said on it.
    Tcp(Exchange),
    /// `udp`: a datagram, and the one that answers it.
    Udp(Exchange),
    /// `http`: a request.
    Http(HttpCheck),
    /// `https`: the same within TLS.
    Https(HttpCheck, TlsCheck),
    /// `dns`: a query over UDP.
    Dns(DnsCheck),
    /// `external`: a program.
    External(Program),
}

/// What is sent, and what the answer must hold.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Exchange {
    /// Empty for nothing.
    pub send: Vec<u8>,
    /// Empty for no matter what.
    pub expect: Vec<u8>,
}

/// A request, and what its response must be.
#[derive(Clone, PartialEq, Debug)]
pub struct HttpCheck {
    /// What is asked.
    pub request: HttpRequest,
    /// The status is in one of them.
    pub statuses: Vec<RangeInclusive<u16>>,
    /// The body holds this; empty for no matter what.
    pub body: Vec<u8>,
}

/// A request, of which every part is well formed.
#[derive(Clone, PartialEq, Debug)]
pub struct HttpRequest {
    /// Such as `GET`.
    pub method: Method,
    /// Begins with a slash.
    pub path: String,
    /// 1.0 or 1.1.
    pub version: Version,
    /// As written. `Host` is added if it is not among them.
    pub headers: HeaderMap,
    /// What follows the headers.
    pub body: String,
}

/// How a server has to prove who it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TlsCheck {
    /// The name that it is asked by; its address if there is none.
    pub server_name: Option<String>,
    /// Whether its certificate is verified.
    pub verify: bool,
    /// Certificates that its own must lead to; those of the system if there is none.
    pub ca_file: Option<Arc<Script>>,
}

/// A query, and what the response's code must be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DnsCheck {
    /// A domain name.
    pub query_name: String,
    /// As on the wire.
    pub record_type: u16,
    /// `None` for any.
    pub rcode: Option<Rcode>,
}

/// A response code of DNS.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rcode(pub u16);

impl Rcode {
    /// Those of RFC 1035, by their names.
    pub const ALL: [(&str, Self); 6] = [
        ("noerror", Self(0)),
        ("formerr", Self(1)),
        ("servfail", Self(2)),
        ("nxdomain", Self(3)),
        ("notimp", Self(4)),
        ("refused", Self(5)),
    ];

    /// Its name, or its number.
    pub fn name(self) -> String {
        let own = Self::ALL.iter().find(|(_, code)| *code == self);
        own.map_or_else(|| format!("rcode {}", self.0), |(name, _)| (*name).to_owned())
    }
}

/// A program that says something if the server is well.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Program {
    /// Relative ones are beside the configuration.
    pub path: PathBuf,
    /// They follow the server's address and port.
    pub arguments: Vec<String>,
    /// Beside `IP`, `PORT`, `POOL`, `HM_NAME` and `PATH`.
    pub environment: Vec<(String, String)>,
}
