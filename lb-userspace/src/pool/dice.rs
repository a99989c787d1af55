//! Numbers from 0 to 1 that fall evenly: of any few in a row, about a third is below a third.

/// The fractional part of the golden ratio, times 2^32. Numbers that are each so much on from the one before
/// are spread evenly, however many there are (Knuth, TAOCP vol. 3, §6.4).
const SECTION: u32 = 0x9e37_79b9;

/// They fall alike in every run: a replay must come out the same.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Dice(u32);

impl Dice {
    /// Below 1.
    pub fn roll(&mut self) -> f32 {
        self.0 = self.0.wrapping_add(SECTION);
        fraction(self.0)
    }
}

/// The top bits of a number as a fraction, below 1.
pub(super) fn fraction(number: u32) -> f32 {
    // 24 bits are what the type holds exactly.
    (number >> 8) as f32 / (1u32 << 24) as f32
}

/// Where among `positions` a worker starts: any number of workers is spread evenly.
pub(super) fn start(worker: usize, positions: usize) -> usize {
    let turn = (worker as u32).wrapping_mul(SECTION);
    ((u128::from(turn) * positions as u128) >> 32) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_a_few_rolls_is_below_it() {
        let mut dice = Dice::default();
        for share in [0.0625f32, 0.25, 0.5, 0.9] {
            let below = (0..200).filter(|_| dice.roll() < share).count();
            let expected = share * 200.0;
            assert!((below as f32 - expected).abs() <= 3.0, "{share}: {below}");
        }
        assert!(fraction(u32::MAX) < 1.0);
    }
}
