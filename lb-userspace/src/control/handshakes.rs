//! What handshakes without memory need of control: secrets that are renewed in time, and word of
//! the pressure under which services answer with cookies.
//!
//! Secrets outlive the daemon, so that a restart spoils no handshake. They are renewed in due
//! course after it, however long nobody was there: the epoch is part of what is hashed, so that no
//! old cookie becomes good again meanwhile.

use std::{sync::Arc, time::Duration};

use lb_common::tcp::cookie::Epoch;
use tracing::{info, warn};

use crate::{datapath::MappedHandshakes, engine::Gauge};

/// Looks after what is in the maps.
pub(super) struct Handshakes {
    mapped: Arc<MappedHandshakes>,
    rotation: Rotation,
}

impl Handshakes {
    pub(super) fn new(mapped: Arc<MappedHandshakes>) -> Self {
        Self { mapped, rotation: Rotation::default() }
    }

    /// Does what is due. `now` is the clock that the program reads: the monotonic, coarse one.
    pub(super) fn tick(&mut self, now: Duration, gauge: &Gauge) {
        let renewed = self.rotation.at(nanos(now), |place| self.mapped.renew(place));
        if let Err(error) = renewed {
            warn!("the secret of cookies stays in use for longer: {error}");
        }
        let (before, half_open) = (self.is_pressed(), gauge.half_open());
        let is_pressed = is_pressed(before, half_open, gauge.most_half_open());
        if is_pressed != before {
            self.mapped.pressure().set(is_pressed);
            info!(half_open, most = gauge.most_half_open(), is_pressed, "half-open flows");
        }
    }

    /// Whether services that answer with cookies under pressure do so now.
    pub(super) fn is_pressed(&self) -> bool {
        self.mapped.pressure().is_on()
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Which secret is renewed when.
#[derive(Debug, Default)]
struct Rotation {
    /// The epoch in which one was renewed last.
    renewed: Option<Epoch>,
}

impl Rotation {
    /// Renews the secret that is to be, once an epoch; what fails is tried again.
    fn at<E>(&mut self, nanos: u64, renew: impl FnOnce(usize) -> Result<(), E>) -> Result<(), E> {
        let epoch = Epoch::at(nanos);
        // Not close to the end: when it is done, the next epoch might have begun.
        let is_early = Epoch::at(nanos.saturating_add(Epoch::LENGTH / 2)) == epoch;
        if let Some(place) = epoch.replaceable()
            && is_early
            && self.renewed != Some(epoch)
        {
            renew(place)?;
            self.renewed = Some(epoch);
        }
        Ok(())
    }
}

/// Whether there is pressure, by the flows that are half open and how many may be: from a half of
/// these on, until it is less than a quarter. In between it stays as it is, for it is while there
/// is pressure that fewer flows are half open.
const fn is_pressed(before: bool, half_open: u32, most: u32) -> bool {
    let parts = if before { 4 } else { 2 };
    half_open as u64 * parts >= most as u64
}

#[cfg(test)]
mod tests {
    use lb_common::tcp::{
        cookie::{Check, Data, Handshake, SharedSecrets},
        options::SynOptions,
    };

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn pressure_begins_at_a_half_and_ends_below_a_quarter() {
        // Before, half open, most; then.
        let cases = [
            (false, 0, 1000, false),
            (false, 499, 1000, false),
            (false, 500, 1000, true),
            (true, 500, 1000, true),
            (true, 250, 1000, true),
            (true, 249, 1000, false),
            (true, 0, 1000, false),
            (false, 0, 1, false),
            (false, 1, 1, true),
            (true, 1, 1, true),
            (true, 0, 1, false),
            (false, 1, 3, false),
            (false, 2, 3, true),
            (false, u32::MAX / 2, u32::MAX, false),
            (false, u32::MAX / 2 + 1, u32::MAX, true),
            (true, u32::MAX, 1, true),
        ];
        for (before, half_open, most, then) in cases {
            assert_eq!(is_pressed(before, half_open, most), then, "{before} {half_open} of {most}");
        }
    }

    const HANDSHAKE: Handshake =
        Handshake { addresses: [1, 2, 3, 4, 5, 6, 7, 8], ports: [9; 4], sequence: 10 };

    /// Secrets as control keeps them, the numbers of which are counted.
    #[derive(Default)]
    struct Kept {
        secrets: SharedSecrets,
        rotation: Rotation,
        renewals: Vec<(u64, usize)>,
    }

    impl Kept {
        fn tick(&mut self, nanos: u64) {
            let Self { secrets, rotation, renewals } = self;
            let renewed = rotation.at(nanos, |place| {
                renewals.push((nanos, place));
                secrets.replace(place, [renewals.len() as u64; 2]);
                Ok::<_, ()>(())
            });
            assert_eq!(renewed, Ok(()));
        }

        fn make(&self, nanos: u64) -> u32 {
            self.secrets.load().make(nanos, &HANDSHAKE, Data::new(&SynOptions::default()))
        }

        fn is_good(&self, nanos: u64, cookie: u32) -> bool {
            matches!(self.secrets.load().check(nanos, &HANDSHAKE, cookie), Check::Completes(_))
        }
    }

    #[test]
    fn no_cookie_is_spoilt_and_none_outlives_two_epochs() {
        let mut kept = Kept::default();
        let mut given: Vec<(u64, u32)> = Vec::new();
        // Ten epochs, from somewhere in the first.
        for nanos in (30 * SECOND..10 * Epoch::LENGTH).step_by(1_700_000_000) {
            // A daemon that was restarted does not know when it renewed.
            if nanos.is_multiple_of(7) {
                kept.rotation = Rotation::default();
            }
            kept.tick(nanos);
            for (made, cookie) in &given {
                let epochs = Epoch::at(nanos).0 - Epoch::at(*made).0;
                assert_eq!(kept.is_good(nanos, *cookie), epochs <= 1, "{made} at {nanos}");
            }
            given.push((nanos, kept.make(nanos)));
        }
    }

    #[test]
    fn each_secret_is_renewed_once_in_four_epochs_and_early() {
        let mut kept = Kept::default();
        (0..8 * Epoch::LENGTH).step_by(100_000_000).for_each(|nanos| kept.tick(nanos));
        let places: Vec<_> = kept.renewals.iter().map(|(_, place)| *place).collect();
        assert_eq!(places, [1, 0, 1, 0]);
        assert!(kept.renewals.iter().all(|(nanos, _)| nanos % Epoch::LENGTH < SECOND));
    }

    #[test]
    fn what_fails_is_tried_again_but_not_at_an_epochs_end() {
        let mut rotation = Rotation::default();
        let mut at = |nanos: u64, result: Result<(), ()>| {
            let mut asked = false;
            let told = rotation.at(nanos, |_| {
                asked = true;
                result
            });
            (asked, told)
        };
        let odd = Epoch::LENGTH;
        assert_eq!(at(odd - 1, Ok(())), (false, Ok(())));
        assert_eq!(at(odd, Err(())), (true, Err(())));
        assert_eq!(at(odd + Epoch::LENGTH / 2, Ok(())), (false, Ok(())), "too late");
        assert_eq!(at(odd + 1, Ok(())), (true, Ok(())));
        assert_eq!(at(odd + 2, Err(())), (false, Ok(())));
        assert_eq!(at(2 * odd, Ok(())), (false, Ok(())));
        assert_eq!(at(3 * odd, Ok(())), (true, Ok(())));
    }
}
