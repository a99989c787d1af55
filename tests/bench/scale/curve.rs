//! One thing at several sizes.

use anyhow::Result;
use lb_tests::{
    check_stopped,
    report::{Measured, Report},
};

use super::ROUNDS;

/// A subject for each size, smallest first, and what was measured of it.
pub struct Curve<T> {
    points: Vec<(T, Measured)>,
}

impl<T> Curve<T> {
    /// `line` is `what: line`; `make` a subject of one size.
    pub fn new(
        line: &str,
        unit: &'static str,
        sizes: &[(u32, &str)],
        make: impl Fn(u32) -> Result<T>,
    ) -> Result<Self> {
        let mut points = Vec::new();
        for (size, thing) in sizes {
            check_stopped()?;
            let measured = Measured::new(format!("{line}, {}", named(*size, thing)), unit);
            points.push((make(*size)?, measured));
        }
        Ok(Self { points })
    }

    /// One value of each subject.
    fn round(&mut self, measure: impl Fn(&mut T) -> Result<f64>) -> Result<()> {
        for (subject, measured) in &mut self.points {
            check_stopped()?;
            measured.values.push(measure(subject)?);
        }
        Ok(())
    }

    /// A row a size, beside the smallest.
    pub fn report(&self, report: &mut Report) {
        let Some((_, smallest)) = self.points.first() else { return };
        self.points.iter().for_each(|(_, measured)| report.add(measured, smallest));
    }
}

/// All curves in turn, round after round, so that what disturbs the machine disturbs all of them.
pub fn take_turns<T>(
    curves: &mut [Curve<T>],
    measure: impl Fn(&mut T) -> Result<f64>,
) -> Result<()> {
    for _ in 0..ROUNDS {
        curves.iter_mut().try_for_each(|curve| curve.round(&measure))?;
    }
    Ok(())
}

/// So many of a thing, each size of the same.
pub fn sizes<'a>(of: &[u32], thing: &'a str) -> Vec<(u32, &'a str)> {
    of.iter().map(|size| (*size, thing)).collect()
}

/// `1 flow`, `4 Ki flows`, `10,000 servers`: with Ki and Mi only what they divide.
pub fn named(number: u32, thing: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    let number = match number {
        n if n >= 1 << 20 && n.is_multiple_of(1 << 20) => format!("{} Mi", n >> 20),
        n if n >= 1 << 10 && n.is_multiple_of(1 << 10) => format!("{} Ki", n >> 10),
        n if n >= 1000 => format!("{},{:03}", n / 1000, n % 1000),
        n => n.to_string(),
    };
    format!("{number} {thing}{plural}")
}
