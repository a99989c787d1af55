//! What became of the tests: for people, or for programs.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use serde_json::json;

use crate::{
    engine::Explanation,
    script_test::{Failure, Place, Report},
};

/// How many there were of each kind.
#[derive(Clone, Copy, Default)]
pub struct Tally {
    files: usize,
    passed: usize,
    failed: usize,
    unreadable: bool,
}

impl Tally {
    fn count(&mut self, failure: Option<&Failure>) {
        match failure {
            None => self.passed += 1,
            Some(failure) => {
                self.failed += 1;
                self.unreadable |= failure.unreadable;
            }
        }
    }

    /// How many tests there were.
    pub fn total(self) -> usize {
        self.passed + self.failed
    }

    /// The exit status.
    pub fn status(self) -> u8 {
        match self {
            Self { unreadable: true, .. } => super::UNREADABLE,
            Self { failed: 0, .. } => 0,
            _ => super::FAILED,
        }
    }
}

/// Tells people, or programs.
pub struct Console<'a> {
    out: &'a mut dyn Write,
    colour: bool,
    json: bool,
    begun: Instant,
    tally: Tally,
    /// The file whose tests are being told of.
    file: PathBuf,
    failed: Vec<Report>,
    /// Whether nobody listens any more.
    broken: io::Result<()>,
}

impl<'a> Console<'a> {
    /// Has told nothing yet.
    pub fn new(out: &'a mut dyn Write, colour: bool, json: bool) -> Self {
        let (begun, tally, file) = (Instant::now(), Tally::default(), PathBuf::new());
        Self { out, colour, json, begun, tally, file, failed: Vec::new(), broken: Ok(()) }
    }

    /// Of one test. Those of a file come together.
    pub fn tell(&mut self, report: Report) {
        self.tally.count(report.failure.as_ref());
        let first = self.file != report.file;
        if first {
            self.file.clone_from(&report.file);
            self.tally.files += 1;
        }
        let told =
            if self.json { self.tell_program(&report) } else { self.tell_person(&report, first) };
        if self.broken.is_ok() {
            self.broken = told;
        }
        if report.failure.is_some() {
            self.failed.push(report);
        }
    }

    fn tell_program(&mut self, report: &Report) -> io::Result<()> {
        let failure = report.failure.as_ref();
        let object = json!({
            "file": report.file,
            "test": report.test,
            "line": report.line,
            "passed": failure.is_none(),
            "seconds": report.took.as_secs_f64(),
            "message": failure.map(|failure| &failure.message),
            "places": failure.map(|failure| &failure.places),
            "flow": failure.and_then(|failure| failure.flow.as_ref()),
        });
        writeln!(self.out, "{object}")
    }

    fn tell_person(&mut self, report: &Report, first: bool) -> io::Result<()> {
        if first {
            writeln!(self.out, "{}", report.file.display())?;
        }
        let word = match report.failure {
            None => self.painted(GREEN, "ok    "),
            Some(_) => self.painted(RED, "FAILED"),
        };
        let name = report.test.as_deref().unwrap_or("the file as a whole");
        writeln!(self.out, "  {word}  {name} ({})", milliseconds(report.took))
    }

    /// The failures in detail, and the sum.
    pub fn finish(&mut self) -> io::Result<Tally> {
        std::mem::replace(&mut self.broken, Ok(()))?;
        if self.json || self.tally.total() == 0 {
            return Ok(self.tally);
        }
        for report in std::mem::take(&mut self.failed) {
            writeln!(self.out)?;
            self.detail(&report)?;
        }
        let Tally { files, passed, failed, .. } = self.tally;
        let green = if failed == 0 { GREEN } else { "" };
        let red = if failed > 0 { RED } else { "" };
        let passed = self.painted(green, &format!("{passed} passed"));
        let failed = self.painted(red, &format!("{failed} failed"));
        let (files, took) = (counted(files, "file"), milliseconds(self.begun.elapsed()));
        writeln!(self.out, "\n{passed}, {failed} in {files} ({took})")?;
        Ok(self.tally)
    }

    fn detail(&mut self, report: &Report) -> io::Result<()> {
        let Some(failure) = &report.failure else { return Ok(()) };
        let name = report.test.clone().unwrap_or_else(|| report.file.display().to_string());
        writeln!(self.out, "{}  {name}", self.painted(RED, "FAILED"))?;
        let own = report.line.map(|line| Place { file: report.file.display().to_string(), line });
        let places = if failure.places.is_empty() { own.as_slice() } else { &failure.places };
        let mut places = places.iter();
        if let Some(place) = places.next() {
            writeln!(self.out, "  at {place}")?;
            if let Some(line) = line_of(Path::new(&place.file), place.line) {
                writeln!(self.out, "     {}", line.trim())?;
            }
        }
        for place in places {
            writeln!(self.out, "  called at {place}")?;
        }
        writeln!(self.out, "{}", indented(&failure.message))?;
        failure.flow.as_ref().map_or(Ok(()), |flow| self.explain(flow))
    }

    fn explain(&mut self, flow: &Explanation) -> io::Result<()> {
        let Explanation { protocol, client, vip, virtual_service, .. } = flow;
        writeln!(self.out, "\n  flow {protocol} {client} to {vip} ({virtual_service})")?;
        for step in &flow.steps {
            writeln!(self.out, "    {}: {}", step.what, step.result)?;
        }
        let said = [("log", Some(&flow.log)), ("refused", flow.reason.as_ref())];
        for (name, text) in said.into_iter().chain([("error", flow.error.as_ref())]) {
            if let Some(text) = text.filter(|text| !text.is_empty()) {
                writeln!(self.out, "    {name}: {text}")?;
            }
        }
        Ok(())
    }

    fn painted(&self, colour: &str, text: &str) -> String {
        if !self.colour || colour.is_empty() {
            return text.to_owned();
        }
        format!("{colour}{text}{PLAIN}")
    }
}

const GREEN: &str = "\x1b[32m";
const RED: &str = "\x1b[1;31m";
const PLAIN: &str = "\x1b[0m";

fn milliseconds(took: Duration) -> String {
    format!("{:.1} ms", took.as_secs_f64() * 1000.0)
}

fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
}

/// A line of a file, if it is still there.
fn line_of(file: &Path, line: u32) -> Option<String> {
    let text = std::fs::read_to_string(file).ok()?;
    text.lines().nth(line.checked_sub(1)? as usize).map(str::to_owned)
}
