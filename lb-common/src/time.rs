//! Coarse time, as cheap for the XDP program as for a worker.

/// Monotonic time in units of 2^20 ns (about 1.05 ms), modulo 2^32 (52 days).
///
/// Both sides derive it from `CLOCK_MONOTONIC_COARSE` (`bpf_ktime_get_coarse_ns` since kernel
/// 5.11), so a stamp written by one can be compared by the other.
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tick(pub u32);

const _: () = assert!(size_of::<Tick>() == 4);

impl Tick {
    const SHIFT: u32 = 20;

    /// From nanoseconds of the monotonic clock.
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "ticks wrap by design")]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self((nanos >> Self::SHIFT) as u32)
    }

    /// Ticks from `earlier` to `self`; 0 if `earlier` is in fact later.
    pub const fn since(self, earlier: Self) -> u32 {
        let elapsed = self.0.wrapping_sub(earlier.0);
        // More than half the range means that `earlier` was stamped after `self` was taken.
        if elapsed > u32::MAX / 2 { 0 } else { elapsed }
    }

    /// How many ticks a duration lasts, rounded up, at most half the range (26 days).
    #[expect(clippy::cast_possible_truncation, reason = "bounded just before")]
    pub const fn ticks(duration: core::time::Duration) -> u32 {
        let ticks = duration.as_nanos().div_ceil(1 << Self::SHIFT);
        let most = (u32::MAX / 2) as u128;
        (if ticks > most { most } else { ticks }) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::time::Duration;

    #[test]
    fn time_goes_on_over_the_wrap() {
        assert_eq!(Tick(5).since(Tick(u32::MAX - 4)), 10);
    }

    #[test]
    fn a_stamp_from_the_future_is_no_age() {
        assert_eq!(Tick(5).since(Tick(9)), 0);
    }

    #[test]
    fn durations_round_up() {
        assert_eq!(Tick::ticks(Duration::from_nanos(1)), 1);
        assert_eq!(Tick::ticks(Duration::from_secs(10)), 9537);
        assert_eq!(Tick::ticks(Duration::MAX), u32::MAX / 2);
    }
}
