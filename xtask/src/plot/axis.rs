//! Where values are on an axis, and where it has marks.

use std::ops::Range;

/// From one power of two, or of ten, to the next, or evenly from zero.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Scale {
    Linear,
    Log,
}

impl Scale {
    /// Values that differ much are only told apart on a logarithmic axis.
    pub fn fitting(values: &[f64]) -> Self {
        const MUCH: f64 = 30.0;
        let Range { start, end } = extent(values);
        if start > 0.0 && end / start > MUCH { Self::Log } else { Self::Linear }
    }

    /// The place of a value.
    pub fn place(self, value: f64) -> f64 {
        if self == Self::Log { value.max(f64::MIN_POSITIVE).log10() } else { value }
    }

    /// The value at a place.
    pub fn value(self, place: f64) -> f64 {
        if self == Self::Log { 10f64.powf(place) } else { place }
    }

    /// Round values, of which the first and the last enclose these.
    pub fn marks(self, values: &[f64]) -> Vec<f64> {
        let Range { start, end } = extent(values);
        match self {
            Self::Log => decades(start, end),
            Self::Linear => steps(end),
        }
    }
}

fn extent(values: &[f64]) -> Range<f64> {
    let of = |pick: fn(f64, f64) -> f64| values.iter().copied().reduce(pick).unwrap_or(1.0);
    of(f64::min)..of(f64::max)
}

/// 1, 3, 10, 30 and so on.
fn decades(start: f64, end: f64) -> Vec<f64> {
    let first = start.log10().floor() as i32;
    let all = (first..first + 20).flat_map(|power| [1.0, 3.0].map(|n| n * 10f64.powi(power)));
    let all: Vec<_> = all.collect();
    let from = all.iter().rposition(|mark| *mark <= start).unwrap_or(0);
    let to = all.iter().position(|mark| *mark >= end).unwrap_or(all.len() - 1);
    all[from..=to].to_vec()
}

/// Some five, from zero.
fn steps(end: f64) -> Vec<f64> {
    let end = if end > 0.0 { end } else { 1.0 };
    let rough = end / 5.0;
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|n| n * power).into_iter().find(|step| *step >= rough);
    let step = step.unwrap_or(rough);
    (0..=(end / step).ceil() as u32).map(|count| f64::from(count) * step).collect()
}

/// A number as it stands at a mark: powers of two by their names, others with separators.
pub fn label(value: f64) -> String {
    const KI: f64 = 1024.0;
    let whole = value.round() as u64;
    if (value - value.round()).abs() > 1e-6 * value.abs() {
        return format!("{value:.2}").trim_end_matches('0').to_owned();
    }
    match value {
        v if v >= KI * KI && whole.is_multiple_of(1 << 20) => format!("{} Mi", whole >> 20),
        v if v >= KI && whole.is_multiple_of(1 << 10) => format!("{} Ki", whole >> 10),
        v if v >= 1e6 => {
            format!("{},{:03},{:03}", whole / 1_000_000, whole / 1000 % 1000, whole % 1000)
        }
        v if v >= 1e3 => format!("{},{:03}", whole / 1000, whole % 1000),
        _ => whole.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_enclose_what_is_marked() {
        for values in [[3.0, 250.0], [0.02, 9.5], [0.3, 0.31], [1e-3, 4e6], [7.0, 7.0]] {
            for scale in [Scale::Linear, Scale::Log] {
                let marks = scale.marks(&values);
                let (first, last) = (marks[0], marks[marks.len() - 1]);
                let sum = format!("{scale:?} {values:?}: {marks:?}");
                assert!(first <= values[0] && last >= values[1], "{sum}");
                assert!((2..=24).contains(&marks.len()), "{sum}");
            }
        }
    }

    #[test]
    fn only_what_differs_much_is_on_a_logarithmic_axis() {
        assert_eq!(Scale::fitting(&[100.0, 350.0]), Scale::Linear);
        assert_eq!(Scale::fitting(&[3.0, 300.0]), Scale::Log);
        assert_eq!(Scale::fitting(&[0.0, 300.0]), Scale::Linear, "zero has no place there");
    }

    #[test]
    fn marks_are_named_as_people_write_them() {
        let cases = [
            (1.0, "1"),
            (0.25, "0.25"),
            (0.3, "0.3"),
            (300.0, "300"),
            (10_000.0, "10,000"),
            (65_536.0, "64 Ki"),
            (4_194_304.0, "4 Mi"),
            (3_000_000.0, "3,000,000"),
        ];
        for (value, expected) in cases {
            assert_eq!(label(value), expected);
        }
    }
}
