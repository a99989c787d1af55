//! Values of one thing that was measured once a round.

/// One thing that was measured, once a round.
#[derive(Clone, Debug)]
pub struct Measured {
    /// What it is.
    pub case: String,
    /// Of the values. One that ends in `/s` is a rate: more is better; else less is.
    pub unit: &'static str,
    /// One a round.
    pub values: Vec<f64>,
}

impl Measured {
    /// Nothing measured yet.
    pub fn new(case: impl Into<String>, unit: &'static str) -> Self {
        Self { case: case.into(), unit, values: Vec::new() }
    }

    /// The value in the middle.
    pub fn median(&self) -> f64 {
        quantile(&self.values, 0.5)
    }

    /// Each round's value in relation to the control's of the same round: what disturbs the machine
    /// for longer than a round disturbs both, and cancels out.
    pub fn ratios(&self, control: &Self) -> Vec<f64> {
        let pairs = self.values.iter().zip(&control.values);
        pairs.map(|(value, control)| value / control).collect()
    }
}

/// The value that a share of all is not above, between two of them if it falls there; NaN of
/// nothing.
pub fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let Some(last) = sorted.len().checked_sub(1) else { return f64::NAN };
    let place = last as f64 * share;
    let (below, above) = (place.floor() as usize, place.ceil() as usize);
    sorted[below] + (sorted[above] - sorted[below]) * place.fract()
}

/// How wide the middle half of the values is, in relation to their median. Outliers, of which a
/// busy machine makes many, do not move it.
pub fn spread(values: &[f64]) -> f64 {
    let width = quantile(values, 0.75) - quantile(values, 0.25);
    let part = width / quantile(values, 0.5).abs();
    // Of a median of zero: none if all are, else more than anyone would believe.
    if width == 0.0 { 0.0 } else { part.min(10.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_is_found_among_few_and_many() {
        assert_eq!(quantile(&[3.0, 1.0, 2.0], 0.5), 2.0);
        assert_eq!(quantile(&[4.0, 1.0, 2.0, 3.0], 0.5), 2.5);
        assert_eq!(quantile(&[5.0], 0.99), 5.0);
        assert!(quantile(&[], 0.5).is_nan());
    }

    #[test]
    fn one_outlier_does_not_widen_the_spread() {
        assert_eq!(spread(&[10.0, 10.0, 10.0, 10.0, 1000.0]), 0.0);
        assert_eq!(spread(&[8.0, 9.0, 10.0, 11.0, 12.0]), 0.2);
    }

    #[test]
    fn counts_of_nothing_have_a_spread_too() {
        assert_eq!(spread(&[0.0; 7]), 0.0);
        assert_eq!(spread(&[0.0, 0.0, 0.0, 1.0, 1.0]), 10.0);
    }

    #[test]
    fn a_ratio_is_of_the_same_round() {
        let of = |values: &[f64]| Measured { values: values.into(), ..Measured::new("", "ns") };
        let (quiet_then_busy, control) = (of(&[20.0, 60.0]), of(&[10.0, 30.0]));
        assert_eq!(quiet_then_busy.ratios(&control), [2.0, 2.0]);
    }
}
