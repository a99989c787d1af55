//! The part of its ratio that a server gets while it ramps up, or while flows fail at it.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// As little as a server gets: so that it is seen when it is well again.
pub const LEAST: f32 = 1.0 / 16.0;

/// What one outcome weighs: after four failures in a row a third of a server's share is left.
const WEIGHT: f32 = 0.25;
/// What was seen counts half as much after this time.
const HALF_LIFE: Duration = Duration::from_secs(10);
/// Less than this is forgotten.
const NEGLIGIBLE: f32 = 0.01;

/// When a server began to ramp up, in nanoseconds of the monotonic clock; 0 before its first
/// flow was to be decided, for the ramp begins with it.
#[derive(Debug, Default)]
pub(super) struct Ramp(AtomicU64);

impl Ramp {
    /// From the next flow on.
    pub fn begin(&self) {
        self.0.store(0, Relaxed);
    }

    /// The share now; 1 once the ramp is over.
    pub fn share(&self, duration: Duration, now: Duration) -> f32 {
        let moment = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX).max(1);
        let began = match self.0.compare_exchange(0, moment, Relaxed, Relaxed) {
            Ok(_) => moment,
            Err(before) => before,
        };
        let elapsed = Duration::from_nanos(moment.saturating_sub(began));
        if elapsed >= duration {
            return 1.0;
        }
        (elapsed.as_secs_f32() / duration.as_secs_f32()).max(LEAST)
    }
}

/// How far a ramp has come, for somebody who only looks.
impl Ramp {
    /// The share now; the least before it has begun, 1 once it is over.
    pub fn look(&self, duration: Duration, now: Duration) -> f32 {
        match self.0.load(Relaxed) {
            0 if duration.is_zero() => 1.0,
            0 => LEAST,
            _ => self.share(duration, now),
        }
    }
}

/// How much fails at a server lately: a smoothed share of failures from 0 to 1, in the low half,
/// and the millisecond that it was told at, in the high half.
#[derive(Debug, Default)]
pub(super) struct Failures(AtomicU64);

impl Failures {
    /// A flow was answered, or has failed. Returns whether failures count for anything now.
    pub fn observe(&self, failed: bool, now: Duration) -> bool {
        let mut level = 0.0;
        let outcome = if failed { 1.0 } else { 0.0 };
        // The closure always gives a value.
        let _ = self.0.fetch_update(Relaxed, Relaxed, |word| {
            let before = decayed(word, now);
            level = before + (outcome - before) * WEIGHT;
            Some(packed(level, now))
        });
        level > NEGLIGIBLE
    }

    /// The share that is left; 1 if nothing fails that counts.
    pub fn share(&self, now: Duration) -> f32 {
        let level = decayed(self.0.load(Relaxed), now);
        if level > NEGLIGIBLE { (1.0 - level).max(LEAST) } else { 1.0 }
    }
}

fn packed(level: f32, now: Duration) -> u64 {
    u64::from(millis(now)) << 32 | u64::from(level.to_bits())
}

fn decayed(word: u64, now: Duration) -> f32 {
    #[expect(clippy::cast_possible_truncation, reason = "the halves of a word")]
    let (told, level) = ((word >> 32) as u32, f32::from_bits(word as u32));
    if level == 0.0 {
        return 0.0;
    }
    // Workers' clocks are read a moment apart: the other's may be ahead.
    let elapsed = millis(now).wrapping_sub(told).cast_signed().max(0);
    let half_lives = elapsed as f32 / HALF_LIFE.as_millis() as f32;
    level * (-half_lives).exp2()
}

/// Wraps every 49 days; a server that failed so long before counts as one that fails now, once.
#[expect(clippy::cast_possible_truncation, reason = "wraps")]
fn millis(now: Duration) -> u32 {
    now.as_millis() as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_ramp_begins_with_the_first_flow_and_rises_evenly() {
        let ramp = Ramp::default();
        let share = |second: u32| ramp.share(SECOND * 100, SECOND * (1000 + second));
        assert_eq!(share(0), LEAST);
        for (second, expected) in [(25, 0.25), (50, 0.5), (99, 0.99), (100, 1.0), (500, 1.0)] {
            assert!((share(second) - expected).abs() < 1e-4, "{second}");
        }
        ramp.begin();
        assert_eq!(share(600), LEAST);
        assert_eq!(ramp.share(Duration::ZERO, SECOND * 1700), 1.0);
    }

    #[test]
    fn failures_lower_the_share_and_answers_or_time_raise_it() {
        let failures = Failures::default();
        let now = SECOND * 5000;
        assert!(!failures.observe(false, now));
        assert_eq!(failures.share(now), 1.0);
        for _ in 0..4 {
            assert!(failures.observe(true, now));
        }
        assert!((failures.share(now) - 0.316).abs() < 0.01, "{}", failures.share(now));
        for _ in 0..50 {
            failures.observe(true, now);
        }
        assert_eq!(failures.share(now), LEAST);
        let later = now + HALF_LIFE;
        assert!((failures.share(later) - 0.5).abs() < 0.01);
        assert_eq!(failures.share(now + 20 * HALF_LIFE), 1.0);
        for _ in 0..20 {
            failures.observe(false, now);
        }
        assert_eq!(failures.share(now), 1.0);
    }

    proptest! {
        #[test]
        fn a_share_stays_within_bounds_whatever_happens(
            steps in prop::collection::vec((any::<bool>(), 0u64..100_000), 0..200),
        ) {
            let (failures, mut now) = (Failures::default(), Duration::ZERO);
            for (failed, millis) in steps {
                // Now and then another worker's clock is a little behind.
                let clock = now.saturating_sub(Duration::from_millis(millis % 3));
                failures.observe(failed, clock);
                now += Duration::from_millis(millis);
                let share = failures.share(now);
                prop_assert!((LEAST..=1.0).contains(&share), "{}", share);
            }
        }
    }
}
