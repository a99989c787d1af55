//! How many flows begin in a second, lately.

use std::{collections::VecDeque, time::Duration};

/// Looked at once a second.
pub const INTERVAL: Duration = Duration::from_secs(1);
/// As far as anybody looks back.
const WINDOW: usize = 10;

/// What a counter said at moments a second apart.
#[derive(Clone, Debug, Default)]
pub struct Rate(VecDeque<(Duration, u64)>);

impl Rate {
    /// The counter says this now.
    pub fn sample(&mut self, now: Duration, total: u64) {
        if self.0.len() > WINDOW {
            self.0.pop_front();
        }
        self.0.push_back((now, total));
    }

    /// By how much it grows in a second; 0 until it was looked at twice.
    pub fn per_second(&self) -> f64 {
        let (Some((began, first)), Some((ended, last))) = (self.0.front(), self.0.back()) else {
            return 0.0;
        };
        let elapsed = ended.saturating_sub(*began).as_secs_f64();
        if elapsed <= 0.0 {
            return 0.0;
        }
        let rate = last.saturating_sub(*first) as f64 / elapsed;
        (rate * 10.0).round() / 10.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_that_of_the_last_ten_seconds() {
        let mut rate = Rate::default();
        assert_eq!(rate.per_second(), 0.0);
        let mut total = 1000;
        for second in 0..30 {
            total += if second <= 10 { 100 } else { 5 };
            rate.sample(INTERVAL * second, total);
            if second == 10 {
                assert_eq!(rate.per_second(), 100.0);
            }
        }
        assert_eq!(rate.per_second(), 5.0);
    }
}
