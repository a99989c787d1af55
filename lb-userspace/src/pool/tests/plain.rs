//! The algorithms as they are meant: by asking every server for every decision.

use std::cmp::Reverse;

use super::*;
use crate::pool::dice::Dice;

/// A server at one moment.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct State {
    pub usable: bool,
    pub flows: u32,
    pub share: f32,
    pub millis: Option<u64>,
}

/// Servers that a test changes.
#[derive(Clone, Debug)]
pub struct Farm {
    pub ratios: Vec<u16>,
    pub states: Vec<State>,
}

impl Live for Farm {
    fn is_usable(&self, server: ServerIndex) -> bool {
        self.states[server.0].usable
    }

    fn share(&self, server: ServerIndex) -> f32 {
        self.states[server.0].share
    }

    fn connections(&self, server: ServerIndex) -> u32 {
        self.states[server.0].flows
    }

    fn response_time(&self, server: ServerIndex) -> Option<std::time::Duration> {
        self.states[server.0].millis.map(std::time::Duration::from_millis)
    }
}

impl Farm {
    pub fn idle(ratios: &[u16]) -> Self {
        let state = State { usable: true, flows: 0, share: 1.0, millis: Some(1) };
        Self { ratios: ratios.into(), states: vec![state; ratios.len()] }
    }

    pub fn usable(&self) -> impl Iterator<Item = usize> {
        (0..self.states.len()).filter(|index| self.states[*index].usable)
    }

    fn load(&self, index: usize) -> f64 {
        let State { flows, share, .. } = self.states[index];
        (f64::from(flows) + 1.0) / (f64::from(self.ratios[index]) * f64::from(share))
    }

    /// What the algorithm makes as low as it can.
    pub fn score(&self, algorithm: Algorithm, index: usize) -> f64 {
        let seconds = |index: usize| {
            let time = self.response_time(ServerIndex(index))?;
            Some(time.as_secs_f64())
        };
        match algorithm {
            Algorithm::FastestResponse => {
                let known = (0..self.states.len()).filter_map(seconds);
                let fastest = known.min_by(f64::total_cmp).unwrap_or(1.0);
                seconds(index).unwrap_or(fastest) * self.load(index)
            }
            _ => self.load(index),
        }
    }

    fn least(&self, algorithm: Algorithm, among: impl Iterator<Item = usize>) -> Option<usize> {
        let score = |index| self.score(algorithm, index);
        among.min_by(|one, other| score(*one).total_cmp(&score(*other)))
    }
}

/// One worker that asks everybody.
#[derive(Debug)]
pub struct Plain {
    algorithm: Algorithm,
    /// Where the search for the least begins.
    pub start: usize,
    turns: Nginx,
    passed: Nginx,
    dice: Dice,
}

impl Plain {
    pub fn new(algorithm: Algorithm, servers: usize) -> Self {
        let nginx = || Nginx(vec![0; servers]);
        Self { algorithm, start: 0, turns: nginx(), passed: nginx(), dice: Dice::default() }
    }

    /// `limit` is how far a server of the greatest ratio is filled.
    pub fn pick(&mut self, farm: &Farm, limit: u32) -> Option<usize> {
        let dice = self.dice.roll();
        let admitted = |index: &usize| farm.states[*index].share > dice;
        match self.algorithm {
            Algorithm::RoundRobin => {
                let first = self.turns.pick(&farm.ratios, farm.usable())?;
                let stands_in = |it: &mut Self| {
                    it.passed.pick(&farm.ratios, farm.usable().filter(admitted)).unwrap_or(first)
                };
                Some(if admitted(&first) { first } else { stands_in(self) })
            }
            Algorithm::FewestServers => {
                let most = u32::from(*farm.ratios.iter().max()?);
                let is_open = |index: &usize| {
                    let (flows, ratio) = (farm.states[*index].flows, farm.ratios[*index]);
                    flows == 0 || flows * most < limit * u32::from(ratio)
                };
                let filled = farm.usable().filter(|index| !is_open(index));
                let open = || farm.usable().filter(is_open);
                let admitted = open().find(admitted);
                admitted.or_else(|| farm.least(self.algorithm, filled)).or_else(|| open().next())
            }
            algorithm => {
                let (before, after): (Vec<_>, Vec<_>) =
                    farm.usable().partition(|index| *index < self.start);
                let picked = farm.least(algorithm, after.into_iter().chain(before))?;
                self.start = picked + 1;
                Some(picked)
            }
        }
    }
}

/// Everybody's credit, as nginx has it.
#[derive(Debug)]
pub struct Nginx(pub Vec<i64>);

impl Nginx {
    pub fn pick(&mut self, ratios: &[u16], among: impl Iterator<Item = usize>) -> Option<usize> {
        let among: Vec<_> = among.collect();
        among.iter().for_each(|index| self.0[*index] += i64::from(ratios[*index]));
        let picked = among.iter().copied().max_by_key(|index| (self.0[*index], Reverse(*index)))?;
        self.0[picked] -= among.iter().map(|index| i64::from(ratios[*index])).sum::<i64>();
        Some(picked)
    }
}
