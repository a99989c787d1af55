//! What benchmarks print: a table for people, and with `LB_BENCH_JSON` an object a line.

use std::{env, fs, io::Write as _};

use anyhow::{Context as _, Result};

/// One thing that was measured, once a round.
pub struct Measured {
    pub case: String,
    pub unit: &'static str,
    pub values: Vec<f64>,
}

impl Measured {
    pub fn new(case: impl Into<String>, unit: &'static str) -> Self {
        Self { case: case.into(), unit, values: Vec::new() }
    }

    pub fn median(&self) -> f64 {
        let mut sorted = self.values.clone();
        sorted.sort_by(f64::total_cmp);
        sorted[sorted.len() / 2]
    }

    pub fn least(&self) -> f64 {
        self.values.iter().copied().fold(f64::INFINITY, f64::min)
    }

    pub fn most(&self) -> f64 {
        self.values.iter().copied().fold(0.0, f64::max)
    }
}

/// A benchmark's report under way.
pub struct Report {
    bench: &'static str,
    lines: String,
}

impl Report {
    pub fn new(bench: &'static str) -> Self {
        Self { bench, lines: String::new() }
    }

    pub fn heading(unit: &str) {
        println!("\n{unit:<36} {:>10} {:>10} {:>10} {:>7}", "median", "least", "most", "ratio");
    }

    /// `ratio`: to the case `control`.
    pub fn add(&mut self, measured: &Measured, control: &str, ratio: f64) {
        let (median, least, most) = (measured.median(), measured.least(), measured.most());
        println!("{:<36} {median:>10.1} {least:>10.1} {most:>10.1} {ratio:>7.2}", measured.case);
        let line = serde_json::json!({
            "bench": self.bench, "case": measured.case, "unit": measured.unit, "value": median,
            "min": least, "max": most, "rounds": measured.values.len(),
            "control": control, "ratio": ratio,
        });
        self.lines.push_str(&format!("{line}\n"));
    }

    /// Appends to the file that the other benchmarks of this call write to.
    pub fn write(&self) -> Result<()> {
        let Some(path) = env::var_os("LB_BENCH_JSON") else { return Ok(()) };
        let file = fs::OpenOptions::new().create(true).append(true).open(&path);
        let mut file = file.with_context(|| format!("{}", path.display()))?;
        Ok(file.write_all(self.lines.as_bytes())?)
    }
}
