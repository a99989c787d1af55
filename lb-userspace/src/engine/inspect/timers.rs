//! What follows from time in each state.

use std::time::Duration;

use super::{
    Action, Because, End, Side,
    machine::{Actions, Inspection, State},
};

impl Inspection {
    /// When [`Input::Timer`] is due; `None` once it is over.
    pub fn wakes_at(&self) -> Option<Duration> {
        let due = match &self.state {
            State::Collecting { .. } => {
                let end = self.decided_until.min(self.idle_until);
                self.silent_at.map_or(end, |silent| silent.min(end))
            }
            State::Deciding => self.opened_until.unwrap_or(self.decided_until),
            State::Opening(opening) => opening.due(),
            State::Delivering(joined) => joined.due(),
            State::Closing(closing) => closing.due(),
            State::Over => return None,
        };
        Some(self.collector.acknowledgement_due().map_or(due, |owed| owed.min(due)))
    }

    /// Does what is due.
    pub(super) fn tick(&mut self, now: Duration, actions: &mut Actions) {
        match &mut self.state {
            State::Collecting { .. } => self.tick_collecting(now, actions),
            State::Deciding => {
                let until = self.opened_until.unwrap_or(self.decided_until);
                if now >= until {
                    self.refuse(End::Undecided, actions);
                }
            }
            State::Opening(opening) => {
                let progress = opening.tick(now);
                self.progress(progress, now, actions);
            }
            State::Delivering(joined) if joined.is_late(now) => {
                actions.push(Action::Send(Side::Server, joined.reset_server()));
                self.refuse(End::Undelivered, actions);
            }
            State::Delivering(joined) => joined.tick(now, actions),
            State::Closing(_) => self.tick_closing(now, actions),
            State::Over => {}
        }
    }

    fn tick_collecting(&mut self, now: Duration, actions: &mut Actions) {
        if now >= self.decided_until.min(self.idle_until) {
            return self.refuse(End::Idle, actions);
        }
        if self.silent_at.is_some_and(|silent| now >= silent) {
            self.silent_at = None;
            if self.payload().is_empty() {
                self.ask(Because::Silent, actions);
            }
        }
    }

    fn tick_closing(&mut self, now: Duration, actions: &mut Actions) {
        let State::Closing(closing) = &mut self.state else { return };
        if closing.is_done(&self.collector) {
            self.acknowledge_what_is_due(now, actions);
            self.end(End::Closed, actions);
        } else if closing.is_late(now) {
            self.refuse(End::Closed, actions);
        } else if let Some(fin) = closing.tick(now, &mut self.collector) {
            actions.push(Action::Send(Side::Client, fin));
        }
    }
}
