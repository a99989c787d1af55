//! Names of servers, resolved and followed.
//!
//! Every name of the configuration is asked for again when its answer grows old, by a task of its
//! own on the control thread; [`Book`] holds what is known. The daemon takes a
//! [`Resolution`](crate::config::Resolution) from it whenever an address came or went, and makes
//! the next generation of it as a reload does. No worker ever waits for a name.
//!
//! A name that can no longer be resolved keeps its last addresses, whatever the reason: that a
//! name server fails, or has lost a zone, must not take servers away that are well. Whether they
//! are is for health monitors to say.

mod book;
mod follower;
mod memory;
mod pace;
mod resolver;
mod status;
#[cfg(test)]
mod tests;

pub use follower::Names;
pub use status::NameStatus;

use std::{net::Ipv4Addr, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;

/// What a name server said of a name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    /// At least one, in any order.
    pub addresses: Vec<Ipv4Addr>,
    /// How long it holds.
    pub ttl: Duration,
}

/// An answer, or why there is none.
pub type Asked = Result<Answer, String>;

/// Asks for a name.
pub type Ask = Arc<dyn Fn(Arc<str>) -> BoxFuture<'static, Asked> + Send + Sync>;
