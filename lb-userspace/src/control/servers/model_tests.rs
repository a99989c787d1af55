//! A server's tenure against a model that keeps one moment: when its flows end.

use std::time::{Duration, SystemTime};

use proptest::prelude::*;

use super::tenure::{Ordered, Tenure};
use crate::{
    config::{ServerDown, ServerPolicy},
    engine::Now,
};

pub fn at(seconds: u64) -> Now {
    let monotonic = Duration::from_secs(1000 + seconds);
    Now { monotonic, wall: SystemTime::UNIX_EPOCH + Duration::from_secs(seconds) }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Wait(u64),
    /// The configuration enables it or not, or has it no more.
    Configure(Option<bool>),
    Enable,
    Disable(Option<u64>),
    Restart,
    /// Its monitors' verdict.
    Down(bool),
}

fn step() -> impl Strategy<Value = Step> {
    let patience = prop::option::of(0..20u64);
    prop_oneof![
        3 => (0..15u64).prop_map(Step::Wait),
        3 => prop::option::weighted(0.8, any::<bool>()).prop_map(Step::Configure),
        1 => Just(Step::Enable),
        2 => patience.prop_map(Step::Disable),
        1 => Just(Step::Restart),
        1 => any::<bool>().prop_map(Step::Down),
    ]
}

/// The same in other words. Of an order it knows whether it stands, and how long flows last by it.
#[derive(Debug)]
struct Model {
    patience: Option<u64>,
    enabled: Option<bool>,
    /// `Some(None)`: enabled.
    order: Option<Option<Option<u64>>>,
    /// When flows end, if ever, while it is out of service; and who says so.
    out: Option<(&'static str, Option<u64>)>,
}

impl Model {
    fn cause(&self) -> Option<(&'static str, Option<u64>)> {
        match (self.enabled, self.order) {
            (None, _) => Some(("removed", self.patience)),
            (_, Some(Some(patience))) => Some(("order", patience)),
            (_, Some(None)) | (Some(true), None) => None,
            (Some(false), None) => Some(("file", self.patience)),
        }
    }

    /// True if it comes into service.
    fn settle(&mut self, now: u64) -> bool {
        let was = self.out;
        self.out = self.cause().map(|(cause, patience)| {
            let own = patience.map(|patience| now + patience);
            match was {
                Some((before, end)) if before == cause => (cause, end),
                Some((_, end)) => (cause, [own, end].into_iter().flatten().min()),
                None => (cause, own),
            }
        });
        was.is_some() && self.out.is_none()
    }

    fn configure(&mut self, enabled: Option<bool>, now: u64) -> bool {
        if enabled != self.enabled {
            self.order = None;
        }
        self.enabled = enabled;
        self.settle(now)
    }

    /// `None` if nothing changes.
    fn order(&mut self, wanted: Option<Option<u64>>, now: u64) -> Option<bool> {
        let as_configured = if self.enabled? { None } else { Some(self.patience) };
        if self.order.unwrap_or(as_configured) == wanted {
            return None;
        }
        self.order = (wanted != as_configured).then_some(wanted);
        if wanted.is_some() {
            self.out = None;
        }
        Some(self.settle(now))
    }
}

fn seconds(patience: Option<u64>) -> Option<Duration> {
    patience.map(Duration::from_secs)
}

proptest! {
    #[test]
    fn a_server_is_in_service_and_its_flows_go_on_as_the_model_says(
        patience in prop::option::of(0..20u64),
        resets in any::<bool>(),
        enabled in any::<bool>(),
        steps in prop::collection::vec(step(), 0..40),
    ) {
        let server_down = if resets { ServerDown::Reset } else { ServerDown::Keep };
        let policy =
            ServerPolicy { server_down, graceful_disable: seconds(patience), ..Default::default() };
        let mut now = 0;
        let mut tenure = Tenure::new(enabled, policy, at(now));
        let mut model = Model { patience, enabled: Some(enabled), order: None, out: None };
        model.settle(now);
        let mut is_down = false;
        for step in steps {
            match step {
                Step::Wait(time) => now += time,
                Step::Down(down) => is_down = down,
                Step::Configure(enabled) => {
                    let said = enabled.map(|enabled| (enabled, policy));
                    prop_assert_eq!(tenure.configure(said, at(now)), model.configure(enabled, now));
                }
                Step::Enable => {
                    prop_assert_eq!(tenure.order(Ordered::Enable, at(now)), model.order(None, now));
                }
                Step::Disable(time) => {
                    let wanted = Ordered::Disable { persistent: false, patience: seconds(time) };
                    prop_assert_eq!(tenure.order(wanted, at(now)), model.order(Some(time), now));
                }
                Step::Restart => {
                    let kept = tenure.kept();
                    tenure = match tenure.enabled() {
                        Some(enabled) => Tenure::new(enabled, policy, at(now)),
                        None => Tenure::removed(policy, at(now)),
                    };
                    if let Some(kept) = kept {
                        tenure.restore(&kept, at(now));
                    }
                }
            }
            let out = model.out;
            prop_assert_eq!(tenure.out().is_some(), out.is_some());
            let end = out.and_then(|(_, end)| end);
            prop_assert_eq!(tenure.deadline(), end.map(|end| at(end).monotonic));
            let gone = resets && is_down || end.is_some_and(|end| end <= now);
            prop_assert_eq!(tenure.is_gone(at(now).monotonic, is_down), gone);
        }
    }
}
