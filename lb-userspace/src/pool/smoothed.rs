//! A time that follows its measurements slowly.

use std::{
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    time::Duration,
};

/// A measurement moves the smoothed time by an eighth of the difference, as TCP's own does
/// (RFC 6298 §2).
const SMOOTHING: u32 = 8;

/// Microseconds, up to 71 minutes; 0 if never measured.
#[derive(Debug, Default)]
pub(super) struct Smoothed(AtomicU32);

impl Smoothed {
    /// It took so long this time.
    pub fn observe(&self, time: Duration) {
        let sample = u32::try_from(time.as_micros()).unwrap_or(u32::MAX).max(1);
        let smooth = |known: u32| match known {
            0 => Some(sample),
            known => Some((known - known / SMOOTHING).saturating_add(sample / SMOOTHING).max(1)),
        };
        // `smooth` always gives a value.
        let _ = self.0.fetch_update(Relaxed, Relaxed, smooth);
    }

    /// How long it takes lately.
    pub fn get(&self) -> Option<Duration> {
        let micros = self.0.load(Relaxed);
        (micros != 0).then(|| Duration::from_micros(micros.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_follow_the_measurements_slowly() {
        let smoothed = Smoothed::default();
        assert_eq!(smoothed.get(), None);
        let millis = Duration::from_millis;
        smoothed.observe(millis(8));
        assert_eq!(smoothed.get(), Some(millis(8)));
        smoothed.observe(millis(16));
        assert_eq!(smoothed.get(), Some(millis(9)));
        for _ in 0..100 {
            smoothed.observe(millis(1));
        }
        let settled = smoothed.get().unwrap();
        assert!(settled < Duration::from_micros(1_010), "{settled:?}");
        smoothed.observe(Duration::MAX);
        assert!(smoothed.get().unwrap() > Duration::from_secs(500));
    }
}
