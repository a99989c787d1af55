//! Waiting for conditions, with an end.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

/// How often a condition is looked at.
const INTERVAL: Duration = Duration::from_millis(5);

static STOPPED: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// Waits until `condition` holds. Fails when it has not after `timeout`, when it cannot be told
/// (it returns an error), or when a signal asks to stop (see [`stop_on_signals`]).
/// `what` completes the sentence "waited for …".
pub fn wait_until(
    what: &str,
    timeout: Duration,
    mut condition: impl FnMut() -> Result<bool>,
) -> Result<()> {
    let start = Instant::now();
    while !condition().with_context(|| format!("while waiting for {what}"))? {
        check_stopped().with_context(|| format!("while waiting for {what}"))?;
        if start.elapsed() >= timeout {
            bail!("waited {timeout:?} for {what}");
        }
        thread::sleep(INTERVAL);
    }
    Ok(())
}

/// Fails when a signal asks to stop: for work that waits for nothing.
pub fn check_stopped() -> Result<()> {
    if STOPPED.get().is_some_and(|stopped| stopped.load(Ordering::Relaxed)) {
        bail!("stopped by a signal");
    }
    Ok(())
}

/// From now on SIGINT, SIGTERM and SIGHUP do not kill this process: they make [`wait_until`] and
/// [`check_stopped`] fail, so that errors travel up and everything that was made is dropped, which takes it away.
pub fn stop_on_signals() -> Result<()> {
    let stopped = STOPPED.get_or_init(Arc::default);
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(stopped))
            .with_context(|| format!("cannot catch signal {signal}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_is_asked_until_it_holds() {
        let mut asked = 0;
        let third_time = || {
            asked += 1;
            Ok(asked == 3)
        };
        wait_until("the third time", Duration::from_secs(60), third_time).unwrap();
        assert_eq!(asked, 3);
    }

    #[test]
    fn waiting_ends_and_says_for_what_it_was() {
        let error = wait_until("rain", Duration::from_millis(1), || Ok(false)).unwrap_err();
        assert_eq!(error.to_string(), "waited 1ms for rain");
    }

    #[test]
    fn a_condition_that_cannot_be_told_ends_the_waiting() {
        let error = wait_until("rain", Duration::from_secs(60), || bail!("no sky")).unwrap_err();
        assert_eq!(format!("{error:#}"), "while waiting for rain: no sky");
    }
}
