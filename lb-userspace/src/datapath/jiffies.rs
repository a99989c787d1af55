//! How the kernel's count of ticks tells the program the time.

use aya::{
    Ebpf,
    programs::{TestRun as _, TestRunOptions, Xdp},
};
use lb_common::{
    time::{Jiffies, Reading},
    wire::at,
};
use rustix::time::{ClockId, clock_getres};

use super::{DatapathError, object};

/// The least that the kernel takes for a frame is shorter.
const FRAME: usize = 64;

/// As of now. [`Jiffies::default`] where ticks do not tell the time, and the program has to ask the
/// clock.
///
/// With high-resolution timers the kernel counts ticks by the clock (`tick_do_update_jiffies64` of
/// kernel/time/tick-sched.c). Without, it counts interrupts, of which some may be lost.
pub(super) fn measure() -> Result<Jiffies, DatapathError> {
    let resolution = |clock| u64::try_from(clock_getres(clock).tv_nsec).unwrap_or_default();
    if resolution(ClockId::Monotonic) != 1 {
        return Ok(Jiffies::default());
    }
    // The resolution of the coarse clock is that of the tick.
    Ok(Jiffies::new(read()?, resolution(ClockId::MonotonicCoarse)))
}

/// Runs the program `clock`.
fn read() -> Result<Reading, DatapathError> {
    let failed = |error: &dyn std::error::Error| {
        DatapathError::kernel("cannot read the kernel's count of ticks", error.to_string())
    };
    let mut ebpf = Ebpf::load(object::clock()).map_err(|error| failed(&error))?;
    let program = ebpf.program_mut("clock");
    let program: Option<&mut Xdp> = program.and_then(|program| program.try_into().ok());
    let program = program
        .ok_or_else(|| DatapathError::kernel("the embedded object", "has no program `clock`"))?;
    program.load().map_err(|error| failed(&error))?;
    let mut frame = [0; FRAME];
    let options = TestRunOptions {
        data_in: Some(&[0; FRAME]),
        data_out: Some(&mut frame),
        ..TestRunOptions::default()
    };
    program.test_run(options).map_err(|error| failed(&error))?;
    let [jiffies, nanos] = [at::<0, 8, FRAME>(&frame), at::<8, 8, FRAME>(&frame)];
    Ok(Reading { jiffies: u64::from_ne_bytes(jiffies), nanos: u64::from_ne_bytes(nanos) })
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use rustix::process::geteuid;

    use super::*;

    /// Late by a tick or two at either reading, or a busy machine by more; never by what has passed.
    const LATE: u64 = 500_000_000;

    #[test]
    fn ticks_go_on_telling_the_time() {
        if !geteuid().is_root() {
            assert!(std::env::var_os("CI").is_none(), "no root in CI");
            eprintln!("SKIPPED, needs root to run a program");
            return;
        }
        let jiffies = measure().unwrap();
        assert!(jiffies.nanos > 0, "this machine has no high-resolution timers");
        let (start, mut last) = (Instant::now(), read().unwrap());
        while start.elapsed() < Duration::from_secs(1) {
            let reading = read().unwrap();
            assert!(
                jiffies.nanos_at(reading.jiffies).abs_diff(reading.nanos) < LATE,
                "{reading:?}"
            );
            assert!(reading.nanos >= last.nanos && reading.jiffies >= last.jiffies);
            last = reading;
        }
    }
}
