//! Asking a server, each in its protocol.
//!
//! A check reads no more than [`MOST_READ`] bytes, ends after the monitor's timeout at the latest,
//! and follows no redirect. Its answer is in words for operators.

mod datagram;
mod dns;
mod external;
mod http;
mod ping;
mod search;
mod stream;
#[cfg(test)]
mod tests;
mod tls;

use std::{
    borrow::Cow,
    io::{self, ErrorKind},
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use rustix::io::Errno;
use tokio::{net::TcpStream, time::timeout};

use super::board::Target;
use crate::config::Check;

/// Bytes of an answer that are looked at.
const MOST_READ: usize = 64 << 10;
/// Bytes of an answer that are shown.
const MOST_SHOWN: usize = 60;

/// What came of a check: words for `lb status`.
pub type Answer = Result<String, Fault>;

/// Why a check did not succeed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fault {
    /// The server did not answer, or not well.
    Server(String),
    /// The balancer could not ask: this says nothing about the server.
    Own(String),
}

impl Fault {
    fn server(words: impl Into<String>) -> Self {
        Self::Server(words.into())
    }
}

/// Asks a server once.
pub(super) async fn check(target: Arc<Target>) -> Answer {
    let stage = Stage::default();
    let limit = target.monitor.timeout;
    match timeout(limit, ask(&target, &stage)).await {
        Ok(answer) => answer,
        Err(_) => {
            let limit = humantime::format_duration(limit);
            Err(Fault::Server(format!("timed out after {limit}{}", stage.words())))
        }
    }
}

async fn ask(target: &Target, stage: &Stage) -> Answer {
    let address = target.monitor.target(target.server);
    match &target.monitor.check {
        Check::Ping => ping::check(address.ip(), stage).await,
        Check::Tcp(exchange) => stream::check(address, exchange, stage).await,
        Check::Udp(exchange) => datagram::check(address, exchange, stage).await,
        Check::Http(http) => http::check(address, http, stage).await,
        Check::Https(http, tls) => http::check_within_tls(address, http, tls, stage).await,
        Check::Dns(dns) => dns::check(address, dns, stage).await,
        Check::External(program) => external::check(address, target, program, stage).await,
    }
}

/// How far a check has come, for what is said if there is no time for more.
#[derive(Debug, Default)]
struct Stage(Mutex<Cow<'static, str>>);

impl Stage {
    /// Completes "timed out after 4s …".
    fn set(&self, words: impl Into<Cow<'static, str>>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = words.into();
    }

    fn words(&self) -> String {
        match self.0.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
            "" => String::new(),
            words => format!(" {words}"),
        }
    }
}

async fn connect(address: SocketAddr, stage: &Stage) -> Result<TcpStream, Fault> {
    stage.set("while connecting");
    TcpStream::connect(address).await.map_err(|error| fault("cannot connect", &error))
}

/// An error of the system in words, and whose fault it is.
fn fault(doing: &str, error: &io::Error) -> Fault {
    let own = [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::NOBUFS, Errno::AGAIN]
        .into_iter()
        .chain([Errno::PERM, Errno::ACCESS, Errno::ADDRNOTAVAIL]);
    if own.into_iter().any(|own| error.raw_os_error() == Some(own.raw_os_error())) {
        return Fault::Own(format!("the balancer {doing}: {error}"));
    }
    Fault::Server(match error.kind() {
        ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        ErrorKind::ConnectionReset => "connection reset".to_owned(),
        ErrorKind::HostUnreachable => "host unreachable".to_owned(),
        ErrorKind::NetworkUnreachable => "network unreachable".to_owned(),
        _ => format!("{doing}: {error}"),
    })
}

/// The beginning of an answer, on one line.
fn shown(bytes: &[u8]) -> String {
    let start = String::from_utf8_lossy(&bytes[..bytes.len().min(4 * MOST_SHOWN)]);
    let mut text: String = start.chars().take(MOST_SHOWN).collect();
    if text.len() < bytes.len() && text.chars().count() == MOST_SHOWN {
        text.push('…');
    }
    format!("{text:?}")
}
