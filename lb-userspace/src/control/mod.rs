//! The daemon's own thread: what is neither a packet nor a decision.

pub mod api;
mod connection_log;
mod daemon;
mod exhaustion;
pub mod explain;
mod former;
mod handshakes;
mod lock;
mod metrics;
pub mod names;
pub mod network;
pub mod paths;
mod reload;
mod serve;
pub mod servers;
mod signals;
mod start;
pub mod status;
pub mod tables;
mod targets;
mod trace;

pub use connection_log::LogSender;
pub use daemon::{RunOptions, detach, run};
pub use lock::{Lock, LockError};
pub use reload::load;
