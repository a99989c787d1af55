//! Health monitors: which servers can take flows.
//!
//! A thread of its own asks servers what their pools' monitors say, and nothing here is ever
//! waited for by a worker: a server's state change is one write to
//! [`ServerStates`](crate::pool::ServerStates), which workers read when they decide a flow. Flows
//! that there are already stay where they are.
//!
//! - [`state`] judges: from answers to a verdict, without I/O and without a clock.
//! - [`board`] holds the verdict on every server and what led to it.
//! - [`rhythm`] says when a server is asked, so that thousands are not asked at once.
//! - [`checks`] ask, each in its protocol, with bounded time and memory.
//! - [`service`] runs the checks, as many at once as there may be.
//!
//! There is never more than one check under way of one server by one monitor, so that nothing
//! can pile up: a check that begins late is late, and the next one comes in its turn.

mod board;
mod checks;
mod rhythm;
mod service;
mod state;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use board::{Board, MonitorStatus, ServerHealth, Target};
pub use checks::{Answer, Fault};
pub use service::Health;
pub use state::Verdict;
