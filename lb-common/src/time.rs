//! Coarse time, as cheap for the packet program as for a worker.

/// Monotonic time in units of 2^20 ns (about 1.05 ms), modulo 2^32 (52 days).
///
/// Both sides mean `CLOCK_MONOTONIC_COARSE`, so a stamp written by one can be compared by the other.
/// The program tells it from the kernel's count of ticks ([`Jiffies`]), which is a load where the
/// clock is a call of three functions.
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

/// How the kernel's count of ticks, `jiffies`, tells `CLOCK_MONOTONIC_COARSE`, whose readings change
/// with it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Jiffies {
    /// Nanoseconds of a tick; 0 if ticks do not tell the time.
    pub nanos: u64,
    /// The clock's reading when the count was 0, modulo 2^64.
    pub base: u64,
}

impl Jiffies {
    /// From both at one moment, and the nanoseconds of a tick. Wrong by what the kernel was late
    /// with the last tick: it counts ticks by the clock, so the error does not grow.
    pub const fn new(reading: Reading, nanos: u64) -> Self {
        Self { nanos, base: reading.nanos.wrapping_sub(reading.jiffies.wrapping_mul(nanos)) }
    }

    /// The clock's reading at a count.
    #[inline(always)]
    pub const fn nanos_at(self, jiffies: u64) -> u64 {
        jiffies.wrapping_mul(self.nanos).wrapping_add(self.base)
    }
}

/// The count of ticks and the clock at one moment, as the program `clock` writes them.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Reading {
    /// `jiffies`, 64 bits of it.
    pub jiffies: u64,
    /// `CLOCK_MONOTONIC_COARSE` in nanoseconds.
    pub nanos: u64,
}

/// Its bytes.
pub const READING: usize = 16;

const _: () = assert!(size_of::<Reading>() == READING);

#[cfg(test)]
mod tests {
    use super::*;
    use core::time::Duration;

    #[test]
    fn ticks_tell_the_time_they_were_read_with() {
        let jiffies =
            Jiffies::new(Reading { jiffies: 4_294_967_000, nanos: 1_000_000_007 }, 4_000_000);
        assert_eq!(jiffies.nanos_at(4_294_967_000), 1_000_000_007);
        assert_eq!(jiffies.nanos_at(4_294_967_250), 2_000_000_007);
        assert_eq!(jiffies.nanos_at(4_294_966_999), 996_000_007);
    }

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
