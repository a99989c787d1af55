//! Links that lose, repeat, damage and reorder, and the time that things take.

use std::collections::BTreeMap;

use super::random::Random;

/// Where a frame arrives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    Client,
    Server,
    /// The balancer's interface.
    Program,
    /// The queue between the balancer's program and its worker.
    Worker,
}

pub struct Network {
    /// Of a thousand frames.
    lost: u64,
    repeated: u64,
    damaged: u64,
    /// Milliseconds at least, and more at most.
    delay: u64,
    jitter: u64,
    under_way: BTreeMap<(u64, u64), (Place, Vec<u8>)>,
    sent: u64,
}

impl Network {
    pub fn new(random: &mut Random) -> Self {
        Self {
            lost: random.one_of(&[0, 10, 50, 150]),
            repeated: random.one_of(&[0, 10, 50]),
            damaged: random.one_of(&[0, 0, 10]),
            delay: random.below(20),
            jitter: 1 + random.one_of(&[0, 1, 20]),
            under_way: BTreeMap::new(),
            sent: 0,
        }
    }

    pub fn due(&self) -> u64 {
        self.under_way.keys().next().map_or(u64::MAX, |(due, _)| *due)
    }

    /// The next frame that has arrived by now.
    pub fn next(&mut self, now: u64) -> Option<(Place, Vec<u8>)> {
        let entry = self.under_way.first_entry()?;
        (entry.key().0 <= now).then(|| entry.remove())
    }

    /// Sends a frame over a link.
    pub fn send(&mut self, now: u64, to: Place, mut frame: Vec<u8>, random: &mut Random) {
        if random.per_mille(self.repeated) {
            self.deliver(now, to, frame.clone(), random);
        }
        if random.per_mille(self.lost) {
            return;
        }
        if random.per_mille(self.damaged) {
            // Behind the link's header, which has its own check.
            let at = 14 + random.below(frame.len() as u64 - 14) as usize;
            frame[at] ^= 1 << random.below(8);
        }
        self.deliver(now, to, frame, random);
    }

    fn deliver(&mut self, now: u64, to: Place, frame: Vec<u8>, random: &mut Random) {
        self.queue(now + self.delay + random.below(self.jitter), to, frame, random);
    }

    /// Puts a frame where nothing is lost.
    pub fn queue(&mut self, at: u64, to: Place, frame: Vec<u8>, random: &mut Random) {
        let later = if to == Place::Worker { random.below(3) } else { 0 };
        self.sent += 1;
        self.under_way.insert((at + later, self.sent), (to, frame));
    }
}
