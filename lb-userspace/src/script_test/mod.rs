//! `lb test`: unit tests of scripts, written in Lua.
//!
//! A test file gets a Lua state of its own, in which `balancer("lb.toml")` is a whole balancer over
//! memory (see [`crate::simulation`]) with the very scripts that the configuration names. A test
//! sends it first packets and says what it expects of the decisions, the tables and the log.
//! Nothing is random, and time passes only when a test says so.

mod balancer;
mod failure;
mod files;
mod flow;
mod options;
mod rig;
mod session;
mod state;
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
pub fn run(file: &Path, filter: &str, tell: &mut dyn FnMut(Report)) {
    let report = |test: Option<&Test>, since: Instant, failure| Report {
        file: file.to_owned(),
        test: test.map(|test| test.name.clone()),
        line: test.and_then(|test| test.place.as_ref()).map(|place| place.line),
        took: since.elapsed(),
        failure,
    };
    let (begun, session) = (Instant::now(), Session::new(file));
    let lua = match collect(file, &session) {
        Ok(lua) => lua,
        Err(failure) => return tell(report(None, begun, Some(failure))),
    };
    let tests = session.tests.borrow().clone();
    for test in tests.iter().filter(|test| test.name.contains(filter)) {
        let begun = Instant::now();
        let failure = attempt(&lua, &session, test).err();
        tell(report(Some(test), begun, failure));
    }
}

/// Loads a file, which names its tests.
fn collect(file: &Path, session: &Rc<Session>) -> Result<Lua, Failure> {
    let of_lua = |error| Failure::from_lua(&error, &session.sources.borrow());
    let lua = state::state(session).map_err(of_lua)?;
    let loaded = state::limit(&lua).and_then(|()| state::load(&lua, session, file)?.call::<()>(()));
    // A file that ends with an error names no tests, or not all.
    loaded.map_err(|error| Failure { unreadable: true, ..of_lua(error) })?;
    if session.tests.borrow().is_empty() {
        return Err(Failure::unreadable(
            "no tests in here: write test(\"what holds\", function() … end)",
        ));
    }
    Ok(lua)
}

fn attempt(lua: &Lua, session: &Session, test: &Test) -> Result<(), Failure> {
    session.begin();
    let result = state::limit(lua).and_then(|()| test.function.call::<()>(()));
    session.running.set(false);
    result.map_err(|error| Failure::from_lua(&error, &session.sources.borrow()))?;
    session.left_open().map_or(Ok(()), Err)
}
