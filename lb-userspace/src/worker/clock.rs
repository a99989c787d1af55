//! The clocks that the engine is told.

use std::time::{Duration, SystemTime};

use rustix::time::{ClockId, clock_gettime};

use crate::engine::Now;

/// The time now. The monotonic clock is the coarse one, which the packet program stamps flows with:
/// a stamp of a moment ago must not lie in the future.
pub fn now() -> Now {
    let time = clock_gettime(ClockId::MonotonicCoarse);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    let nanos = u32::try_from(time.tv_nsec).unwrap_or_default();
    Now { monotonic: Duration::new(seconds, nanos), wall: SystemTime::now() }
}
