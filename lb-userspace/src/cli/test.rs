//! `lb test`.

use std::{
    fmt,
    io::{self, IsTerminal as _, Write},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use clap::Args;
use serde_json::json;

use crate::{
    engine::Explanation,
    script_test::{self, Failure, Place, Report, SUFFIX},
};

/// What to test, and how to tell.
#[derive(Args)]
pub struct Options {
    /// Folder in which `*_test.lua` are looked for, or one such file
    #[arg(value_name = "DIR")]
    path: PathBuf,
    /// Only tests whose name contains this
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    filter: String,
    /// As JSON, an object a test
    #[arg(long)]
    json: bool,
}

/// Not every test passed, which has been told already.
#[derive(Debug)]
pub struct Unsuccessful {
    /// The exit status: 1 if tests failed, 2 if files or configurations cannot be read.
    pub status: u8,
}

impl fmt::Display for Unsuccessful {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not every test passed")
    }
}

impl std::error::Error for Unsuccessful {}

const FAILED: u8 = 1;
const UNREADABLE: u8 = 2;

/// Runs the tests and reports.
pub fn run(options: &Options) -> Result<()> {
    let path = &options.path;
    let files = script_test::find(path).with_context(|| path.display().to_string());
    let files = files.or_else(|error| refuse(&format!("{error:#}")))?;
    if files.is_empty() {
        let names = format!("no file there has a name that ends with {SUFFIX}");
        return refuse(&format!("{}: nothing to test: {names}", path.display()));
    }
    let stdout = io::stdout();
    let colour = stdout.is_terminal();
    let mut console = Console::new(Box::new(stdout.lock()), colour, options.json);
    for file in &files {
        script_test::run(file, &options.filter, &mut |report| console.tell(report));
    }
    console.finish(files.len())?;
    let tally = console.tally;
    if tally.passed + tally.failed == 0 {
        return refuse(&format!("no test's name contains {:?}", options.filter));
    }
    match tally.status() {
        0 => Ok(()),
        status => Err(Unsuccessful { status }.into()),
    }
}

/// Nothing was tested.
fn refuse<T>(why: &str) -> Result<T> {
    eprintln!("lb: {why}");
    Err(Unsuccessful { status: UNREADABLE }.into())
}

/// How many there were of each kind.
#[derive(Clone, Copy, Default)]
struct Tally {
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

    fn status(self) -> u8 {
        match self {
            Self { unreadable: true, .. } => UNREADABLE,
            Self { failed: 0, .. } => 0,
            _ => FAILED,
        }
    }
}

/// Tells people, or programs.
struct Console<'a> {
    out: Box<dyn Write + 'a>,
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
    fn new(out: Box<dyn Write + 'a>, colour: bool, json: bool) -> Self {
        let (begun, tally, file) = (Instant::now(), Tally::default(), PathBuf::new());
        Self { out, colour, json, begun, tally, file, failed: Vec::new(), broken: Ok(()) }
    }

    /// Of one test.
    fn tell(&mut self, report: Report) {
        self.tally.count(report.failure.as_ref());
        let told = if self.json { self.tell_program(&report) } else { self.tell_person(&report) };
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

    fn tell_person(&mut self, report: &Report) -> io::Result<()> {
        if self.file != report.file {
            self.file.clone_from(&report.file);
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
    fn finish(&mut self, files: usize) -> Result<()> {
        std::mem::replace(&mut self.broken, Ok(()))?;
        if self.json {
            return Ok(());
        }
        for report in std::mem::take(&mut self.failed) {
            writeln!(self.out)?;
            self.detail(&report)?;
        }
        let Tally { passed, failed, .. } = self.tally;
        let passed =
            self.painted(if failed == 0 { GREEN } else { "" }, &format!("{passed} passed"));
        let failed = self.painted(if failed > 0 { RED } else { "" }, &format!("{failed} failed"));
        let (files, took) = (counted(files, "file"), milliseconds(self.begun.elapsed()));
        writeln!(self.out, "\n{passed}, {failed} in {files} ({took})")?;
        Ok(())
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
