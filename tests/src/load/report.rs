//! What became of each connection of a load.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::SocketAddr,
    time::{Duration, Instant},
};

/// How long a connection is meant to last.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// For one exchange.
    Short,
    /// As long as the load.
    Long,
}

/// How a connection ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// By the client, after an answer, as it was meant to.
    Closed,
    /// Nobody listened: a reset to the SYN, or ICMP to a datagram.
    Refused,
    /// By a reset.
    Reset,
    /// No answer came within the plan's patience.
    TimedOut,
    /// By the server, which closed it.
    ServerClosed,
    /// The answer was none, or not from the server that answered first.
    WrongAnswer(String),
    /// With another error of the kernel.
    Error(String),
}

/// One connection, or one client's socket if it is UDP.
#[derive(Clone, Debug)]
pub struct Connection {
    /// How long it was meant to last.
    pub kind: Kind,
    /// Its own address; no other connection of the load has had it.
    pub local: SocketAddr,
    /// When it was opened.
    pub began: Instant,
    /// The server that answered it first, or that [`Report::attribute`] says.
    pub server: Option<String>,
    /// How many of its questions were answered.
    pub exchanges: u64,
    /// When it was answered last.
    pub answered: Option<Instant>,
    /// What its slowest answer took, connecting included.
    pub slowest: Duration,
    /// When and how it ended; `None` while it lasts.
    pub end: Option<(Instant, Outcome)>,
}

impl Connection {
    /// Whether it ended otherwise than it was meant to.
    pub fn failed(&self) -> bool {
        self.end.as_ref().is_some_and(|(_, outcome)| *outcome != Outcome::Closed)
    }

    /// Whether it was with this server, as far as is known.
    pub fn was_on(&self, server: &str) -> bool {
        self.server.as_deref() == Some(server)
    }
}

/// All connections of a load, in the order in which they were opened.
#[derive(Clone, Default, Debug)]
pub struct Report {
    connections: Vec<Connection>,
    answers: BTreeMap<String, u64>,
}

impl Report {
    /// All connections.
    pub fn connections(&self) -> &[Connection] {
        &self.connections
    }

    /// Those that failed.
    pub fn failures(&self) -> impl Iterator<Item = &Connection> {
        self.connections.iter().filter(|connection| connection.failed())
    }

    /// Those that were opened at this moment or later.
    pub fn since(&self, moment: Instant) -> impl Iterator<Item = &Connection> {
        self.connections.iter().filter(move |connection| connection.began >= moment)
    }

    /// How many questions this server has answered.
    pub fn answers(&self, server: &str) -> u64 {
        self.answers.get(server).copied().unwrap_or_default()
    }

    /// How many long connections are open that have been answered, by whatever server.
    pub fn standing(&self) -> usize {
        let standing = |c: &&Connection| c.kind == Kind::Long && c.exchanges > 0 && c.end.is_none();
        self.connections.iter().filter(standing).count()
    }

    /// How many connections are open that this server has answered.
    pub fn open_on(&self, server: &str) -> usize {
        self.connections.iter().filter(|c| c.end.is_none() && c.was_on(server)).count()
    }

    /// The servers that connections are known to be with that were opened since this moment.
    pub fn servers_since(&self, moment: Instant) -> BTreeSet<&str> {
        self.since(moment).filter_map(|connection| connection.server.as_deref()).collect()
    }

    /// Says of connections that nobody answered which server they were with, as somebody else has
    /// seen it: the balancer's connection log.
    pub fn attribute(&mut self, server: impl Fn(SocketAddr) -> Option<String>) {
        for connection in self.connections.iter_mut().filter(|c| c.server.is_none()) {
            connection.server = server(connection.local);
        }
    }

    pub(super) fn begin(&mut self, kind: Kind, local: SocketAddr, began: Instant) -> usize {
        let (server, answered, end, slowest) = (None, None, None, Duration::ZERO);
        let exchanges = 0;
        let opened = Connection { kind, local, began, server, exchanges, answered, slowest, end };
        self.connections.push(opened);
        self.connections.len() - 1
    }

    /// Counts an answer. Fails with the outcome if another server has answered before.
    pub(super) fn answered(
        &mut self,
        number: usize,
        server: &str,
        asked: Instant,
        now: Instant,
    ) -> Result<(), Outcome> {
        let connection = &mut self.connections[number];
        connection.exchanges += 1;
        connection.answered = Some(now);
        connection.slowest = connection.slowest.max(now - asked);
        *self.answers.entry(server.to_owned()).or_default() += 1;
        let first = connection.server.get_or_insert_with(|| server.to_owned());
        match *first == server {
            true => Ok(()),
            false => Err(Outcome::WrongAnswer(format!("from {server}, after {first}"))),
        }
    }

    pub(super) fn end(&mut self, number: usize, now: Instant, outcome: Outcome) {
        self.connections[number].end = Some((now, outcome));
    }
}

impl fmt::Display for Report {
    /// Who answered how often, and what failed: for a test's message.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} connections, answers {:?}", self.connections.len(), self.answers)?;
        let Some(start) = self.connections.first().map(|connection| connection.began) else {
            return Ok(());
        };
        for failed in self.failures() {
            let Connection { kind, local, server, exchanges, .. } = failed;
            let from = (failed.began - start).as_secs_f64();
            if let Some((ended, outcome)) = &failed.end {
                let to = (*ended - start).as_secs_f64();
                let server = server.as_deref().unwrap_or("nobody known");
                write!(f, "  {from:.3} s to {to:.3} s: {kind:?} {local} on {server}, ")?;
                writeln!(f, "{exchanges} answers: {outcome:?}")?;
            }
        }
        Ok(())
    }
}
