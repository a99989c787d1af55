//! A TCP connection that the balancer shakes hands over itself: what both its ends know, which a test
//! plays.

use std::net::SocketAddr;

use lb_common::wire::TcpFlags;

use super::rig::Ends;
use crate::{
    engine::packet::{Packet, Parsed, parse},
    simulation::Segment,
};

/// The initial numbers of clients and of servers; any will do.
const CLIENT: u32 = 1_000;
const SERVER: u32 = 900_000;

/// Bytes in a segment: what an Ethernet without VLAN leaves of 1,500.
pub(super) const MSS: usize = 1_460;

const ACK: TcpFlags = TcpFlags(TcpFlags::ACK);
const SYN: TcpFlags = TcpFlags(TcpFlags::SYN);
const SYN_ACK: TcpFlags = TcpFlags(TcpFlags::SYN | TcpFlags::ACK);
const FIN_ACK: TcpFlags = TcpFlags(TcpFlags::FIN | TcpFlags::ACK);

/// Numbers of both sides, as each of them knows them.
#[derive(Clone, Copy)]
pub(super) struct Connection {
    ends: Ends,
    /// The balancer's initial number, the cookie.
    cookie: u32,
    /// Behind the last that the client has sent.
    sent: u32,
    /// Behind the last that the server has sent; `None` until it has accepted.
    answered: Option<u32>,
}

/// The server's side of a connection: its own address, and the one that it sees as the client's.
#[derive(Clone, Copy)]
pub(super) struct ServerSide(pub SocketAddr, pub SocketAddr);

impl Connection {
    /// The SYN that begins one.
    pub fn syn(ends: Ends) -> Segment<'static> {
        let (sequence, acknowledgement) = (CLIENT, 0);
        let ends = (ends.client, ends.vip);
        Segment { ends, flags: SYN, sequence, acknowledgement, payload: &[] }
    }

    /// What it is once a SYN was answered with a cookie; `None` if none of these frames is such an
    /// answer.
    pub fn new(ends: Ends, answers: &[Vec<u8>]) -> Option<Self> {
        let answer = answers.iter().filter_map(|frame| tcp(frame));
        let cookie = answer.filter(is_syn_ack).find(|packet| packet.destination() == ends.client);
        let cookie = cookie?.sequence();
        Some(Self { ends, cookie, sent: CLIENT.wrapping_add(1), answered: None })
    }

    /// A segment of the client's. What it carries counts as sent.
    pub fn client<'a>(&mut self, payload: &'a [u8]) -> Segment<'a> {
        let segment = Segment { payload, ..self.acknowledgement() };
        self.sent = self.sent.wrapping_add(number(payload));
        segment
    }

    /// The client closes its side.
    pub fn close(&mut self) -> Segment<'static> {
        let segment = Segment { flags: FIN_ACK, ..self.acknowledgement() };
        self.sent = self.sent.wrapping_add(1);
        segment
    }

    /// The client acknowledges all that the server has sent.
    fn acknowledgement(&self) -> Segment<'static> {
        let answered = self.answered.map_or(1, |answered| answered.wrapping_sub(SERVER));
        Segment {
            ends: (self.ends.client, self.ends.vip),
            flags: ACK,
            sequence: self.sent,
            acknowledgement: self.cookie.wrapping_add(answered),
            payload: &[],
        }
    }

    /// Whether the server has accepted.
    pub fn is_accepted(&self) -> bool {
        self.answered.is_some()
    }

    /// The server accepts.
    pub fn accept(&mut self, side: ServerSide) -> Segment<'static> {
        self.answered = Some(SERVER.wrapping_add(1));
        let acknowledgement = CLIENT.wrapping_add(1);
        let ends = (side.0, side.1);
        Segment { ends, flags: SYN_ACK, sequence: SERVER, acknowledgement, payload: &[] }
    }

    /// A segment of the server's, which acknowledges so much. What it carries counts as sent.
    pub fn server<'a>(
        &mut self,
        side: ServerSide,
        acknowledgement: u32,
        payload: &'a [u8],
    ) -> Segment<'a> {
        let sequence = self.answered.unwrap_or(SERVER.wrapping_add(1));
        self.answered = Some(sequence.wrapping_add(number(payload)));
        Segment { ends: (side.0, side.1), flags: ACK, sequence, acknowledgement, payload }
    }

    /// All that the client has sent.
    pub fn sent(&self) -> u32 {
        self.sent
    }
}

/// The number behind the last that one of these frames brings to the server, if any brings more
/// than `acknowledged`.
pub(super) fn delivered(frames: &[Vec<u8>], side: ServerSide, acknowledged: u32) -> Option<u32> {
    let packets = frames.iter().filter_map(|frame| tcp(frame));
    let to_server = packets.filter(|packet| packet.destination() == side.0);
    let ends = to_server.map(|packet| packet.sequence().wrapping_add(packet.sequence_length()));
    let more = |end: &u32| (1..=u32::MAX / 2).contains(&end.wrapping_sub(acknowledged));
    ends.filter(more).max_by_key(|end| end.wrapping_sub(acknowledged))
}

fn tcp(frame: &[u8]) -> Option<Packet<'_>> {
    match parse(frame) {
        Ok(Parsed::Transport(packet)) => Some(packet),
        _ => None,
    }
}

fn is_syn_ack(packet: &Packet<'_>) -> bool {
    packet.flags().0 & SYN_ACK.0 == SYN_ACK.0
}

fn number(payload: &[u8]) -> u32 {
    u32::try_from(payload.len()).unwrap_or(u32::MAX)
}
