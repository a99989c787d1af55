//! Clients and servers of connections that the balancer shakes hands over itself.

use lb_common::address::Protocol;

use super::{
    connection::{Connection, MSS, ServerSide, delivered},
    failure::Told,
    rig::{Came, Ends, Rig},
};
use crate::{
    config::{SynProtection, TcpMode, Transport},
    engine::{Explanation, Found, Query, Ruling, State, inspect::LIMIT},
    script::More,
    simulation::Segment,
};

impl Rig {
    /// Whether a client is answered with a cookie before anything is decided.
    pub(super) fn shakes_hands(&self, ends: Ends) -> bool {
        let services = &self.config().virtual_services;
        let is_meant = |transport: &Transport| match transport {
            Transport::Tcp(TcpMode::Inspect(_)) => true,
            Transport::Tcp(TcpMode::FastPath { syn_protection }) => {
                *syn_protection == SynProtection::Always
            }
            Transport::Udp => false,
        };
        let mut listening = services.iter().filter(|service| service.address == ends.vip);
        ends.protocol == Protocol::Tcp && listening.any(|service| is_meant(&service.transport))
    }

    /// A client completes the handshake, and says these pieces, each in a segment if it fits into
    /// one. What was decided last; `None`: the client was not answered.
    pub(super) fn shake_hands(
        &mut self,
        ends: Ends,
        pieces: &[Vec<u8>],
    ) -> Told<Option<Explanation>> {
        fits(pieces.iter().map(Vec::len).sum())?;
        let came = self.exchange(&Connection::syn(ends));
        let Some(mut connection) = Connection::new(ends, &came.frames) else {
            return Ok(came.explanation);
        };
        let mut explanation = self.exchange(&connection.client(&[])).explanation;
        for piece in pieces {
            explanation = self.say(&mut connection, ends, piece).or(explanation);
        }
        self.connections.insert(ends, connection);
        Ok(explanation.or_else(|| self.silent(ends)))
    }

    /// The client says more.
    pub fn send(&mut self, ends: Ends, pieces: &[Vec<u8>]) -> Told<()> {
        let mut connection = self.open_connection("send", ends)?;
        fits(pieces.iter().map(Vec::len).sum())?;
        for piece in pieces {
            if let Some(explanation) = self.say(&mut connection, ends, piece) {
                self.decided(explanation);
            }
        }
        self.connections.insert(ends, connection);
        Ok(())
    }

    /// The client closes its side.
    pub fn close(&mut self, ends: Ends) -> Told<()> {
        let mut connection = self.open_connection("close", ends)?;
        if let Some(explanation) = self.exchange(&connection.close()).explanation {
            self.decided(explanation);
        }
        self.connections.insert(ends, connection);
        Ok(())
    }

    fn open_connection(&self, method: &str, ends: Ends) -> Told<Connection> {
        let connection = self.connections.get(&ends).copied().ok_or_else(|| {
            format!(
                "{method}: scripts see more than the first packet with tcp_mode = \"inspect\" only"
            )
        })?;
        match self.find(ends) {
            Some(_) => Ok(connection),
            None => Err(format!("{method}: the flow has ended")),
        }
    }

    /// What a client says as one, in segments. What was decided last over it.
    fn say(
        &mut self,
        connection: &mut Connection,
        ends: Ends,
        piece: &[u8],
    ) -> Option<Explanation> {
        let mut explanation = None;
        for payload in piece.chunks(MSS) {
            // To what has ended a client would say no more.
            if self.find(ends).is_some() {
                explanation =
                    self.exchange(&connection.client(payload)).explanation.or(explanation);
            }
        }
        explanation
    }

    /// A flow whose scripts have not run, because its client says nothing.
    fn silent(&mut self, ends: Ends) -> Option<Explanation> {
        let waits = self.find(ends)?.state() == State::Inspected;
        let Ends { protocol, client, vip } = ends;
        let stream = Some(More::MayCome);
        let query = Query { protocol, client, vip, payload: &[], stream };
        let explanation = self.rehearse(query).filter(|_| waits)?;
        if explanation.decision == Ruling::Waits {
            return Some(explanation);
        }
        // They will run with the first byte.
        Some(Explanation {
            decision: Ruling::Waits,
            waits_for: Some(1),
            reason: None,
            pool_group: None,
            pool: None,
            server: None,
            decided_by: None,
            rule: None,
            script: None,
            line: None,
            log: String::new(),
            error: None,
            traceback: None,
            steps: Vec::new(),
            tables: Vec::new(),
            members: Vec::new(),
            candidates: Vec::new(),
            ..explanation
        })
    }

    /// The server accepts, if it has not, takes what the client has said, and answers.
    pub(super) fn answer_stream(
        &mut self,
        mut connection: Connection,
        found: &Found,
        payload: &[u8],
    ) -> Told<()> {
        fits(payload.len())?;
        let ends = Ends { protocol: Protocol::Tcp, client: found.client(), vip: found.vip() };
        let Some(server) = found.server() else { return Ok(()) };
        let side = ServerSide(server, found.snat().unwrap_or(found.client()));
        if !connection.is_accepted() {
            let accepts = connection.accept(side);
            let mut acknowledged = accepts.acknowledgement;
            let mut came = self.exchange(&accepts);
            while let Some(more) = delivered(&came.frames, side, acknowledged) {
                acknowledged = more;
                came = self.exchange(&connection.server(side, acknowledged, &[]));
            }
        }
        for piece in payload.chunks(MSS) {
            let acknowledged = connection.sent();
            self.exchange(&connection.server(side, acknowledged, piece));
        }
        if self.find(ends).is_some() {
            self.exchange(&connection.client(&[]));
        }
        self.connections.insert(ends, connection);
        Ok(())
    }

    fn exchange(&mut self, segment: &Segment<'_>) -> Came {
        match segment.frame() {
            Some(frame) => self.receive(&frame),
            None => Came { frames: Vec::new(), explanation: None },
        }
    }
}

/// What is said at once is no more than the balancer keeps.
fn fits(bytes: usize) -> Told<()> {
    if bytes <= LIMIT {
        return Ok(());
    }
    Err(format!("a payload of {bytes} bytes is longer than the {LIMIT} that are kept of one"))
}
