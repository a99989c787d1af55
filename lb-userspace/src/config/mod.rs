//! The configuration: what a user wrote, checked until it cannot be wrong.
//!
//! TOML → `RawConfig` (the file's shape, with the place of every value) → [`Config`]
//! (valid by construction: names are resolved to indices, addresses parsed, scripts read).
//!
//! The file is walked by hand rather than derived: a derived reader stops at its first error,
//! while here every problem is reported at once, each with its line, its column and what would
//! be right. The steps are
//!
//! 1. `section`, `value`, `host`: one key at a time; wrong types, ranges, missing and unknown keys;
//! 2. `raw`, `instance`: which keys there are;
//! 3. `check`, `addresses`, `names`: what only shows when looking at several entries together;
//! 4. `build`: nothing was wrong, so the parts fit.
//!
//! Values that a script could get wrong (syntax, names that it uses) are the script engine's to
//! check; its findings are [`Problem`]s too.

mod addresses;
mod build;
mod check;
mod destinations;
mod host;
mod instance;
mod model;
mod monitor;
mod names;
mod parser;
mod persistence;
mod problem;
mod raw;
mod section;
mod security;
mod transport;
mod treatment;
mod value;

#[cfg(test)]
mod tests;

use std::{fs, io, path::Path, sync::Arc};

pub use destinations::{L4Policy, L4Rule, Member, PoolGroup};
pub use model::*;
pub use monitor::{
    Check, DnsCheck, Exchange, HealthMonitor, HttpCheck, HttpRequest, MonitorIndex, Program, Rcode,
    TlsCheck,
};
pub use names::{Expanded, LeftOut, NamedServer, Resolution};
pub use parser::{BuiltInParser, ParserIndex, ParserReference, ProtocolParser};
pub use persistence::PersistenceProfile;
pub use problem::{Problem, Problems, Source};
use section::Report;
pub use security::NetworkSecurityPolicy;
use toml::de::DeTable;
pub use transport::{Inspect, SynProtection, TcpMode, Transport};
pub use treatment::{DisableType, FailAction, ServerDown, ServerPolicy};
pub(crate) use value::nearest;

impl Config {
    /// Reads and checks a file and the scripts that it names.
    pub fn load(path: &Path) -> Result<Self, Problems> {
        let bytes = fs::read(path).map_err(|error| {
            Problem::of_file(path, format!("the configuration cannot be read: {error}"))
        })?;
        let text = String::from_utf8(bytes).map_err(|error| not_utf8(path, &error))?;
        Self::parse(path, &text, |script| fs::read_to_string(script))
    }

    /// Checks a configuration that is already in memory. `path` is what problems name, and its
    /// folder is what the paths in the configuration are relative to.
    pub fn parse(
        path: &Path,
        text: &str,
        read_script: impl Fn(&Path) -> io::Result<String>,
    ) -> Result<Self, Problems> {
        let source = Source::new(path, text);
        let report = Report::new(Arc::clone(&source));
        let (document, errors) = DeTable::parse_recoverable(text);
        if !errors.is_empty() {
            // What is left after recovery may lack what the user did write.
            return Err(errors.iter().map(|error| syntax_problem(&source, error)).collect());
        }
        let folder = path.parent().unwrap_or(Path::new(""));
        let raw = raw::read(folder, document.get_ref(), &report);
        let names = check::check(&raw, &report);
        let scripts = build::read_scripts(&raw, folder, &report, read_script);
        monitor::check_files(&raw.monitors, &scripts, &report);
        report.into_result()?;
        Ok(build::build(path, raw, &names, &scripts)
            .expect("a value is absent only if a problem was reported, and none was"))
    }
}

fn not_utf8(path: &Path, error: &std::string::FromUtf8Error) -> Problem {
    let valid = error.utf8_error().valid_up_to();
    let source = Source::new(path, String::from_utf8_lossy(error.as_bytes()));
    Problem::at(&source, valid..valid + char::REPLACEMENT_CHARACTER.len_utf8(), "not UTF-8")
        .with_help("TOML files are UTF-8: save the file in that encoding")
}

fn syntax_problem(source: &Arc<Source>, error: &toml::de::Error) -> Problem {
    let (what, expected) = match error.message().split_once(", expected ") {
        Some((what, expected)) => (what, Some(expected)),
        None => (error.message(), None),
    };
    let span = error.span().unwrap_or(0..0);
    let word = bare_word(source.text(), span.start);
    let problem = Problem::at(source, span, format!("TOML syntax: {what}"));
    match expected {
        _ if what == "duplicate key" => {
            problem.with_help("a key or table is written once: join the two, or remove one")
        }
        // The parser takes any word for a misspelt `true` or `false`.
        _ if what == "invalid boolean" => {
            problem.with_help(format!("text stands in quotes: {word:?}"))
        }
        Some(expected) => problem.with_help(format!("expected {expected}")),
        None => problem,
    }
}

fn bare_word(text: &str, start: usize) -> &str {
    let rest = text.get(start..).unwrap_or_default();
    let end = rest.find(|c: char| c.is_whitespace() || ",]}#".contains(c)).unwrap_or(rest.len());
    &rest[..end]
}
