//! When a server is asked.

use std::{
    hash::{Hash as _, Hasher as _},
    net::SocketAddr,
    time::Duration,
};

use siphasher::sip::SipHasher13;

/// First checks are spread over this long: soon, for what is unknown takes flows.
const FIRST: Duration = Duration::from_secs(1);

/// The moments at which one monitor asks one server: one in every interval, at a distance from
/// its beginning that differs from server to server and is always the same for one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rhythm {
    interval: Duration,
    /// Where in the interval, as a fraction of 2^64.
    phase: u64,
}

impl Rhythm {
    /// The monitor's name and the server's address decide.
    pub fn new(interval: Duration, monitor: &str, server: SocketAddr) -> Self {
        let mut hasher = SipHasher13::new_with_keys(0, 0);
        (monitor, server).hash(&mut hasher);
        Self { interval, phase: hasher.finish() }
    }

    /// How long from now until the first check.
    pub fn first(&self) -> Duration {
        self.share_of(self.interval.min(FIRST))
    }

    /// The next moment after `now`, both counted from when the clock began.
    pub fn next(&self, now: Duration) -> Duration {
        let (interval, phase) = (self.interval.as_nanos().max(1), self.share_of(self.interval));
        let passed = (now.as_nanos() + interval).saturating_sub(phase.as_nanos()) / interval;
        nanos(passed * interval) + phase
    }

    fn share_of(&self, span: Duration) -> Duration {
        nanos((span.as_nanos() * u128::from(self.phase)) >> 64)
    }
}

fn nanos(nanos: u128) -> Duration {
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(number: u16) -> SocketAddr {
        let [high, low] = number.to_be_bytes();
        ([10, 0, high, low], 80).into()
    }

    #[test]
    fn five_thousand_servers_are_asked_evenly_through_the_interval() {
        let interval = Duration::from_secs(10);
        let mut in_tenth = [0; 100];
        let mut first = [0; 10];
        for number in 0..5000 {
            let rhythm = Rhythm::new(interval, "web", server(number));
            let moment = rhythm.next(Duration::from_secs(3600)) - Duration::from_secs(3600);
            in_tenth[usize::try_from(moment.as_millis()).unwrap() / 100] += 1;
            first[usize::try_from(rhythm.first().as_millis()).unwrap() / 100] += 1;
        }
        // 50 a tenth of a second, and 500 in each tenth of the first.
        assert!(in_tenth.iter().all(|count| (20..=85).contains(count)), "{in_tenth:?}");
        assert!(first.iter().all(|count| (400..=600).contains(count)), "{first:?}");
    }

    #[test]
    fn a_server_is_asked_once_in_every_interval_however_long_checks_take() {
        let interval = Duration::from_millis(700);
        let rhythm = Rhythm::new(interval, "web", server(7));
        let mut now = Duration::from_secs(5);
        for took in [0, 1, 300, 699, 5000, 0] {
            let next = rhythm.next(now);
            assert!(next > now && next <= now + interval, "{next:?} after {now:?}");
            assert_eq!(rhythm.next(next) - next, interval);
            now = next + Duration::from_millis(took);
        }
    }

    #[test]
    fn short_intervals_have_their_first_check_within_the_first() {
        let interval = Duration::from_millis(100);
        for number in 0..100 {
            let rhythm = Rhythm::new(interval, "web", server(number));
            assert!(rhythm.first() < interval);
        }
    }
}
