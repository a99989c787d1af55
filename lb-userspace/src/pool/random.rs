//! Two servers drawn at random, and the less loaded of them (Mitzenmacher, IEEE TPDS 2001): nearly
//! as even as asking all of them, at the price of asking two.

use crate::config::Server;

/// Draws before the servers are gone through in order: with nine of ten down, one pick in seventy
/// gets that far.
const ATTEMPTS: usize = 40;

/// A worker's dice. They fall alike in every run: randomness here is for spreading load, not for
/// secrets, and a replay must come out the same.
#[derive(Clone, Debug)]
pub(super) struct Random {
    state: u64,
    /// The sums of the ratios up to and with each server.
    sums: Vec<u32>,
}

impl Random {
    pub fn new(servers: &[Server], worker: usize) -> Self {
        let sums = servers.iter().scan(0, |sum, server| {
            *sum += u32::from(server.ratio);
            Some(*sum)
        });
        // Any odd number apart from others: xorshift must not begin with zero.
        let state = (worker as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        Self { state, sums: sums.collect() }
    }

    /// The better of two usable servers, each drawn as often as its ratio says.
    pub fn pick(
        &mut self,
        usable: impl Fn(usize) -> bool,
        load: impl Fn(usize) -> f64,
    ) -> Option<usize> {
        if self.sums.is_empty() {
            return None;
        }
        let first = self.draw(&usable)?;
        let second = self.draw(|index| index != first && usable(index));
        match second {
            Some(second) if load(second) < load(first) => Some(second),
            _ => Some(first),
        }
    }

    fn draw(&mut self, usable: impl Fn(usize) -> bool) -> Option<usize> {
        for _ in 0..ATTEMPTS {
            let index = self.one();
            if usable(index) {
                return Some(index);
            }
        }
        let (count, start) = (self.sums.len(), self.one());
        (start..count).chain(0..start).find(|index| usable(*index))
    }

    /// A server's index; 0 if there is none.
    fn one(&mut self) -> usize {
        let total = u64::from(self.sums.last().copied().unwrap_or(1));
        let at = (u128::from(self.next()) * u128::from(total)) >> 64;
        self.sums.partition_point(|sum| u128::from(*sum) <= at)
    }

    /// xorshift64* (Vigna, ACM TOMS 2016).
    fn next(&mut self) -> u64 {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        self.state.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}
