//! The DataScript engine.
//!
//! A [`Runtime`] holds one worker's Lua state with all scripts compiled. [`Runtime::run`] runs, for
//! one event of one flow, the scripts of a virtual service's sets in their order and says what they
//! decided: an [`Outcome`]. There is no I/O, no clock and no thread in here; given the same
//! arguments and tables, a run does the same again.
//!
//! Each script's run is a transaction: one that fails leaves nothing behind. It has globals of its
//! own, cannot change the libraries, and is bounded in instructions and memory. Where payload comes in
//! pieces ([`Runtime::run_stream`]), a script may also say how much of it it wants to see: a
//! [`Progress`].
//!
//! [`check()`] finds what can be found without running: errors of syntax and literal names that a
//! set does not reference.

mod api;
mod bytecode;
mod chain;
mod check;
mod context;
mod errors;
mod garbage;
mod journal;
mod lexer;
mod limits;
mod names;
mod parsers;
mod pattern;
mod reference;
mod runtime;
mod sandbox;
mod stream;
#[cfg(test)]
mod tests;
mod vm;

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use lb_common::address::Protocol;
use thiserror::Error;

use crate::config::{
    Config, Destination, OnError, PoolGroupIndex, PoolIndex, Script, ServerIndex, SetIndex,
};

pub use check::check;
pub use journal::{Ending, RunEntry, TableAccess};
pub use reference::reference;
pub use runtime::Runtime;
pub use stream::{More, Progress, Wait};

/// Characters of the connection log's `ds_log`, at most.
pub const LOG_CHARACTERS: usize = 256;

/// When a script runs.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Event {
    /// A flow's first packet.
    L4Request,
    /// The server's first packet of a flow.
    L4Response,
}

impl Event {
    /// Every event.
    pub const ALL: [Self; 2] = [Self::L4Request, Self::L4Response];

    /// Avi's name for it in its API.
    pub const fn api_name(self) -> &'static str {
        match self {
            Self::L4Request => "VS_DATASCRIPT_EVT_L4_REQUEST",
            Self::L4Response => "VS_DATASCRIPT_EVT_L4_RESPONSE",
        }
    }

    /// The name that scripts' authors use.
    pub fn name(self) -> &'static str {
        self.api_name().trim_start_matches("VS_DATASCRIPT_EVT_")
    }

    /// A set's script for this event.
    pub fn script(self, config: &Config, set: SetIndex) -> Option<&Arc<Script>> {
        let set = config.datascripts.get(set.0)?;
        match self {
            Self::L4Request => set.l4_request.as_ref(),
            Self::L4Response => set.l4_response.as_ref(),
        }
    }
}

/// The flow that an event is about.
#[derive(Clone, Copy, Debug)]
pub struct Flow<'a> {
    /// The virtual service's name.
    pub virtual_service: &'a str,
    /// The transport.
    pub protocol: Protocol,
    /// Who sent the flow's first packet.
    pub client: SocketAddr,
    /// The address and port that it was sent to.
    pub vip: SocketAddr,
    /// What follows the transport header of the packet; of a stream, what is buffered, from its
    /// first byte on.
    pub payload: &'a [u8],
    /// Of a stream: whether waiting may bring more payload. `None`: it is one packet's.
    pub more: Option<More>,
    /// Where the flow goes if no script sends it elsewhere.
    pub destination: Option<Destination>,
    /// The flow's server; `None` before one is chosen.
    pub server: Option<SocketAddr>,
}

/// What a script may ask about the world outside.
pub trait World {
    /// Whether a server takes new flows now.
    fn server_up(&self, pool: PoolIndex, server: ServerIndex) -> bool;
}

/// What the scripts of an event decided.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Outcome {
    /// The last `avi.pool.select` or `avi.poolgroup.select`.
    pub selection: Option<Selection>,
    /// `avi.vs.persist`. It chooses the pool: then `selection` is `None`.
    pub persist: Option<Persist>,
    /// `avi.vs.close_conn`; nothing else matters then.
    pub close: Option<Close>,
    /// `avi.pool.chash`: what a consistent-hash pool hashes for this flow.
    pub chash: Option<Vec<u8>>,
    /// `avi.vs.log` of all scripts, [`LOG_CHARACTERS`] at most.
    pub log: String,
    /// The script that failed, if one did; none after it ran, and it left nothing in here.
    pub failure: Option<Box<Failure>>,
}

/// Where a script sends a flow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Selection {
    /// What it chose.
    pub chosen: Chosen,
    /// What chose it.
    pub by: Place,
}

/// What a script may choose.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Chosen {
    /// A pool: its algorithm picks the server.
    Pool(PoolIndex),
    /// A server of a pool, and the port to reach it at. It may be down.
    Server(PoolIndex, ServerIndex, u16),
    /// A pool group.
    Group(PoolGroupIndex),
}

impl Chosen {
    /// As a destination, however exact the script was.
    pub const fn destination(self) -> Destination {
        match self {
            Self::Pool(pool) | Self::Server(pool, ..) => Destination::Pool(pool),
            Self::Group(group) => Destination::Group(group),
        }
    }
}

/// `avi.vs.persist`: the caller picks the server, with the default table's entry of this key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Persist {
    /// The key.
    pub key: Vec<u8>,
    /// Seconds.
    pub lifetime: u32,
    /// The pool that the script named, else where the flow goes anyway.
    pub destination: Destination,
    /// What called it.
    pub by: Place,
}

/// `avi.vs.close_conn`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Close {
    /// Whether the script asked for a reset.
    pub reset: bool,
    /// What called it.
    pub by: Place,
}

/// A line of a script.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    /// Whose script.
    pub set: SetIndex,
    /// Which of its scripts; [`Event::script`] leads to the file.
    pub event: Event,
    /// From 1; 0 if it cannot be told.
    pub line: u32,
}

/// A run that ended with an error.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("{}:{line}: {message}", script.display())]
pub struct Failure {
    /// Whose script.
    pub set: SetIndex,
    /// What it ran for.
    pub event: Event,
    /// The script's file.
    pub script: PathBuf,
    /// Where it failed, from 1; 0 if it cannot be told, as when memory ran out.
    pub line: u32,
    /// Lua's message, without the position.
    pub message: String,
    /// Lua's stack traceback; empty if memory ran out.
    pub traceback: String,
    /// What is to become of the flow.
    pub on_error: OnError,
}

/// Something wrong with a script that shows without running it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    /// The script, or a protocol parser's file.
    pub script: Arc<Script>,
    /// From 1.
    pub line: u32,
    /// In characters, from 1; 1 for an error of syntax, of which Lua tells only the line.
    pub column: u32,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
}

/// Why scripts cannot be loaded.
#[derive(Debug, Error)]
pub enum ScriptError {
    /// A script does not compile.
    #[error("{}:{}: {}", .0.script.path.display(), .0.line, .0.message)]
    Compile(Problem),
    /// The scripts leave too little of the memory for running them.
    #[error(
        "the compiled scripts take {used} bytes of Lua memory; `memory` under [instance.script] \
         is {limit} and must be at least twice as much as they take"
    )]
    Memory {
        /// Bytes of the state with everything loaded.
        used: usize,
        /// The configured bound.
        limit: usize,
    },
    /// Lua itself failed.
    #[error("the Lua state cannot be set up: {0}")]
    Lua(String),
}

/// As text, for the error is told on other threads and Lua's own stays on its state's.
impl From<mlua::Error> for ScriptError {
    fn from(error: mlua::Error) -> Self {
        Self::Lua(error.to_string())
    }
}
