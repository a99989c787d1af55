//! Whether a server is in service, and what becomes of its flows: the pure core.
//!
//! | who says so | it is out of service | its flows end |
//! |---|---|---|
//! | an operator's order | as long as the order stands | after the order's time |
//! | the configuration: `enabled = false` | as long as it says so, unless an order enables it | after `graceful_disable_timeout` |
//! | it left the configuration | until it comes back | after the `graceful_disable_timeout` that it had |
//! | its monitors, with `server_down = "reset"` | as long as they hold it to be down | at once |
//!
//! Time runs from the moment that took the server out of service. What comes later does not make it
//! longer, but for an order: an operator may think again.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    config::{DisableType, ServerDown, ServerPolicy},
    engine::Now,
    pool::Order,
};

/// What an operator has ordered.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Ordered {
    /// It takes flows.
    Enable,
    /// It takes no new flows.
    Disable {
        /// But those of clients whom persistence leads there.
        persistent: bool,
        /// How long its flows go on; `None` for as long as they last.
        patience: Option<Duration>,
    },
}

impl Ordered {
    /// As the workers hear it.
    pub fn order(self) -> Order {
        match self {
            Self::Enable => Order::Enable,
            Self::Disable { persistent: true, .. } => Order::Disable(DisableType::AllowPersistent),
            Self::Disable { persistent: false, .. } => Order::Disable(DisableType::DisallowNew),
        }
    }
}

/// Who has taken a server out of service.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Cause {
    /// An operator's order.
    Order,
    /// The configuration disables it.
    Configuration,
    /// It is in the configuration no more.
    Removed,
}

/// That a server is out of service.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Out {
    /// By whom.
    pub cause: Cause,
    /// Since when.
    pub since: Now,
    /// When its flows were to end before the cause was this one, on the monotonic clock.
    limit: Option<Duration>,
}

/// What outlives the daemon, of a server that was ordered or is out of service.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Kept {
    enabled: Option<bool>,
    ordered: Option<Ordered>,
    out: Option<Out>,
    deadline: Option<Duration>,
    /// Of its pool.
    pub patience: Option<Duration>,
}

/// One server.
#[derive(Clone, Debug)]
pub struct Tenure {
    /// Whether the configuration enables it; `None`: it is in there no more.
    enabled: Option<bool>,
    policy: ServerPolicy,
    ordered: Option<Ordered>,
    out: Option<Out>,
}

impl Tenure {
    /// A server of the configuration.
    pub fn new(enabled: bool, policy: ServerPolicy, now: Now) -> Self {
        let mut tenure = Self { enabled: Some(enabled), policy, ordered: None, out: None };
        tenure.settle(now, None);
        tenure
    }

    /// A server that is not in the configuration, and has flows.
    pub fn removed(policy: ServerPolicy, now: Now) -> Self {
        let mut tenure = Self { enabled: None, policy, ordered: None, out: None };
        tenure.settle(now, None);
        tenure
    }

    /// Goes on where an earlier daemon ended, which kept this of the server.
    pub fn restore(&mut self, kept: &Kept, now: Now) {
        // Who has edited the file meanwhile means what it says now.
        if self.enabled.is_some() && kept.enabled == self.enabled {
            self.ordered = kept.ordered;
        }
        self.out = kept.out;
        self.settle(now, kept.deadline);
    }

    /// What a later daemon has to know; `None` if there is nothing.
    pub fn kept(&self) -> Option<Kept> {
        let Self { enabled, ordered, out, .. } = *self;
        let patience = self.policy.graceful_disable;
        let kept = Kept { enabled, ordered, out, deadline: self.deadline(), patience };
        (ordered.is_some() || out.is_some()).then_some(kept)
    }

    /// The configuration says this of it, `None` if nothing any more. True if it comes into
    /// service.
    pub fn configure(&mut self, said: Option<(bool, ServerPolicy)>, now: Now) -> bool {
        let enabled = said.map(|(enabled, _)| enabled);
        let limit = self.deadline();
        if enabled != self.enabled {
            // Who edits the file means what it says now.
            self.ordered = None;
        }
        self.enabled = enabled;
        if let Some((_, policy)) = said {
            self.policy = policy;
        }
        self.settle(now, limit)
    }

    /// An operator's order. `None` if that is how it is already, else whether the server comes
    /// into service.
    pub fn order(&mut self, wanted: Ordered, now: Now) -> Option<bool> {
        let as_configured = match self.enabled? {
            true => Ordered::Enable,
            false => self.disabled(),
        };
        let in_force = self.ordered.unwrap_or(as_configured);
        if wanted == in_force {
            return None;
        }
        self.ordered = (wanted != as_configured).then_some(wanted);
        if wanted != Ordered::Enable {
            self.out = None;
        }
        Some(self.settle(now, None))
    }

    /// A server as its pool disables it.
    pub fn disabled(&self) -> Ordered {
        Ordered::Disable {
            persistent: self.policy.disable_type == DisableType::AllowPersistent,
            patience: self.policy.graceful_disable,
        }
    }

    /// The order in force.
    pub fn ordered(&self) -> Option<Ordered> {
        self.ordered
    }

    /// Whether the configuration enables it; `None`: it is in there no more.
    pub fn enabled(&self) -> Option<bool> {
        self.enabled
    }

    /// How its pool treats it, or did.
    pub fn policy(&self) -> &ServerPolicy {
        &self.policy
    }

    /// Since when, and by whom, it is out of service; `None` if it is not.
    pub fn out(&self) -> Option<&Out> {
        self.out.as_ref()
    }

    /// Whether clients are still taken whom persistence leads to it, though it is out of service.
    pub fn takes_persistent(&self) -> bool {
        let disabled = self.ordered.unwrap_or_else(|| self.disabled());
        self.enabled.is_some() && matches!(disabled, Ordered::Disable { persistent: true, .. })
    }

    /// When its flows end that it has left, on the monotonic clock.
    pub fn deadline(&self) -> Option<Duration> {
        self.out.and_then(|out| self.deadline_of(&out))
    }

    /// Whether its flows are to end.
    pub fn is_gone(&self, now: Duration, is_down: bool) -> bool {
        let resets = self.policy.server_down == ServerDown::Reset && is_down;
        resets || self.deadline().is_some_and(|deadline| deadline <= now)
    }

    fn deadline_of(&self, out: &Out) -> Option<Duration> {
        let patience = match (out.cause, self.ordered) {
            (Cause::Order, Some(Ordered::Disable { patience, .. })) => patience,
            _ => self.policy.graceful_disable,
        };
        let own = patience.map(|patience| out.since.monotonic.saturating_add(patience));
        own.into_iter().chain(out.limit).min()
    }

    /// Why it is to be out of service; `None` if it is to be in service.
    fn cause(&self) -> Option<Cause> {
        match (self.enabled, self.ordered) {
            (None, _) => Some(Cause::Removed),
            (_, Some(Ordered::Disable { .. })) => Some(Cause::Order),
            (_, Some(Ordered::Enable)) | (Some(true), None) => None,
            (Some(false), None) => Some(Cause::Configuration),
        }
    }

    /// Draws the conclusion. True if the server comes into service.
    fn settle(&mut self, now: Now, limit: Option<Duration>) -> bool {
        let was = self.out;
        self.out = self.cause().map(|cause| match was {
            Some(out) if out.cause == cause => out,
            Some(_) | None => Out { cause, since: now, limit },
        });
        was.is_some() && self.out.is_none()
    }
}
