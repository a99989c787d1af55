//! What the algorithms ask about a pool's servers at this moment.

use std::time::Duration;

use crate::config::ServerIndex;

/// The servers of one pool, as they are now.
pub trait Live {
    /// Whether a server takes new flows.
    fn is_usable(&self, server: ServerIndex) -> bool;

    /// The part that it is to get of what its ratio says: 1 but for a server that ramps up, or at
    /// which flows fail.
    fn share(&self, server: ServerIndex) -> f32;

    /// Flows that it has.
    fn connections(&self, server: ServerIndex) -> u32;

    /// How long it takes to answer, lately; `None` if it was not seen to answer yet.
    fn response_time(&self, server: ServerIndex) -> Option<Duration>;

    /// Its flows with one more, for what it is to get.
    fn load(&self, server: ServerIndex, ratio: u16) -> f64 {
        let due = f64::from(ratio) * f64::from(self.share(server));
        (f64::from(self.connections(server)) + 1.0) / due
    }
}

/// Servers that nothing is known about but whether they take flows.
impl<F: Fn(ServerIndex) -> bool> Live for F {
    fn is_usable(&self, server: ServerIndex) -> bool {
        self(server)
    }

    fn share(&self, _: ServerIndex) -> f32 {
        1.0
    }

    fn connections(&self, _: ServerIndex) -> u32 {
        0
    }

    fn response_time(&self, _: ServerIndex) -> Option<Duration> {
        None
    }
}
