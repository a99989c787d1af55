//! What changes about servers while flows are decided.

use std::{
    sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
    time::Duration,
};

use lb_common::layout::CATALOG;

use crate::config::ServerIndex;

/// What the algorithms ask about a pool's servers at this moment.
pub trait Live {
    /// Whether a server takes new flows.
    fn is_usable(&self, server: ServerIndex) -> bool;

    /// Flows that it has.
    fn connections(&self, server: ServerIndex) -> u32;

    /// How long it takes to answer, lately; `None` if it was not seen to answer yet.
    fn response_time(&self, server: ServerIndex) -> Option<Duration>;
}

/// Servers that nothing is known about but whether they take flows.
impl<F: Fn(ServerIndex) -> bool> Live for F {
    fn is_usable(&self, server: ServerIndex) -> bool {
        self(server)
    }

    fn connections(&self, _: ServerIndex) -> u32 {
        0
    }

    fn response_time(&self, _: ServerIndex) -> Option<Duration> {
        None
    }
}

/// The live state of every server that the instance has known, by its number in the catalog: it
/// stays with the server over reloads, and adopted flows lead to it. Shared by all workers.
#[derive(Debug)]
pub struct ServerStates {
    states: Box<[ServerState]>,
    /// Those that their monitors hold to be down. Apart from what workers count, so that reading
    /// it, which every decision does, meets nobody's writes.
    down: Box<[AtomicBool]>,
}

/// One server's. On a cache line of its own: every worker counts in it.
#[derive(Debug, Default)]
#[repr(align(64))]
struct ServerState {
    connections: AtomicU32,
    /// Microseconds, smoothed; 0 if never measured.
    response: AtomicU32,
}

/// A measurement moves the smoothed time by an eighth of the difference, as TCP's own does
/// (RFC 6298 §2).
const SMOOTHING: u32 = 8;

impl Default for ServerStates {
    fn default() -> Self {
        Self {
            states: std::iter::repeat_with(ServerState::default).take(CATALOG as usize).collect(),
            down: std::iter::repeat_with(AtomicBool::default).take(CATALOG as usize).collect(),
        }
    }
}

impl ServerStates {
    /// A flow to the server has begun. Number 0 stands for no server.
    pub fn begun(&self, number: u32) {
        if let Some(state) = self.state(number) {
            state.connections.fetch_add(1, Relaxed);
        }
    }

    /// A flow to the server has ended that was counted when it began.
    pub fn ended(&self, number: u32) {
        if let Some(state) = self.state(number) {
            state.connections.fetch_sub(1, Relaxed);
        }
    }

    /// The server has answered a flow's first packet after this time.
    pub fn answered(&self, number: u32, after: Duration) {
        let Some(state) = self.state(number) else { return };
        let sample = u32::try_from(after.as_micros()).unwrap_or(u32::MAX).max(1);
        let smooth = |known: u32| match known {
            0 => Some(sample),
            known => Some((known - known / SMOOTHING).saturating_add(sample / SMOOTHING).max(1)),
        };
        // `smooth` always gives a value.
        let _ = state.response.fetch_update(Relaxed, Relaxed, smooth);
    }

    /// Flows that the server has.
    pub fn connections(&self, number: u32) -> u32 {
        self.state(number).map_or(0, |state| state.connections.load(Relaxed))
    }

    /// How long the server takes to answer, lately.
    pub fn response_time(&self, number: u32) -> Option<Duration> {
        let micros = self.state(number)?.response.load(Relaxed);
        (micros != 0).then(|| Duration::from_micros(micros.into()))
    }

    /// Its monitors hold the server to be down, or no longer do.
    pub fn set_down(&self, number: u32, is_down: bool) {
        if let Some(down) = self.down.get(number as usize).filter(|_| number != 0) {
            down.store(is_down, Relaxed);
        }
    }

    /// Whether its monitors hold the server to be down. One that nobody watches is not.
    pub fn is_down(&self, number: u32) -> bool {
        self.down.get(number as usize).is_some_and(|down| down.load(Relaxed))
    }

    fn state(&self, number: u32) -> Option<&ServerState> {
        self.states.get(number as usize).filter(|_| number != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_counted_and_nothing_stands_for_no_server() {
        let states = ServerStates::default();
        states.begun(7);
        states.begun(7);
        states.begun(0);
        states.ended(7);
        assert_eq!(
            (states.connections(7), states.connections(8), states.connections(0)),
            (1, 0, 0)
        );
        states.begun(CATALOG);
        assert_eq!(states.connections(CATALOG), 0);
    }

    #[test]
    fn a_server_that_is_down_is_down_until_it_is_not_and_others_are_as_they_were() {
        let states = ServerStates::default();
        states.set_down(7, true);
        states.set_down(0, true);
        states.set_down(CATALOG, true);
        assert_eq!(
            [0, 6, 7, 8, CATALOG].map(|it| states.is_down(it)),
            [false, false, true, false, false]
        );
        states.set_down(7, false);
        assert!(!states.is_down(7));
    }

    #[test]
    fn response_times_follow_the_measurements_slowly() {
        let states = ServerStates::default();
        assert_eq!(states.response_time(3), None);
        let millis = Duration::from_millis;
        states.answered(3, millis(8));
        assert_eq!(states.response_time(3), Some(millis(8)));
        states.answered(3, millis(16));
        assert_eq!(states.response_time(3), Some(millis(9)));
        for _ in 0..100 {
            states.answered(3, millis(1));
        }
        let settled = states.response_time(3).unwrap();
        assert!(settled < Duration::from_micros(1_010), "{settled:?}");
        states.answered(3, Duration::MAX);
        assert!(states.response_time(3).unwrap() > Duration::from_secs(500));
    }
}
