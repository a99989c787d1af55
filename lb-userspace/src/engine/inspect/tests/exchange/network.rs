//! Segments on their way, and what becomes of them.

use std::collections::BTreeMap;

use super::*;

/// A segment on its way.
#[derive(Clone, Debug, Default)]
pub struct Flying {
    pub sequence: SequenceNumber,
    pub acknowledgement: SequenceNumber,
    pub flags: Flags,
    pub window: u16,
    pub options: Options,
    pub payload: Vec<u8>,
}

impl Flying {
    pub fn new(segment: &Outgoing, stream: &[u8]) -> Self {
        Self {
            sequence: segment.sequence,
            acknowledgement: segment.acknowledgement,
            flags: segment.flags,
            window: segment.window,
            options: segment.options,
            payload: stream[segment.payload.clone()].to_vec(),
        }
    }

    pub fn segment(&self) -> Segment<'_> {
        Segment {
            sequence: self.sequence,
            acknowledgement: self.acknowledgement,
            flags: self.flags,
            window: self.window,
            options: self.options,
            payload: &self.payload,
        }
    }
}

/// The splice, said in other words than the program's.
pub fn translated(to: Side, handshakes: Handshakes, mut segment: Flying) -> Flying {
    let delta = handshakes.server.wrapping_sub(handshakes.cookie);
    let scales = handshakes.client_scales.map(|client| (client.its_own, client.ours));
    // How many bits the sender means its window to be shifted by, and how many the receiver does.
    let (meant, read) = match (to, scales, handshakes.server_scale) {
        (_, None, _) => (0, 0),
        (Side::Client, Some((_, ours)), server) => (server.unwrap_or(0), ours),
        (Side::Server, Some((its_own, _)), Some(_)) => (its_own, its_own),
        (Side::Server, Some((its_own, _)), None) => (its_own, 0),
    };
    match to {
        Side::Client => segment.sequence = segment.sequence.minus(delta),
        Side::Server => segment.acknowledgement = segment.acknowledgement.plus(delta),
    }
    if !segment.flags.syn {
        let window = (u64::from(segment.window) << meant) >> read;
        let open = segment.window.min(1);
        segment.window = u16::try_from(window).unwrap_or(u16::MAX).max(open);
    }
    segment
}

/// Who a packet is for. Servers are counted as they are chosen: their addresses differ.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum At {
    Client,
    Server(usize),
    /// From whom; of a server, from which.
    Balancer(Side, usize),
}

pub struct Network {
    pub seed: u64,
    pub loss: u64,
    pub now: Duration,
    pub flying: BTreeMap<(Duration, u64), (At, Flying)>,
}

impl Network {
    pub fn random(&mut self) -> u64 {
        // SplitMix64.
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.seed;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    pub fn send(&mut self, to: At, segment: &Flying) {
        let copies = if self.random() % 100 < self.loss { 0 } else { 1 };
        let copies = copies + u64::from(self.random() % 100 < 5);
        for _ in 0..copies {
            let delay = Duration::from_micros(500 + self.random() % 20_000);
            let key = (self.now + delay, self.random());
            self.flying.insert(key, (to, segment.clone()));
        }
    }
}
