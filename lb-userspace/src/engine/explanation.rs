//! Why a flow goes where it goes, for people: what `lb explain`, `lb replay` and `lb test` show.
//!
//! An explanation is put together after the decision, from what is known then. While flows are
//! decided in earnest nobody keeps notes, unless [`super::Engine::keep_explanations`] asks.

use std::{borrow::Cow, net::SocketAddr};

use lb_common::{address::Protocol, event::Event};
use serde::{Deserialize, Serialize};

use super::log::DecidedBy;
use crate::script::{More, TableAccess};

/// A flow's first packet, as far as a decision looks at it.
#[derive(Clone, Copy, Debug)]
pub struct Query<'a> {
    /// The transport.
    pub protocol: Protocol,
    /// Who sends it.
    pub client: SocketAddr,
    /// Where to.
    pub vip: SocketAddr,
    /// What follows the transport header.
    pub payload: &'a [u8],
    /// Of an inspected connection, whose payload is what has come so far: whether more may come.
    pub stream: Option<More>,
}

/// The same, to keep.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FirstPacket {
    /// The transport.
    pub protocol: Protocol,
    /// Who sends it.
    pub client: SocketAddr,
    /// Where to.
    pub vip: SocketAddr,
    /// What follows the transport header.
    pub payload: Vec<u8>,
}

impl FirstPacket {
    /// As the engine takes it.
    pub fn query(&self) -> Query<'_> {
        let Self { protocol, client, vip, ref payload } = *self;
        Query { protocol, client, vip, payload, stream: None }
    }
}

/// What becomes of a flow.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ruling {
    /// It goes to a server.
    Server,
    /// Nothing yet: a script wants to see more payload of an inspected connection.
    Waits,
    /// A script closed it, or failed.
    Closed,
    /// Nothing can take it.
    Refused,
}

/// A decision, and everything that led to it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Explanation {
    /// `tcp` or `udp`.
    pub protocol: Cow<'static, str>,
    /// Who begins the flow.
    pub client: SocketAddr,
    /// Where the client sends to.
    pub vip: SocketAddr,
    /// The virtual service's name.
    pub virtual_service: String,
    /// What becomes of it.
    pub decision: Ruling,
    /// Why nothing can take it.
    pub reason: Option<String>,
    /// How many bytes of payload a script wants to see before it decides.
    pub waits_for: Option<usize>,
    /// The pool group, if one was asked for a pool.
    pub pool_group: Option<String>,
    /// The pool that the server was to be picked from.
    pub pool: Option<String>,
    /// The server.
    pub server: Option<SocketAddr>,
    /// What chose it.
    pub decided_by: Option<DecidedBy>,
    /// The policy rule that decided, as `policy/rule`.
    pub rule: Option<String>,
    /// The script that decided, failed, or waits.
    pub script: Option<String>,
    /// Its line.
    pub line: Option<u32>,
    /// What scripts logged.
    pub log: String,
    /// A script's failure, with file and line.
    pub error: Option<String>,
    /// Lua's stack where it failed.
    pub traceback: Option<String>,
    /// Generation of the configuration.
    pub generation: u32,
    /// The worker that decides: each takes turns by itself.
    pub worker: u16,
    /// The way to the decision, in the order of evaluation.
    pub steps: Vec<Step>,
    /// What was looked up and changed in tables.
    pub tables: Vec<TableAccess>,
    /// The pool group's members.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<Candidate>,
    /// The pool's servers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub candidates: Vec<Candidate>,
}

/// One step of the order of evaluation (DATASCRIPT.md §4).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Step {
    /// Its number there.
    pub number: u8,
    /// What was asked: a rule, a script, a pool.
    pub what: String,
    /// What came of it.
    pub result: String,
}

/// A pool or a server that might have been chosen.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Candidate {
    /// A pool's name, or a server's address.
    pub name: String,
    /// Its share.
    pub ratio: u16,
    /// Flows that a server has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connections: Option<u32>,
    /// Whether it was chosen.
    pub chosen: bool,
    /// Why, or why not.
    pub why: Cow<'static, str>,
}

impl Explanation {
    /// Of a flow for which there turned out to be no room.
    pub(super) fn but_dropped(self, event: Event) -> Self {
        if self.decision != Ruling::Server {
            return self;
        }
        let reason = Some(event.description().trim().to_owned());
        Self { decision: Ruling::Refused, reason, ..self }
    }
}
