//! When a name is asked for again.

use std::{
    hash::{Hash as _, Hasher as _},
    time::Duration,
};

use siphasher::sip::SipHasher13;

/// No name is asked for more often, however short its answer's life.
pub const LEAST: Duration = Duration::from_secs(5);
/// Nor more seldom, however long it is.
pub const MOST: Duration = Duration::from_mins(10);
/// Nor after a failure, however many there were: what recovers is found soon.
pub const MOST_AFTER_FAILURE: Duration = Duration::from_mins(1);

/// An answer's age is cut by up to one in so many parts.
const JITTER: u32 = 11;

/// How long after an answer that holds for `ttl`: a little less than that, by an amount that
/// differs between names and from one time to the next, so that they do not all come due at once.
pub fn after_answer(ttl: Duration, name: &str, count: u64) -> Duration {
    // So that it is no less than the least after the cut.
    let shortest = LEAST * JITTER / (JITTER - 1);
    earlier(ttl.clamp(shortest, MOST), name, count)
}

/// How long after so many failures in a row: twice as long each time.
pub fn after_failure(failures: u32, name: &str, count: u64) -> Duration {
    let shortest = LEAST * JITTER / (JITTER - 1);
    let doubled = 1u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX);
    let delay = shortest.checked_mul(doubled).unwrap_or(MOST_AFTER_FAILURE);
    earlier(delay.min(MOST_AFTER_FAILURE), name, count)
}

fn earlier(delay: Duration, name: &str, count: u64) -> Duration {
    let mut hasher = SipHasher13::new_with_keys(0, 0);
    (name, count).hash(&mut hasher);
    // The upper bits, as a share of what may be cut.
    let share = u32::try_from(hasher.finish() >> 32).unwrap_or(u32::MAX);
    let cut = ((delay / JITTER).as_nanos() * u128::from(share)) >> 32;
    delay - Duration::from_nanos(u64::try_from(cut).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(delay: impl Fn(&str, u64) -> Duration) -> (Duration, Duration) {
        let names = (0..50).map(|number| format!("app-{number}.internal"));
        let delays: Vec<_> = names.flat_map(|name| [delay(&name, 1), delay(&name, 2)]).collect();
        (*delays.iter().min().unwrap(), *delays.iter().max().unwrap())
    }

    #[test]
    fn answers_are_renewed_before_they_are_old_but_not_all_at_once() {
        let seconds = Duration::from_secs;
        for (ttl, most) in [(0, 5.5), (1, 5.5), (5, 5.5), (30, 30.0), (600, 600.0), (86400, 600.0)]
        {
            let (first, last) = all(|name, count| after_answer(seconds(ttl), name, count));
            assert!(first >= LEAST && first.as_secs_f64() >= most * 0.9, "{ttl}: {first:?}");
            assert!(last.as_secs_f64() <= most, "{ttl}: {last:?}");
            assert!((last - first).as_secs_f64() > most * 0.05, "{ttl}: {first:?} to {last:?}");
        }
    }

    #[test]
    fn after_failures_twice_as_long_is_waited_each_time_up_to_a_minute() {
        for (failures, most) in [(0, 5.5), (1, 5.5), (2, 11.0), (3, 22.0), (4, 44.0), (5, 60.0)] {
            let (first, last) = all(|name, count| after_failure(failures, name, count));
            assert!(first >= LEAST && first.as_secs_f64() >= most * 0.9, "{failures}: {first:?}");
            assert!(last.as_secs_f64() <= most, "{failures}: {last:?}");
        }
        for failures in [31, 32, 33, u32::MAX] {
            let delay = after_failure(failures, "app.internal", 1);
            assert!(delay <= MOST_AFTER_FAILURE && delay > MOST_AFTER_FAILURE / 2);
        }
    }
}
