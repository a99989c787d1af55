//! Who is asked: the name servers of the configuration, or the system's.

use std::{
    fs,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use futures_util::FutureExt as _;
use hickory_resolver::{
    TokioResolver,
    config::{ConnectionConfig, NameServerConfig, ResolverConfig, ResolverOpts},
    lookup::Lookup,
    net::{DnsError, NetError, runtime::TokioRuntimeProvider},
    proto::{op::ResponseCode, rr::RData},
};

use super::{Answer, Ask, Asked};

/// How long one name server is waited for, at most.
const TIMEOUT: Duration = Duration::from_secs(2);

/// What asks these name servers, or the system's if there are none. Asks for IPv4 addresses: the
/// packet path takes no others so far.
pub fn new(name_servers: &[SocketAddr]) -> Ask {
    if name_servers.is_empty() {
        let system = Arc::new(System::default());
        return Arc::new(move |name| {
            let resolver = system.resolver();
            async move { lookup(&resolver?, &name).await }.boxed()
        });
    }
    let resolver = configured(name_servers).map_err(|error| error.to_string());
    Arc::new(move |name| {
        let resolver = resolver.clone();
        async move { lookup(&resolver?, &name).await }.boxed()
    })
}

/// Names are taken as they are: no domain is searched for them.
fn configured(name_servers: &[SocketAddr]) -> Result<TokioResolver, NetError> {
    let server = |address: &SocketAddr| {
        let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()];
        let connections = connections.map(|mut connection| {
            connection.port = address.port();
            connection
        });
        NameServerConfig::new(address.ip(), true, connections.into())
    };
    let config =
        ResolverConfig::from_parts(None, vec![], name_servers.iter().map(server).collect());
    let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    adjust(builder.options_mut());
    builder.build()
}

/// Nothing is kept: who asks, asks because the last answer has grown old.
fn adjust(options: &mut ResolverOpts) {
    options.cache_size = 0;
    options.timeout = options.timeout.min(TIMEOUT);
}

/// The resolver that the system's files describe; another one when they change.
#[derive(Default)]
struct System(Mutex<Option<(Stamp, Result<TokioResolver, String>)>>);

/// When the files were last written, and how long they are.
type Stamp = [Option<(SystemTime, u64)>; 2];

impl System {
    fn resolver(&self) -> Result<TokioResolver, String> {
        let mut made = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = ["/etc/resolv.conf", "/etc/hosts"].map(|path| {
            let file = fs::metadata(path).ok()?;
            Some((file.modified().ok()?, file.len()))
        });
        match &*made {
            Some((stamp, resolver)) if *stamp == now => resolver.clone(),
            _ => {
                let resolver = Self::read();
                *made = Some((now, resolver.clone()));
                resolver
            }
        }
    }

    fn read() -> Result<TokioResolver, String> {
        let builder = TokioResolver::builder_tokio().and_then(|mut builder| {
            adjust(builder.options_mut());
            builder.build()
        });
        builder.map_err(|error| format!("/etc/resolv.conf cannot be used: {error}"))
    }
}

async fn lookup(resolver: &TokioResolver, name: &str) -> Asked {
    match resolver.ipv4_lookup(name).await {
        Ok(found) => answer(&found),
        Err(error) => Err(words(&error)),
    }
}

fn answer(found: &Lookup) -> Asked {
    let addresses: Vec<_> = found
        .answers()
        .iter()
        .filter_map(|record| match &record.data {
            RData::A(address) => Some(address.0),
            _ => None,
        })
        .collect();
    if addresses.is_empty() {
        return Err(NO_ADDRESS.to_owned());
    }
    let ttl = found.valid_until().saturating_duration_since(Instant::now());
    Ok(Answer { addresses, ttl })
}

const NO_ADDRESS: &str = "the name has no IPv4 address";

/// What an operator has to know of it.
fn words(error: &NetError) -> String {
    match error {
        error if error.is_nx_domain() => "there is no such name (NXDOMAIN)".to_owned(),
        NetError::Dns(DnsError::NoRecordsFound(found)) => match found.response_code {
            ResponseCode::NoError => NO_ADDRESS.to_owned(),
            code => format!("the name server answers: {code}"),
        },
        NetError::Dns(DnsError::ResponseCode(code)) => format!("the name server answers: {code}"),
        NetError::Timeout => "no name server answers".to_owned(),
        NetError::NoConnections => "no name server can be reached".to_owned(),
        NetError::Io(error) => format!("no name server can be reached: {error}"),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::net::UdpSocket;

    use super::*;

    /// A name server that answers by the first label of what it is asked for.
    async fn name_server() -> SocketAddr {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        tokio::spawn(async move {
            let mut query = [0; 512];
            loop {
                let (length, from) = socket.recv_from(&mut query).await.unwrap();
                let reply = reply(&query[..length]);
                socket.send_to(&reply, from).await.unwrap();
            }
        });
        address
    }

    /// By RFC 1035 §4.1, with the name written out once.
    fn reply(query: &[u8]) -> Vec<u8> {
        let end = 12 + query[12..].iter().position(|byte| *byte == 0).unwrap() + 5;
        let first = &query[13..13 + usize::from(query[12])];
        let (code, count, answers) = match first {
            b"app" => (0, 2, [address(0xc00c, 30, 11), address(0xc00c, 30, 12)].concat()),
            b"alias" => {
                // A CNAME to `x.test`, whose place is behind the record's own head.
                let target = 0xc000 + u16::try_from(end + 12).unwrap();
                let alias = [&[0xc0, 0x0c, 0, 5, 0, 1, 0, 0, 0, 7, 0, 8][..], b"\x01x\x04test\0"];
                (0, 2, [alias.concat(), address(target, 40, 13)].concat())
            }
            b"empty" => (0, 0, vec![]),
            b"gone" => (3, 0, vec![]),
            b"broken" => (2, 0, vec![]),
            _ => (5, 0, vec![]),
        };
        let head = [query[0], query[1], 0x81, 0x80 | code, 0, 1, 0, count, 0, 0, 0, 0];
        [&head[..], &query[12..end], &answers].concat()
    }

    /// An address record of the name at this place.
    fn address(name: u16, ttl: u8, host: u8) -> Vec<u8> {
        let name = name.to_be_bytes();
        vec![name[0], name[1], 0, 1, 0, 1, 0, 0, 0, ttl, 0, 4, 10, 0, 0, host]
    }

    #[tokio::test]
    async fn answers_are_taken_with_their_age_and_failures_are_told_apart() {
        let ask = new(&[name_server().await]);
        let ask = |name: &str| ask(name.into());
        let app = ask("app.test").await.unwrap();
        assert_eq!(app.addresses, [Ipv4Addr::new(10, 0, 0, 11), Ipv4Addr::new(10, 0, 0, 12)]);
        assert!(app.ttl <= Duration::from_secs(30) && app.ttl > Duration::from_secs(25));
        let alias = ask("alias.test").await.unwrap();
        assert_eq!(alias.addresses, [Ipv4Addr::new(10, 0, 0, 13)]);
        assert!(alias.ttl <= Duration::from_secs(7), "the alias may change too: {alias:?}");
        for (name, why) in [
            ("empty.test", "the name has no IPv4 address"),
            ("gone.test", "there is no such name (NXDOMAIN)"),
            ("broken.test", "the name server answers: Server Failure"),
            ("other.test", "the name server answers: Query Refused"),
        ] {
            assert_eq!(ask(name).await, Err(why.to_owned()), "{name}");
        }
    }
}
