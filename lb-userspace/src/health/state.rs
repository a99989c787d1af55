//! From answers to a verdict.
//!
//! | a monitor's verdict | a check succeeds | a check fails |
//! |---|---|---|
//! | unknown | up | down |
//! | up | up; failures are counted anew | down, if it is the `failed_checks`th in a row |
//! | down | up, if it is the `successful_checks`th in a row | down; successes are counted anew |
//!
//! A server is up if enough of its monitors say so, down if not enough of them can any more, and
//! unknown in between.

use serde::{Deserialize, Serialize};

/// What is held of a server, by one monitor or by all of them together.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Nothing was heard yet. Such a server takes flows: a balancer that has just started must not
    /// refuse clients until it has asked everybody.
    #[default]
    Unknown,
    /// It takes flows.
    Up,
    /// It does not.
    Down,
}

/// How many answers in a row change a verdict.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rules {
    /// Successes that bring a server up; at least one.
    pub successes: u16,
    /// Failures that take it down; at least one.
    pub failures: u16,
}

/// One monitor's judgement of one server.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Judge {
    verdict: Verdict,
    /// Answers in a row that speak against the verdict.
    against: u16,
}

impl Judge {
    /// One that holds this of the server, and has heard nothing against it.
    pub fn new(verdict: Verdict) -> Self {
        Self { verdict, against: 0 }
    }

    /// What it holds of the server.
    pub fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// Answers in a row that speak against the verdict.
    pub fn against(&self) -> u16 {
        self.against
    }

    /// A check has ended.
    pub fn observe(&mut self, rules: Rules, success: bool) {
        let (spoken, needed) = match success {
            true => (Verdict::Up, rules.successes),
            false => (Verdict::Down, rules.failures),
        };
        if self.verdict == spoken {
            self.against = 0;
            return;
        }
        self.against += 1;
        if self.verdict == Verdict::Unknown || self.against >= needed {
            *self = Self::new(spoken);
        }
    }
}

/// What a server's monitors say together, of which `minimum` must hold it to be up; 0 for all.
pub fn together(verdicts: impl IntoIterator<Item = Verdict>, minimum: usize) -> Verdict {
    let (mut all, mut up, mut down) = (0, 0, 0);
    for verdict in verdicts {
        all += 1;
        up += usize::from(verdict == Verdict::Up);
        down += usize::from(verdict == Verdict::Down);
    }
    let needed = if minimum == 0 { all } else { minimum.min(all) };
    match () {
        () if up >= needed => Verdict::Up,
        () if all - down >= needed => Verdict::Unknown,
        () => Verdict::Down,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The same by looking back on everything that was ever answered.
    fn by_looking_back(rules: Rules, answers: &[bool]) -> Verdict {
        let mut verdict = Verdict::Unknown;
        for end in 1..=answers.len() {
            let heard = &answers[..end];
            let last = |count: u16, wanted: bool| {
                let count = usize::from(count);
                heard.len() >= count && heard.iter().rev().take(count).all(|one| *one == wanted)
            };
            verdict = match verdict {
                Verdict::Unknown if heard[0] => Verdict::Up,
                Verdict::Unknown => Verdict::Down,
                Verdict::Up if last(rules.failures, false) => Verdict::Down,
                Verdict::Down if last(rules.successes, true) => Verdict::Up,
                same => same,
            };
        }
        verdict
    }

    proptest! {
        #[test]
        fn a_verdict_is_what_looking_back_on_all_answers_gives(
            successes in 1..6u16, failures in 1..6u16,
            answers in proptest::collection::vec(any::<bool>(), 0..60),
        ) {
            let rules = Rules { successes, failures };
            let mut judge = Judge::default();
            for (count, answer) in answers.iter().enumerate() {
                judge.observe(rules, *answer);
                prop_assert_eq!(judge.verdict(), by_looking_back(rules, &answers[..=count]));
                prop_assert!(judge.against() < successes.max(failures));
            }
        }

        #[test]
        fn a_server_is_up_if_enough_monitors_say_so_whatever_the_others_will(
            verdicts in proptest::collection::vec(
                prop_oneof![Just(Verdict::Up), Just(Verdict::Down), Just(Verdict::Unknown)], 1..6,
            ),
            minimum in 0..6usize,
        ) {
            let minimum = minimum.min(verdicts.len());
            // What it can come to be when all that is unknown has become known.
            let outcome = |unknown: Verdict| {
                let known = verdicts.iter().map(|v| if *v == Verdict::Unknown { unknown } else { *v });
                let up = known.filter(|verdict| *verdict == Verdict::Up).count();
                up >= if minimum == 0 { verdicts.len() } else { minimum }
            };
            let expected = match (outcome(Verdict::Down), outcome(Verdict::Up)) {
                (true, _) => Verdict::Up,
                (false, true) => Verdict::Unknown,
                (false, false) => Verdict::Down,
            };
            prop_assert_eq!(together(verdicts.iter().copied(), minimum), expected);
        }
    }
}
