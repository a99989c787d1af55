//! What a road does to a frame: decided from a seed, so that a run can be had again.

use std::{cmp::Reverse, collections::BinaryHeap, time::Duration};

/// What happens to the frames of one direction. Each is decided by itself, as `tc netem` does.
#[derive(Clone, Copy, Default, Debug)]
pub struct Impairment {
    /// Where the pseudo-random numbers begin.
    pub seed: u64,
    /// How long a frame is under way.
    pub delay: Duration,
    /// How much longer or shorter that may be; a frame may overtake others by it.
    pub jitter: Duration,
    /// How many in a hundred are not delayed, and overtake others.
    pub hurried: u64,
    /// How many in a hundred are lost.
    pub lost: u64,
    /// How many in a hundred come twice.
    pub doubled: u64,
}

/// What happened to the frames of one direction.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Tally {
    pub frames: u64,
    pub lost: u64,
    pub doubled: u64,
    /// Handed on a millisecond or more after they came.
    pub delayed: u64,
    /// Handed on after one that came later.
    pub overtaken: u64,
}

/// The frames of one direction that are under way.
pub struct Queue {
    impairment: Impairment,
    state: u64,
    under_way: BinaryHeap<Reverse<Frame>>,
    /// The latest frame that was handed on.
    latest: u64,
    tally: Tally,
}

/// Ordered by when it is due; frames that are due at once go in the order in which they came.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Frame {
    due: Duration,
    number: u64,
    came: Duration,
    bytes: Vec<u8>,
}

impl Queue {
    pub fn new(impairment: Impairment) -> Self {
        // xorshift stays at zero once it is there.
        let state = impairment.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let (under_way, latest, tally) = Default::default();
        Self { impairment, state, under_way, latest, tally }
    }

    /// Takes a frame that came at `now`, or loses it.
    pub fn take(&mut self, bytes: &[u8], now: Duration) {
        self.tally.frames += 1;
        if self.happens(self.impairment.lost) {
            self.tally.lost += 1;
            return;
        }
        let is_doubled = self.happens(self.impairment.doubled);
        self.tally.doubled += u64::from(is_doubled);
        for _ in 0..1 + u64::from(is_doubled) {
            let due = now + self.time_under_way();
            let frame = Frame { due, number: self.tally.frames, came: now, bytes: bytes.to_vec() };
            self.under_way.push(Reverse(frame));
        }
    }

    /// When the next frame is due.
    pub fn next_due(&self) -> Option<Duration> {
        self.under_way.peek().map(|Reverse(frame)| frame.due)
    }

    /// The next frame that is due.
    pub fn hand_on(&mut self, now: Duration) -> Option<Vec<u8>> {
        if self.next_due()? > now {
            return None;
        }
        let Reverse(frame) = self.under_way.pop()?;
        self.tally.delayed += u64::from(now - frame.came >= Duration::from_millis(1));
        self.tally.overtaken += u64::from(frame.number < self.latest);
        self.latest = self.latest.max(frame.number);
        Some(frame.bytes)
    }

    pub fn tally(&self) -> Tally {
        self.tally
    }

    fn time_under_way(&mut self) -> Duration {
        let Impairment { delay, jitter, hurried, .. } = self.impairment;
        if self.happens(hurried) {
            return Duration::ZERO;
        }
        let span = u64::try_from(2 * jitter.as_nanos()).unwrap() + 1;
        (delay + Duration::from_nanos(self.random() % span)).saturating_sub(jitter)
    }

    fn happens(&mut self, percent: u64) -> bool {
        self.random() % 100 < percent
    }

    /// xorshift64* (Vigna 2016): its upper bits are the good ones.
    fn random(&mut self) -> u64 {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        self.state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }
}

#[test]
fn the_same_seed_does_the_same_to_the_same_frames() {
    let all = Impairment {
        seed: 7,
        delay: Duration::from_millis(5),
        jitter: Duration::from_millis(5),
        hurried: 5,
        lost: 10,
        doubled: 10,
    };
    let carried = |impairment| {
        let mut queue = Queue::new(impairment);
        let mut came = Vec::new();
        for number in 0..2000u32 {
            let now = Duration::from_micros(u64::from(number) * 100);
            queue.take(&number.to_be_bytes(), now);
            came.extend(std::iter::from_fn(|| queue.hand_on(now)));
        }
        let later = Duration::from_secs(1);
        came.extend(std::iter::from_fn(|| queue.hand_on(later)));
        (came, queue.tally())
    };
    let (came, tally) = carried(all);
    assert_eq!(carried(all), (came.clone(), tally));
    assert_ne!(carried(Impairment { seed: 8, ..all }).0, came);
    assert_eq!(tally.frames, 2000);
    assert_eq!(came.len() as u64, tally.frames - tally.lost + tally.doubled);
    assert!((100..300).contains(&tally.lost) && (100..300).contains(&tally.doubled), "{tally:?}");
    assert!(tally.delayed > 1000 && tally.overtaken > 500, "{tally:?}");

    let untouched: Vec<_> = (0..2000u32).map(|number| number.to_be_bytes().to_vec()).collect();
    let nothing = Tally { frames: 2000, ..Tally::default() };
    assert_eq!(carried(Impairment::default()), (untouched, nothing));
}
