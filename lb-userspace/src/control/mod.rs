//! The daemon's own thread: what is neither a packet nor a decision.

pub mod network;
