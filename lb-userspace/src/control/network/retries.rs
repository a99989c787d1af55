//! When to ask again for neighbours that do not answer.

use std::time::{Duration, Instant};

use hashbrown::{HashMap, hash_map::Entry};

use super::topology::NeighbourKey;

/// The wait after the first question. The kernel itself asks three times, a second apart, before
/// it gives up (`mcast_solicit` and `retrans_time_ms`, arp(7)).
const FIRST_WAIT: Duration = Duration::from_secs(1);

/// No wait is longer: a server that comes back is found within this time.
const LONGEST_WAIT: Duration = Duration::from_secs(8);

/// Neighbours that are being asked for.
#[derive(Debug, Default)]
pub struct Retries {
    pending: HashMap<NeighbourKey, Pending>,
}

#[derive(Debug)]
struct Pending {
    due: Instant,
    wait: Duration,
}

impl Retries {
    /// Whom of the `wanted` to ask now: the new ones, and those whose wait is over. Waits double
    /// with each question. Who is no longer wanted is forgotten.
    pub fn due(
        &mut self,
        wanted: impl IntoIterator<Item = NeighbourKey>,
        now: Instant,
    ) -> Vec<NeighbourKey> {
        let mut before = std::mem::take(&mut self.pending);
        let mut due = Vec::new();
        for key in wanted {
            let Entry::Vacant(place) = self.pending.entry(key) else {
                continue;
            };
            let pending = match before.remove(&key) {
                Some(pending) if now < pending.due => pending,
                Some(Pending { wait, .. }) => {
                    due.push(key);
                    let wait = (wait * 2).min(LONGEST_WAIT);
                    Pending { due: now + wait, wait }
                }
                None => {
                    due.push(key);
                    Pending { due: now + FIRST_WAIT, wait: FIRST_WAIT }
                }
            };
            place.insert(pending);
        }
        due
    }

    /// When someone will be due.
    pub fn next_due(&self) -> Option<Instant> {
        self.pending.values().map(|pending| pending.due).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::network::testing::ip;

    #[test]
    fn waits_double_up_to_the_longest_and_start_anew_for_the_forgotten() {
        let key = (2, ip("10.0.0.1"));
        let start = Instant::now();
        let mut retries = Retries::default();
        let mut now = start;
        let mut asked = Vec::new();
        for _ in 0..6 {
            assert_eq!(retries.due([key, key], now), [key]);
            asked.push((now - start).as_secs());
            let next = retries.next_due().unwrap();
            assert_eq!(retries.due([key], next - Duration::from_millis(1)), []);
            now = next;
        }
        assert_eq!(asked, [0, 1, 3, 7, 15, 23]);
        assert_eq!(retries.due([], now), []);
        assert_eq!(retries.next_due(), None);
        assert_eq!(retries.due([key], now), [key]);
        assert_eq!(retries.next_due(), Some(now + FIRST_WAIT));
    }
}
