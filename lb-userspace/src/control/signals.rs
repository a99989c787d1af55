//! The signals that a daemon listens to.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Each may come any number of times.
pub(super) struct Signals {
    /// SIGTERM.
    pub terminate: Signal,
    /// SIGINT.
    pub interrupt: Signal,
    /// SIGHUP.
    pub hangup: Signal,
}

impl Signals {
    /// From now on.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }
}
