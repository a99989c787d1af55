//! Inspected connections: the program's function, the engine and its state machine together.

mod cookies;
mod ends;
mod errors;
mod explained;
mod flags;
mod fuzz;
mod reloads;
mod servers;
mod spliced;
mod tapped;
mod whole;

use lb_common::path::Verdict;

use super::{frames::*, world::*, *};
use crate::engine::log::EndReason;

pub const INSPECT: &str = "tcp_mode = \"inspect\"\ncollect_timeout = \"5s\"";
pub const INSPECTED: Verdict = Verdict::Punt(Event::PuntInspected);
pub const COOKIE: Verdict = Verdict::Punt(Event::PuntCookie);
pub const COOKIE_GIVEN: Verdict = Verdict::Answer(Event::AnswerCookie);

/// Initial numbers of the client and of servers: both wrap soon.
pub const C: u32 = u32::MAX - 1;
pub const S: u32 = u32::MAX - 3;

/// Decides on four bytes, and logs them.
pub const FOUR: &str = "avi.l4.collect(4) avi.vs.log(avi.l4.read(4))";

pub const TWO: &str = r#"
[[pool]]
name = "web"
servers = [{ address = "10.0.0.11", port = 8080 }, { address = "10.0.0.12", port = 8080 }]

[[pool]]
name = "resolvers"
servers = [{ address = "10.0.0.21", port = 53 }]"#;

pub fn inspecting(request: &str) -> Setup<'_> {
    // A small table, for `empty` looks at all of it.
    Setup { instance: "flow_capacity = 256", web: INSPECT, request, ..Setup::default() }
}

/// Flags, sequence number, acknowledgement.
pub fn numbers(message: &Message) -> (u8, u32, u32) {
    match message.transport {
        Transport::Tcp { flags, sequence, acknowledgement } => (flags, sequence, acknowledgement),
        Transport::Udp => panic!("{message:?}"),
    }
}

/// What a client and a server know of their connection.
#[derive(Clone, Copy, Debug)]
pub struct Connection {
    pub port: u16,
    /// Our initial number, as the client has it.
    pub cookie: u32,
    pub snat: std::net::SocketAddrV4,
    /// The server.
    pub host: u8,
}

impl Connection {
    /// From the client: numbers count from both sides' first bytes.
    pub fn client(&self, flags: u8, sent: u32, got: u32, payload: &[u8]) -> Message {
        let sequence = C.wrapping_add(1).wrapping_add(sent);
        let acknowledgement = self.cookie.wrapping_add(1).wrapping_add(got);
        let transport = Transport::Tcp { flags, sequence, acknowledgement };
        Message { transport, ..tcp(client(self.port), web(), flags) }.with_payload(payload)
    }

    /// From the server, likewise.
    pub fn server(&self, flags: u8, sent: u32, got: u32, payload: &[u8]) -> Message {
        let sequence = S.wrapping_add(1).wrapping_add(sent);
        let acknowledgement = C.wrapping_add(1).wrapping_add(got);
        let transport = Transport::Tcp { flags, sequence, acknowledgement };
        let from = server(self.host, 8080);
        Message { transport, ..tcp(from, self.snat, flags) }.with_payload(payload)
    }

    /// The server's answer to a SYN that it refuses.
    pub fn reset_by_server(&self) -> Message {
        let acknowledgement = C.wrapping_add(1);
        let transport = Transport::Tcp { flags: RST | ACK, sequence: 0, acknowledgement };
        Message { transport, ..self.syn_ack() }
    }

    pub fn syn_ack(&self) -> Message {
        let acknowledgement = C.wrapping_add(1);
        let transport = Transport::Tcp { flags: SYN | ACK, sequence: S, acknowledgement };
        Message { transport, ..tcp(server(self.host, 8080), self.snat, SYN | ACK) }
    }
}

/// The client's SYN, answered by the program with a cookie.
pub fn ask(world: &mut World, port: u16) -> Connection {
    let transport = Transport::Tcp { flags: SYN, sequence: C, acknowledgement: 0 };
    let syn = Message { transport, ..tcp(client(port), web(), SYN) };
    let answer = world.send(&syn, COOKIE_GIVEN, &[]).to(ROUTER);
    let (flags, cookie, acknowledged) = numbers(&answer);
    assert_eq!((answer.from, answer.to), (web(), client(port)));
    assert_eq!((flags, acknowledged), (SYN | ACK, C.wrapping_add(1)));
    Connection { port, cookie, snat: snat(0), host: 11 }
}

/// A handshake with a client; nothing is known of it before its end.
pub fn shake(world: &mut World, port: u16) -> Connection {
    let slots = world.slots();
    let connection = ask(world, port);
    assert_eq!(world.slots(), slots);
    world.send(&connection.client(ACK, 0, 0, b""), COOKIE, &[]).nothing();
    connection
}

/// A connection whose script has chosen a server: that has been sent a SYN.
pub fn opening(world: &mut World, port: u16) -> Connection {
    let connection = shake(world, port);
    let syn = world.send(&connection.client(ACK, 0, 0, b"GET "), INSPECTED, &[]);
    asked(connection, &syn)
}

/// As it is after a step in which a server was sent its SYN, and nobody anything else.
pub fn asked(connection: Connection, step: &Step) -> Connection {
    let [(link, _)] = step.sent[..] else { panic!("{step:?}") };
    let syn = Message::read(&step.sent[0].1);
    let host = syn.to.ip().octets()[3];
    assert_eq!((link, numbers(&syn)), (link_to(hop(host)), (SYN, C, 0)));
    Connection { snat: syn.from, host, ..connection }
}

/// A connection that is delivered but for the server's acknowledgement.
pub fn delivering(world: &mut World, port: u16) -> Connection {
    let connection = opening(world, port);
    let step = world.send(&connection.syn_ack(), INSPECTED, &[]);
    // The client hears of it at last, and the server gets it.
    let [to_client, to_server] = &step.messages()[..] else { panic!("{step:?}") };
    let behind = C.wrapping_add(5);
    assert_eq!(numbers(to_client), (ACK, connection.cookie.wrapping_add(1), behind));
    assert_eq!(numbers(to_server), (ACK, C.wrapping_add(1), S.wrapping_add(1)));
    assert_eq!((to_server.from, &to_server.payload[..]), (connection.snat, &b"GET "[..]));
    connection
}

/// A connection that is the program's.
pub fn spliced(world: &mut World, port: u16) -> Connection {
    let connection = delivering(world, port);
    let step = world.send(&connection.server(ACK, 0, 4, b""), INSPECTED, &[]);
    let expected = (ACK, connection.cookie.wrapping_add(1), C.wrapping_add(5));
    assert_eq!(numbers(&step.to(ROUTER)), expected);
    connection
}

/// Inspections that workers have.
pub fn inspections(world: &World) -> usize {
    world.workers.iter().map(|member| member.engine.inspections.len()).sum()
}

/// Nothing is left of any connection: slots, counts, ports in use.
pub fn empty(world: &World) {
    assert_eq!((world.gauge(), world.slots(), inspections(world)), ((0, 0), (0, 0), 0));
    assert_eq!(world.snat_ports().0, 0, "SNAT ports in use");
    let service = world.generation.service_number(0);
    assert_eq!(world.shared.services.now(service), 0, "the service's");
    for server in 0..world.generation.config.pools[0].servers.len() {
        assert_eq!(world.connections("web", server), 0, "server {server}");
    }
}
