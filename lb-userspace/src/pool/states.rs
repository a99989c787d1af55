//! What changes about servers while flows are decided, shared by all workers.

use std::{
    sync::atomic::{
        AtomicU32, AtomicU64,
        Ordering::{Acquire, Relaxed, Release},
    },
    time::Duration,
};

use lb_common::{admission::Rate, layout::CATALOG};

use super::{
    share::{Failures, Ramp},
    smoothed::Smoothed,
    standing::{Order, SharedStanding, Standing},
};
use crate::config::ServerPolicy;

/// The live state of every server that the instance has known, by its number in the catalog: it
/// stays with the server over reloads, and adopted flows lead to it. Shared by all workers.
#[derive(Debug)]
pub struct ServerStates {
    states: Box<[ServerState]>,
    /// Apart from what workers count, so that reading it, which every decision does, meets
    /// nobody's writes.
    standings: Box<[SharedStanding]>,
    departures: AtomicU32,
    /// How often it has changed whose new flows a server takes, counted from 1.
    turnovers: AtomicU32,
}

/// One server's. On a cache line of its own: every worker counts in it.
#[derive(Debug, Default)]
#[repr(align(64))]
struct ServerState {
    connections: AtomicU32,
    /// How long it takes to answer flows' first packets.
    answers: Smoothed,
    /// How long it takes to pass its monitors' checks.
    checks: Smoothed,
    /// Flows that ever began.
    begun: AtomicU64,
    /// When the next flow is due by the server's rate.
    due: AtomicU64,
    ramp: Ramp,
    failures: Failures,
}

impl Default for ServerStates {
    fn default() -> Self {
        let all = CATALOG as usize;
        Self {
            states: std::iter::repeat_with(ServerState::default).take(all).collect(),
            standings: std::iter::repeat_with(SharedStanding::default).take(all).collect(),
            departures: AtomicU32::new(0),
            turnovers: AtomicU32::new(1),
        }
    }
}

impl ServerStates {
    /// A flow to the server has begun. Number 0 stands for no server.
    pub fn begun(&self, number: u32) {
        if let Some(state) = self.state(number) {
            state.connections.fetch_add(1, Relaxed);
            state.begun.fetch_add(1, Relaxed);
        }
    }

    /// A flow of an earlier daemon goes on.
    pub fn adopted(&self, number: u32) {
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
        if let Some(state) = self.state(number) {
            state.answers.observe(after);
        }
    }

    /// The server has passed a check that took this time.
    pub fn passed(&self, number: u32, after: Duration) {
        if let Some(state) = self.state(number) {
            state.checks.observe(after);
        }
    }

    /// Flows that the server has.
    pub fn connections(&self, number: u32) -> u32 {
        self.state(number).map_or(0, |state| state.connections.load(Relaxed))
    }

    /// Flows that ever began.
    pub fn total(&self, number: u32) -> u64 {
        self.state(number).map_or(0, |state| state.begun.load(Relaxed))
    }

    /// How long the server takes to answer, lately: first packets and checks together. Servers of
    /// one pool have the same monitors, so that their sums compare.
    pub fn response_time(&self, number: u32) -> Option<Duration> {
        let state = self.state(number)?;
        match (state.answers.get(), state.checks.get()) {
            (None, None) => None,
            (answers, checks) => Some(answers.unwrap_or_default() + checks.unwrap_or_default()),
        }
    }

    /// How long the server takes to answer first packets, lately.
    pub fn answer_time(&self, number: u32) -> Option<Duration> {
        self.state(number)?.answers.get()
    }

    /// How long it takes to pass checks, lately.
    pub fn check_time(&self, number: u32) -> Option<Duration> {
        self.state(number)?.checks.get()
    }

    /// Whether its limits let the server take one more flow now. Workers do not wait for each
    /// other: those that decide in the same instant may each find the last place free.
    pub fn has_room(&self, number: u32, policy: &ServerPolicy, now: Duration) -> bool {
        let Some(state) = self.state(number).filter(|_| policy.has_limits()) else { return true };
        let most = policy.max_connections;
        (most == 0 || state.connections.load(Relaxed) < most)
            && Rate::per_second(policy.max_connection_rate).is_due(&state.due, nanos(now))
    }

    /// Counts a flow against the server's rate.
    pub fn spend(&self, number: u32, policy: &ServerPolicy, now: Duration) {
        if policy.max_connection_rate != 0
            && let Some(state) = self.state(number)
        {
            Rate::per_second(policy.max_connection_rate).admits(&state.due, nanos(now));
        }
    }

