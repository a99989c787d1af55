//! What benchmarks print: a table for people, and an object a line for machines.

mod figure;
mod measured;

use std::{env, fs, io::Write as _};

use anyhow::{Context, Result};

pub use figure::Figure;
pub use measured::{Measured, quantile};

/// Where [`Report::write`] appends to.
pub const JSON: &str = "LB_BENCH_JSON";

/// A benchmark's report under way.
#[derive(Debug)]
pub struct Report {
    bench: &'static str,
    figures: Vec<Figure>,
}

impl Report {
    /// Nothing yet.
    pub fn new(bench: &'static str) -> Self {
        Self { bench, figures: Vec::new() }
    }

    /// Begins a table.
    pub fn heading(title: &str) {
        let columns = ["median", "least", "most", "ratio", "spread"];
        let [median, least, most, ratio, spread] = columns;
        println!("\n{title:<56} {median:>11} {least:>11} {most:>11} {ratio:>8} {spread:>7}");
    }

    /// A case whose ratio is to the control's value of the same round.
    pub fn add(&mut self, measured: &Measured, control: &Measured) {
        self.add_ratios(measured, &control.case, &measured.ratios(control));
    }

    /// A case with its ratio to the case `control` in each round.
    pub fn add_ratios(&mut self, measured: &Measured, control: &str, ratios: &[f64]) {
        let figure = Figure::new(self.bench, measured, control, ratios);
        println!("{}", row(&figure));
        self.figures.push(figure);
    }

    /// Appends to the file that the other benchmarks of this call write to.
    pub fn write(&self) -> Result<()> {
        let Some(path) = env::var_os(JSON) else { return Ok(()) };
        let lines: String =
            self.figures.iter().map(|figure| format!("{}\n", figure.to_json())).collect();
        let file = fs::OpenOptions::new().create(true).append(true).open(&path);
        let mut file = file.with_context(|| path.display().to_string())?;
        Ok(file.write_all(lines.as_bytes())?)
    }
}

/// A line of the table. Where the spread is too wide there is no ratio to be read by mistake.
fn row(figure: &Figure) -> String {
    let Figure { case, value, min, max, ratio, spread, .. } = figure;
    let ratio = ratio.map_or_else(|| "too wide".to_owned(), |ratio| format!("{ratio:.2}"));
    let spread = format!("{:.0} %", 100.0 * spread);
    format!("{case:<56} {value:>11.1} {min:>11.1} {max:>11.1} {ratio:>8} {spread:>7}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wide_figure_is_marked() {
        let measured = Measured { values: vec![1.0, 2.0, 9.0], ..Measured::new("case", "ns") };
        let row = row(&Figure::new("bench", &measured, "control", &measured.values));
        assert!(row.contains("too wide"), "{row}");
    }
}
