//! UDP: a datagram, and the one that answers it.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::net::UdpSocket;

use super::{Answer, Fault, Stage, fault, search::contains, shown};
use crate::config::Exchange;

/// Bytes of a datagram that are looked at: thousands may be waited for at once.
const MOST: usize = 8 << 10;

pub(super) async fn check(address: SocketAddr, exchange: &Exchange, stage: &Stage) -> Answer {
    let socket = send(address, &exchange.send, stage).await?;
    let mut datagram = vec![0; MOST];
    let length = receive(&socket, &mut datagram).await?;
    match contains(&datagram[..length], &exchange.expect) {
        true if exchange.expect.is_empty() => Ok("answered".to_owned()),
        true => Ok("answered as expected".to_owned()),
        false => {
            let (expected, got) = (shown(&exchange.expect), shown(&datagram[..length]));
            Err(Fault::Server(format!("expected {expected}, got {got}")))
        }
    }
}

/// Sends a datagram from a socket that gets only what this server answers.
pub(super) async fn send(
    address: SocketAddr,
    datagram: &[u8],
    stage: &Stage,
) -> Result<UdpSocket, Fault> {
    let any: SocketAddr = match address {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let failed = |error| fault("cannot send", &error);
    let socket = UdpSocket::bind(any).await.map_err(failed)?;
    socket.connect(address).await.map_err(failed)?;
    socket.send(datagram).await.map_err(failed)?;
    stage.set("waiting for an answer");
    Ok(socket)
}

/// The length of the next datagram.
pub(super) async fn receive(socket: &UdpSocket, datagram: &mut [u8]) -> Result<usize, Fault> {
    socket.recv(datagram).await.map_err(|error| match fault("cannot receive", &error) {
        // ICMP said so.
        Fault::Server(words) if words == "connection refused" => Fault::server("port unreachable"),
        other => other,
    })
}