    /// A handshake with the server came about, or a flow failed at it.
    pub fn observe(&self, number: u32, failed: bool, now: Duration) {
        let (Some(state), Some(standing)) = (self.state(number), self.shared(number)) else {
            return;
        };
        if failed || standing.load().is_failing() {
            standing.set(Standing::FAILING, state.failures.observe(failed, now));
        }
    }

    /// The part of its ratio that the server is to get.
    pub fn share(&self, number: u32, policy: &ServerPolicy, now: Duration) -> f32 {
        let standing = self.standing(number);
        let Some(state) = self.state(number) else { return 1.0 };
        let mut share = 1.0;
        if standing.is_rising() {
            share = state.ramp.share(policy.connection_ramp, now);
            if share >= 1.0 {
                self.set(number, Standing::RISING, false);
            }
        }
        if standing.is_failing() && policy.passive_monitor {
            share *= state.failures.share(now);
        }
        share
    }

    /// The parts of its ratio that a ramp and that failures leave to the server. Looking at them
    /// begins no ramp.
    pub fn shares(&self, number: u32, policy: &ServerPolicy, now: Duration) -> (f32, f32) {
        let standing = self.standing(number);
        let Some(state) = self.state(number) else { return (1.0, 1.0) };
        let rising = standing.is_rising().then(|| state.ramp.look(policy.connection_ramp, now));
        let failing = standing.is_failing() && policy.passive_monitor;
        let failing = failing.then(|| state.failures.share(now));
        (rising.unwrap_or(1.0), failing.unwrap_or(1.0))
    }

    /// What is held of a server.
    pub fn standing(&self, number: u32) -> Standing {
        self.shared(number).map(SharedStanding::load).unwrap_or_default()
    }

    /// Its monitors hold the server to be down, or no longer do: then it rises.
    pub fn set_down(&self, number: u32, is_down: bool) {
        if self.set(number, Standing::DOWN, is_down) {
            self.turn_over();
            if !is_down {
                self.rise(number);
            }
        }
    }

    /// What an operator wants, whatever the configuration says; `None` for what that says.
    pub fn set_order(&self, number: u32, order: Option<Order>) {
        if let Some(standing) = self.shared(number) {
            standing.set_order(order);
            self.turn_over();
        }
    }

    /// Whether the server's flows are to end: workers see it at their next look at each.
    pub fn set_gone(&self, number: u32, is_gone: bool) {
        if self.set(number, Standing::GONE, is_gone) {
            self.turn_over();
            self.departures.fetch_add(u32::from(is_gone), Relaxed);
        }
    }

    /// How often a server has become one whose flows are to end.
    pub fn departures(&self) -> u32 {
        self.departures.load(Relaxed)
    }

    /// A number that is another one whenever it has changed whose new flows a server takes; never 0.
    pub fn turnover(&self) -> u32 {
        self.turnovers.load(Acquire).max(1)
    }

    /// What has changed is seen by whoever sees the new number.
    fn turn_over(&self) {
        self.turnovers.fetch_add(1, Release);
    }

    /// From its next flow on the server is to take its whole share only after a while.
    pub fn rise(&self, number: u32) {
        if let Some(state) = self.state(number) {
            state.ramp.begin();
            self.set(number, Standing::RISING, true);
        }
    }

    fn set(&self, number: u32, bit: u8, value: bool) -> bool {
        self.shared(number).is_some_and(|standing| standing.set(bit, value))
    }

    fn state(&self, number: u32) -> Option<&ServerState> {
        self.states.get(number as usize).filter(|_| number != 0)
    }

    fn shared(&self, number: u32) -> Option<&SharedStanding> {
        self.standings.get(number as usize).filter(|_| number != 0)
    }
}

