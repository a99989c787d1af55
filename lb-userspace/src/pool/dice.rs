//! Numbers from 0 to 1 that fall evenly: of any few in a row, about a third is below a third.

/// They fall alike in every run: a replay must come out the same.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Dice(u32);

impl Dice {
    /// Below 1. Each is a golden section on from the one before (Knuth, TAOCP vol. 3, §6.4).
    pub fn roll(&mut self) -> f32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9);
        fraction(self.0)
    }
}

/// The top bits of a number as a fraction, below 1.
pub(super) fn fraction(number: u32) -> f32 {
    // 24 bits are what the type holds exactly.
    (number >> 8) as f32 / (1u32 << 24) as f32
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
