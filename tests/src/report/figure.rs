//! A measurement's result, as it is printed, stored and compared.

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::measured::{Measured, quantile, spread};

/// A middle half of the ratios that is wider than this part of their median says nothing.
const TOO_WIDE: f64 = 0.25;

/// A case's values over all rounds, and its ratio to a control in the same run.
#[derive(Clone, PartialEq, Debug)]
pub struct Figure {
    /// The benchmark.
    pub bench: String,
    /// The case.
    pub case: String,
    /// Of the values.
    pub unit: String,
    /// Median.
    pub value: f64,
    /// Least.
    pub min: f64,
    /// Most.
    pub max: f64,
    /// How many values there are.
    pub rounds: u64,
    /// The case that it is compared with.
    pub control: String,
    /// Median of the rounds' ratios; `None` if they are spread too wide to mean anything.
    pub ratio: Option<f64>,
    /// How wide the middle half of the ratios is, as a part of their median.
    pub spread: f64,
}

impl Figure {
    /// `ratios`: each round's, to `control`.
    pub fn new(bench: &str, measured: &Measured, control: &str, ratios: &[f64]) -> Self {
        // A case that is its own control has no ratio to doubt, but values.
        let is_control = measured.case == control;
        let spread = spread(if is_control { &measured.values } else { ratios });
        let ratio = quantile(ratios, 0.5);
        Self {
            bench: bench.into(),
            case: measured.case.clone(),
            unit: measured.unit.into(),
            value: measured.median(),
            min: quantile(&measured.values, 0.0),
            max: quantile(&measured.values, 1.0),
            rounds: measured.values.len() as u64,
            control: control.into(),
            ratio: (spread <= TOO_WIDE).then_some(ratio).filter(|r| r.is_finite()),
            spread,
        }
    }

    /// A line of `--json`.
    pub fn to_json(&self) -> Value {
        json!({
            "bench": self.bench, "case": self.case, "unit": self.unit, "value": self.value,
            "min": self.min, "max": self.max, "rounds": self.rounds, "control": self.control,
            "ratio": self.ratio, "spread": self.spread,
        })
    }

    /// Reads a line of `--json`.
    pub fn from_json(line: &str) -> Result<Self> {
        let object: Value = serde_json::from_str(line).context("a line is not JSON")?;
        let text = |name: &str| {
            let value = object[name].as_str().map(str::to_owned);
            value.with_context(|| format!("no text `{name}` in {line}"))
        };
        let number = |name: &str| {
            object[name].as_f64().with_context(|| format!("no number `{name}` in {line}"))
        };
        Ok(Self {
            bench: text("bench")?,
            case: text("case")?,
            unit: text("unit")?,
            value: number("value")?,
            min: number("min")?,
            max: number("max")?,
            rounds: number("rounds")? as u64,
            control: text("control")?,
            ratio: object["ratio"].as_f64(),
            spread: number("spread")?,
        })
    }

    /// Whether more of it is better.
    pub fn is_rate(&self) -> bool {
        self.unit.ends_with("/s")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(ratios: &[f64]) -> Figure {
        let measured = Measured { values: vec![20.0, 30.0, 25.0], ..Measured::new("case", "ns") };
        Figure::new("bench", &measured, "control", ratios)
    }

    #[test]
    fn what_is_written_is_read() {
        let figure = figure(&[2.0, 2.1, 2.2]);
        assert_eq!((figure.value, figure.ratio), (25.0, Some(2.1)));
        assert_eq!(Figure::from_json(&figure.to_json().to_string()).unwrap(), figure);
    }

    #[test]
    fn a_ratio_that_is_spread_too_wide_is_none() {
        assert_eq!(figure(&[1.0, 2.0, 3.0]).ratio, None);
        assert_eq!(figure(&[f64::INFINITY; 3]).ratio, None);
    }

    #[test]
    fn a_line_without_a_number_is_named() {
        let error = Figure::from_json(r#"{"bench": "b", "case": "c", "unit": "ns"}"#).unwrap_err();
        assert!(error.to_string().contains("`value`"), "{error}");
    }
}
