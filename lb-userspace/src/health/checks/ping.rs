//! Ping: an ICMP echo, and its reply (RFC 792, RFC 4443).

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use etherparse::{IcmpEchoHeader, Icmpv4Header, Icmpv4Type, Icmpv6Header, Icmpv6Type};
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, ipproto, socket_with};
use tokio::{net::UdpSocket, time::Instant};

use super::{Answer, Stage, fault};

const ECHO_REPLY_V4: u8 = 0;
const ECHO_REPLY_V6: u8 = 129;
const HEADER: usize = 8;

pub(super) async fn check(server: IpAddr, stage: &Stage) -> Answer {
    let failed = |error: io::Error| fault("cannot ping", &error);
    let echo = next_echo();
    let sent = Instant::now();
    let socket = open(server).map_err(failed)?;
    socket.send(&request(server, echo)).await.map_err(failed)?;
    stage.set("waiting for an echo");
    let mut packet = [0; 2048];
    loop {
        let length = socket.recv(&mut packet).await.map_err(failed)?;
        // The socket sees everything of ICMP that the server sends to this host.
        if is_reply(server, &packet[..length], echo) {
            return Ok(format!("answered after {}", rounded(sent.elapsed())));
        }
    }
}

/// A socket that gets what this server sends. To send and receive on it is as on one of UDP, which
/// is why it is taken for one.
fn open(server: IpAddr) -> io::Result<UdpSocket> {
    let (family, protocol) = match server {
        IpAddr::V4(_) => (AddressFamily::INET, ipproto::ICMP),
        IpAddr::V6(_) => (AddressFamily::INET6, ipproto::ICMPV6),
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(family, SocketType::RAW, flags, Some(protocol))?;
    connect(&socket, &SocketAddr::new(server, 0))?;
    UdpSocket::from_std(socket.into())
}

/// Checks under way at once have different ones.
fn next_echo() -> IcmpEchoHeader {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let [a, b, c, d] = NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    let own = std::process::id().to_be_bytes();
    // Other processes of this host ping, too.
    let id = u16::from_be_bytes([a ^ own[2], b ^ own[3]]);
    IcmpEchoHeader { id, seq: u16::from_be_bytes([c, d]) }
}

fn request(server: IpAddr, echo: IcmpEchoHeader) -> Vec<u8> {
    let payload = *b"health check";
    let mut packet = match server {
        IpAddr::V4(_) => {
            let header = Icmpv4Header::with_checksum(Icmpv4Type::EchoRequest(echo), &payload);
            header.to_bytes().to_vec()
        }
        // The kernel fills in the checksum.
        IpAddr::V6(_) => Icmpv6Header::new(Icmpv6Type::EchoRequest(echo)).to_bytes().to_vec(),
    };
    packet.extend_from_slice(&payload);
    packet
}

/// Whether a packet, for IPv4 with its IP header, answers this echo.
fn is_reply(server: IpAddr, packet: &[u8], echo: IcmpEchoHeader) -> bool {
    let (message, kind) = match server {
        IpAddr::V4(_) => {
            let header = packet.first().map_or(0, |first| usize::from(first & 0x0f) * 4);
            (packet.get(header..), ECHO_REPLY_V4)
        }
        IpAddr::V6(_) => (Some(packet), ECHO_REPLY_V6),
    };
    let Some([found, 0, _, _, rest @ ..]) = message.and_then(|message| message.get(..HEADER))
    else {
        return false;
    };
    *found == kind && *rest == echo.to_bytes()
}

fn rounded(time: Duration) -> humantime::FormattedDuration {
    let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    humantime::format_duration(Duration::from_micros(micros))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_reply_to_this_echo_is_one() {
        let server: IpAddr = [10, 0, 0, 1].into();
        let echo = IcmpEchoHeader { id: 0x1234, seq: 7 };
        let mut packet = vec![0x45; 20];
        packet.extend_from_slice(&[0, 0, 0xff, 0xff, 0x12, 0x34, 0, 7, b'x']);
        assert!(is_reply(server, &packet, echo));
        assert!(!is_reply(server, &packet, IcmpEchoHeader { id: 0x1234, seq: 8 }));
        let mut request = packet.clone();
        request[20] = 8;
        assert!(!is_reply(server, &request, echo));
        for length in 0..28 {
            assert!(!is_reply(server, &packet[..length], echo));
        }
        let v6: IpAddr = "2001:db8::1".parse().unwrap();
        assert!(is_reply(v6, &[129, 0, 0xff, 0xff, 0x12, 0x34, 0, 7], echo));
    }
}
