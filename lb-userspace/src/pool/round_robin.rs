//! Turns, by ratio and smoothly: a server of ratio 3 between two of ratio 1 takes flows as in
//! `a b a c a`, not `a a a b c`.

use super::{dice::start, looks::Looks, smooth::Smooth};

/// Whose turn it is. A worker has one for each pool.
#[derive(Clone, Debug)]
pub(super) enum RoundRobin {
    /// All ratios are equal: the next server. Who is not usable is passed over.
    Equal { next: usize, count: usize },
    /// Those that were usable at the last look at each share the turns.
    Smooth(Smooth, Looks),
}

/// Most picks that a worker's start is moved on by, where they have to be played through.
const HEAD_START: usize = 256;

impl RoundRobin {
    /// By the servers' ratios.
    pub fn new(ratios: &[u16], worker: usize) -> Self {
        let count = ratios.len();
        if ratios.windows(2).all(|pair| pair[0] == pair[1]) {
            return Self::Equal { next: start(worker, count), count };
        }
        let mut smooth = Smooth::new(ratios);
        (0..count).for_each(|index| smooth.set(index, true));
        let cycle = ratios.iter().map(|ratio| usize::from(*ratio)).sum();
        for _ in 0..start(worker, HEAD_START.min(cycle)) {
            smooth.richest().into_iter().for_each(|index| smooth.pick(index));
        }
        Self::Smooth(smooth, Looks::new(count, worker))
    }

    /// Who is next of those that are usable. Once `most` servers have been asked in vain, nobody.
    pub fn pick(&mut self, most: usize, usable: impl Fn(usize) -> bool) -> Option<usize> {
        match self {
            Self::Equal { next, count } => {
                let mut candidates = (*next..*count).chain(0..*next).take(most);
                let picked = candidates.find(|index| usable(*index));
                let after = picked.map_or(*next + most.min(*count), |picked| picked + 1);
                *next = after.checked_rem(*count).unwrap_or_default();
                picked
            }
            Self::Smooth(smooth, looks) => {
                let see = |smooth: &mut Smooth, index| smooth.set(index, usable(index));
                let picked = looks.settle(most, smooth, see, Smooth::richest)?;
                smooth.pick(picked);
                Some(picked)
            }
        }
    }
}