fn nanos(now: Duration) -> u64 {
    u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn connections_are_counted_and_nothing_stands_for_no_server() {
        let states = ServerStates::default();
        states.begun(7);
        states.begun(7);
        states.begun(0);
        states.adopted(7);
        states.ended(7);
        assert_eq!(
            (states.connections(7), states.connections(8), states.connections(0)),
            (2, 0, 0)
        );
        assert_eq!((states.total(7), states.total(8)), (2, 0));
        states.begun(CATALOG);
        assert_eq!(states.connections(CATALOG), 0);
    }

    #[test]
    fn a_server_that_is_down_is_down_until_it_is_not_and_others_are_as_they_were() {
        let states = ServerStates::default();
        for number in [7, 0, CATALOG] {
            states.set_down(number, true);
        }
        assert_eq!(
            [0, 6, 7, 8, CATALOG].map(|it| states.standing(it).is_down()),
            [false, false, true, false, false]
        );
        assert!(!states.standing(7).is_rising());
        states.set_down(7, false);
        assert!(!states.standing(7).is_down() && states.standing(7).is_rising());
        states.set_down(8, false);
        assert!(!states.standing(8).is_rising(), "it was not down");
    }

    #[test]
    fn whatever_changes_who_a_server_takes_is_a_turnover_and_nothing_else() {
        let states = ServerStates::default();
        let turns_over = |change: &dyn Fn()| {
            let before = states.turnover();
            change();
            states.turnover() != before
        };
        assert!(turns_over(&|| states.set_down(7, true)));
        assert!(!turns_over(&|| states.set_down(7, true)));
        assert!(turns_over(&|| states.set_down(7, false)));
        assert!(turns_over(&|| states.set_order(7, Some(Order::Enable))));
        assert!(turns_over(&|| states.set_gone(7, true)));
        assert!(!turns_over(&|| states.begun(7)));
        assert!(!turns_over(&|| states.observe(7, true, SECOND)));
        assert!(!turns_over(&|| states.rise(7)));
    }

    #[test]
    fn a_server_rises_to_its_whole_share_and_is_as_others_again() {
        let states = ServerStates::default();
        let policy = ServerPolicy { connection_ramp: SECOND * 10, ..ServerPolicy::default() };
        let share = |second: u32| states.share(7, &policy, SECOND * second);
        assert_eq!(share(1), 1.0);
        states.rise(7);
        assert!(share(2) < 0.1);
        assert!((share(7) - 0.5).abs() < 0.01);
        assert!((share(12), states.standing(7).is_rising()) == (1.0, false));
        states.rise(7);
        assert_eq!(states.share(7, &ServerPolicy::default(), SECOND * 20), 1.0, "without a ramp");
    }

    #[test]
    fn who_only_looks_begins_no_ramp() {
        let states = ServerStates::default();
        let policy = ServerPolicy { connection_ramp: SECOND * 10, ..ServerPolicy::default() };
        let look = |second: u32| states.shares(7, &policy, SECOND * second);
        assert_eq!(look(1), (1.0, 1.0));
        states.rise(7);
        assert!(look(1).0 < 0.1 && look(9).0 < 0.1, "no flow was decided yet");
        states.share(7, &policy, SECOND * 10);
        assert!((look(15).0 - 0.5).abs() < 0.01);
        assert_eq!(look(20), (1.0, 1.0));
        for _ in 0..4 {
            states.observe(7, true, SECOND * 20);
        }
        assert!(look(20).1 < 0.35);
    }

    #[test]
    fn what_fails_counts_only_where_it_is_to() {
        let states = ServerStates::default();
        let unwatched = ServerPolicy { passive_monitor: false, ..ServerPolicy::default() };
        let share = |policy: &ServerPolicy| states.share(7, policy, SECOND);
        states.observe(7, false, SECOND);
        assert!(!states.standing(7).is_failing(), "nothing has failed before");
        for _ in 0..4 {
            states.observe(7, true, SECOND);
        }
        assert!(share(&ServerPolicy::default()) < 0.35);
        assert_eq!(share(&unwatched), 1.0);
        for _ in 0..20 {
            states.observe(7, false, SECOND);
        }
        assert!((share(&ServerPolicy::default()), states.standing(7).is_failing()) == (1.0, false));
    }

    #[test]
    fn a_server_is_full_by_number_and_by_rate() {
        let states = ServerStates::default();
        let two = ServerPolicy { max_connections: 2, ..ServerPolicy::default() };
        let room = |policy: &ServerPolicy, second| states.has_room(7, policy, SECOND * second);
        states.begun(7);
        assert!(room(&two, 1));
        states.begun(7);
        assert!(!room(&two, 1) && room(&ServerPolicy::default(), 1));
        states.ended(7);
        assert!(room(&two, 1));
        let rate = ServerPolicy { max_connection_rate: 3, ..ServerPolicy::default() };
        for _ in 0..3 {
            assert!(room(&rate, 5) && room(&rate, 5), "asking costs nothing");
            states.spend(7, &rate, SECOND * 5);
        }
        assert!(!room(&rate, 5) && room(&rate, 6));
    }

    #[test]
    fn first_packets_and_checks_make_a_response_time_together() {
        let states = ServerStates::default();
        let millis = Duration::from_millis;
        assert_eq!(states.response_time(3), None);
        states.passed(3, millis(8));
        assert_eq!(states.response_time(3), Some(millis(8)));
        states.answered(3, millis(2));
        assert_eq!(states.response_time(3), Some(millis(10)));
        assert_eq!(
            (states.answer_time(3), states.check_time(3)),
            (Some(millis(2)), Some(millis(8)))
        );
    }
}
