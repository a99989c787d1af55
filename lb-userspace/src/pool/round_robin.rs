//! Weighted round robin, smoothly: a server of ratio 3 between two of ratio 1 takes flows as in
//! `a b a c a`, not `a a a b c`.

use crate::config::{Member, Server};

/// What takes turns: more often than others by its ratio.
pub(super) trait Weighted {
    /// Its share.
    fn ratio(&self) -> u16;
}

impl Weighted for Server {
    fn ratio(&self) -> u16 {
        self.ratio
    }
}

impl Weighted for Member {
    fn ratio(&self) -> u16 {
        self.ratio
    }
}

/// Whose turn it is. A worker has one for each pool.
#[derive(Clone, Debug)]
pub(super) enum RoundRobin {
    /// All ratios are equal: the next server. Picks in constant time.
    Equal(usize),
    /// The algorithm of nginx (commit 52327e0627f4 of 2012): with each pick every usable server
    /// gains its ratio as credit; the richest is picked, and pays what all have gained. Over as
    /// many picks as the ratios' sum each server is picked as often as its ratio says, and all
    /// are back at zero. Picks in time linear in the number of servers.
    Smooth(Vec<i64>),
}

/// Most picks that a worker's start is moved on by, where they have to be played through.
const HEAD_START: usize = 256;

impl RoundRobin {
    pub fn new(servers: &[impl Weighted], worker: usize) -> Self {
        if servers.windows(2).all(|pair| pair[0].ratio() == pair[1].ratio()) {
            return Self::Equal(start(worker, servers.len()));
        }
        let mut turns = Self::Smooth(vec![0; servers.len()]);
        let cycle = servers.iter().map(|server| usize::from(server.ratio())).sum();
        for _ in 0..start(worker, HEAD_START.min(cycle)) {
            turns.pick(servers, |_| true);
        }
        turns
    }

    pub fn pick(
        &mut self,
        servers: &[impl Weighted],
        usable: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        match self {
            Self::Equal(next) => {
                let count = servers.len();
                let mut candidates = (*next..count).chain(0..*next);
                let picked = candidates.find(|index| usable(*index))?;
                *next = (picked + 1) % count;
                Some(picked)
            }
            Self::Smooth(credits) => pick_smooth(credits, servers, usable),
        }
    }
}

fn pick_smooth(
    credits: &mut [i64],
    servers: &[impl Weighted],
    usable: impl Fn(usize) -> bool,
) -> Option<usize> {
    let mut gained = 0;
    let mut richest: Option<(i64, usize)> = None;
    for (index, (credit, server)) in credits.iter_mut().zip(servers).enumerate() {
        if !usable(index) {
            continue;
        }
        *credit += i64::from(server.ratio());
        gained += i64::from(server.ratio());
        if richest.is_none_or(|(most, _)| *credit > most) {
            richest = Some((*credit, index));
        }
    }
    let (_, picked) = richest?;
    credits[picked] -= gained;
    Some(picked)
}

/// Where among `positions` a worker starts: any number of workers is spread evenly, as each
/// stands a golden section on from the one before (Knuth, TAOCP vol. 3, §6.4).
fn start(worker: usize, positions: usize) -> usize {
    /// The fractional part of the golden ratio, times 2^32.
    const SECTION: u32 = 0x9e37_79b9;
    let turn = (worker as u32).wrapping_mul(SECTION);
    ((u128::from(turn) * positions as u128) >> 32) as usize
}
