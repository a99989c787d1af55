//! The server with the lowest of something.

use super::{
    looks::Looks,
    tournament::{OUT, Tournament},
};

/// What a worker has seen of each server, and where it begins to look, so that equals take turns.
#[derive(Clone, Debug)]
pub(super) struct Least {
    scores: Tournament,
    looks: Looks,
    start: usize,
}

impl Least {
    pub fn new(count: usize, worker: usize) -> Self {
        let start = worker.checked_rem(count).unwrap_or_default();
        Self { scores: Tournament::new(count), looks: Looks::new(count, worker), start }
    }

    /// Whose scores are asked for next, whatever else is.
    pub fn due(&self) -> impl Iterator<Item = usize> + use<> {
        self.looks.due()
    }

    /// The one of the lowest score; of equals, the first from where the last search ended. A score
    /// is [`OUT`] if the server is not usable.
    pub fn pick(&mut self, score: impl Fn(usize) -> f64) -> Option<usize> {
        let Self { scores, looks, start } = self;
        let see = |scores: &mut Tournament, index| scores.set(index, score(index));
        let best = |scores: &Tournament| scores.first_lowest(*start);
        let picked = looks.settle(usize::MAX, scores, see, best)?;
        *start = picked + 1;
        Some(picked)
    }
}

/// The same, with a part of each score that others' decide about: how fast a server counts as that
/// has not been seen to answer.
#[derive(Clone, Debug)]
pub(super) struct Fastest {
    /// Seconds.
    times: Tournament,
    costs: Least,
}

impl Fastest {
    pub fn new(count: usize, worker: usize) -> Self {
        Self { times: Tournament::new(count), costs: Least::new(count, worker) }
    }

    /// The one of the lowest load times response time in seconds. A server that has not been measured
    /// counts as the fastest: it is to be measured.
    pub fn pick(
        &mut self,
        seconds: impl Fn(usize) -> Option<f64>,
        load: impl Fn(usize) -> f64,
    ) -> Option<usize> {
        for index in self.costs.due() {
            self.times.set(index, seconds(index).unwrap_or(OUT));
        }
        let fastest = Some(self.times.lowest()).filter(|time| *time < OUT).unwrap_or(1.0);
        self.costs.pick(|index| seconds(index).unwrap_or(fastest) * load(index))
    }
}
