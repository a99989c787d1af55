//! `lb test`.

mod report;
#[cfg(test)]
mod tests;

use std::{
    io::{self, IsTerminal as _, Write},
    path::PathBuf,
};

use anyhow::Result;
use clap::Args;
use thiserror::Error;

use crate::script_test::{self, SUFFIX};
use report::Console;

/// Tests failed.
const FAILED: u8 = 1;
/// A file or a configuration cannot be read, or there is nothing to test.
const UNREADABLE: u8 = 2;

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

/// Not every test passed, or there was none.
#[derive(Debug, Error)]
#[error("{}", why.as_deref().unwrap_or("not every test passed"))]
pub struct Unsuccessful {
    /// The exit status.
    pub status: u8,
    /// What has not been told yet.
    pub why: Option<String>,
}

impl Unsuccessful {
    /// Nothing was tested, which must not look like success.
    fn nothing(why: String) -> Self {
        Self { status: UNREADABLE, why: Some(why) }
    }
}

/// Runs the tests and reports.
pub fn run(options: &Options) -> Result<()> {
    let stdout = io::stdout();
    let colour = stdout.is_terminal();
    run_to(options, &mut stdout.lock(), colour)
}

fn run_to(options: &Options, out: &mut dyn Write, colour: bool) -> Result<()> {
    let path = options.path.display();
    let files = script_test::find(&options.path)
        .map_err(|error| Unsuccessful::nothing(format!("{path}: {error}")))?;
    if files.is_empty() {
        let why = format!("{path}: nothing to test: no file there has a name like x{SUFFIX}");
        return Err(Unsuccessful::nothing(why).into());
    }
    let mut console = Console::new(out, colour, options.json);
    for file in &files {
        script_test::run(file, &options.filter, &mut |report| console.tell(report));
    }
    let tally = console.finish()?;
    if tally.total() == 0 {
        let why = format!("{path}: nothing to test: no name contains {:?}", options.filter);
        return Err(Unsuccessful::nothing(why).into());
    }
    match tally.status() {
        0 => Ok(()),
        status => Err(Unsuccessful { status, why: None }.into()),
    }
}
