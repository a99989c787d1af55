//! `lb test`: unit tests of scripts, written in Lua.
//!
//! A test file gets a Lua state of its own, in which `balancer("lb.toml")` is a whole balancer over
//! memory (see [`crate::simulation`]) with the very scripts that the configuration names. A test
//! sends it first packets and says what it expects of the decisions, the tables and the log.
//! Nothing is random, and time passes only when a test says so.

mod balancer;
mod connection;
mod ends;
mod failure;
mod files;
mod flow;
mod options;
mod rig;
mod session;
mod state;
mod streams;
#[cfg(test)]
mod tests;
mod values;

use std::{
    path::{Path, PathBuf},
    rc::Rc,
    time::{Duration, Instant},
};

use mlua::Lua;

pub use failure::{Failure, Place};
pub use files::{SUFFIX, find};
use session::{Session, Test};

/// What became of one test.
#[derive(Clone, PartialEq, Debug)]
pub struct Report {
    /// The test's file.
    pub file: PathBuf,
    /// The test; `None`: the file as a whole, which then has failed.
    pub test: Option<String>,
    /// The test's line.
    pub line: Option<u32>,
    /// How long it took.
    pub took: Duration,
    /// Why it did not pass.
    pub failure: Option<Failure>,
}

/// Runs a file's tests whose names contain `filter`, and tells of each.
///
/// Each test has a Lua state of its own, in which the file is loaded anew: no test finds what
/// another has left behind, and each does alone what it does among all.
pub fn run(file: &Path, filter: &str, tell: &mut dyn FnMut(Report)) {
    let begun = Instant::now();
    let tests = match Loaded::new(file) {
        Ok(loaded) => loaded.session.tests.take(),
        Err(failure) => return tell(report(file, None, begun, Some(failure))),
    };
    for (index, test) in tests.iter().enumerate() {
        if test.name.contains(filter) {
            let begun = Instant::now();
            let result = Loaded::new(file).and_then(|loaded| loaded.attempt(index));
            tell(report(file, Some(test), begun, result.err()));
        }
    }
}

fn report(file: &Path, test: Option<&Test>, begun: Instant, failure: Option<Failure>) -> Report {
    Report {
        file: file.to_owned(),
        test: test.map(|test| test.name.clone()),
        line: test.and_then(|test| test.place.as_ref()).map(|place| place.line),
        took: begun.elapsed(),
        failure,
    }
}

/// A file that has named its tests.
struct Loaded {
    lua: Lua,
    session: Rc<Session>,
}

impl Loaded {
    fn new(file: &Path) -> Result<Self, Failure> {
        let session = Session::new(file);
        let of_lua = |error| Failure::from_lua(&error, &session.sources.borrow());
        let lua = state::state(&session).map_err(of_lua)?;
        let loaded =
            state::limit(&lua).and_then(|()| state::load(&lua, &session, file)?.call::<()>(()));
        // A file that ends with an error names no tests, or not all.
        loaded.map_err(|error| Failure { unreadable: true, ..of_lua(error) })?;
        if session.tests.borrow().is_empty() {
            let help = "write test(\"what holds\", function() … end)";
            return Err(Failure::unreadable(format!("no tests in here: {help}")));
        }
        Ok(Self { lua, session })
    }

    fn attempt(&self, index: usize) -> Result<(), Failure> {
        let Self { lua, session } = self;
        let test = session.tests.borrow().get(index).map(|test| test.function.clone());
        // The same file names the same tests, unless somebody is writing it.
        let test = test.ok_or_else(|| Failure::unreadable("the file has changed meanwhile"))?;
        session.running.set(true);
        let result = state::limit(lua).and_then(|()| test.call::<()>(()));
        result.map_err(|error| Failure::from_lua(&error, &session.sources.borrow()))?;
        session.left_open().map_or(Ok(()), Err)
    }
}
