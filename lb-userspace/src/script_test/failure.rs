//! Why a test did not pass, and where.

use std::{collections::HashMap, fmt};

use mlua::{Error, Lua, debug::Debug};
use serde::{Serialize, Serializer};

use crate::engine::Explanation;

/// What stands between a message of Lua's and its traceback.
const TRACEBACK: &str = "\nstack traceback:";

/// What a function of ours says that was called wrongly, or that found something wrong.
pub(super) type Told<T> = Result<T, String>;

/// A line of a test file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Place {
    /// The file's path.
    pub file: String,
    /// From 1.
    pub line: u32,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

impl Serialize for Place {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Why a test did not pass.
#[derive(Clone, PartialEq, Debug)]
pub struct Failure {
    /// What is wrong; may be several lines.
    pub message: String,
    /// Where, the innermost first, then what called it.
    pub places: Vec<Place>,
    /// The flow that was expected to be another.
    pub flow: Option<Box<Explanation>>,
    /// Whether a file or a configuration cannot be read at all.
    pub unreadable: bool,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.places.first() {
            Some(place) => write!(f, "{place}: {}", self.message),
            None => f.write_str(&self.message),
        }
    }
}

impl std::error::Error for Failure {}

/// The files that were loaded: Lua's short name of each, and its path.
pub(super) type Sources = HashMap<String, String>;

impl Failure {
    /// At no place in particular.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), places: Vec::new(), flow: None, unreadable: false }
    }

    /// Of a file that cannot be read, or that says what cannot be.
    pub fn unreadable(message: impl Into<String>) -> Self {
        Self { unreadable: true, ..Self::new(message) }
    }

    /// At the line that is being executed.
    pub fn here(lua: &Lua, message: impl Into<String>) -> Self {
        Self { places: places(lua), ..Self::new(message) }
    }

    /// As Lua passes it on.
    pub fn raise(self) -> Error {
        Error::external(self)
    }

    /// What ended a test file, or a test.
    pub fn from_lua(error: &Error, sources: &Sources) -> Self {
        let mut innermost = error;
        let mut traceback = "";
        while let Error::CallbackError { traceback: trace, cause } = innermost {
            (innermost, traceback) = (cause, trace);
        }
        match innermost {
            Error::ExternalError(external) => match external.downcast_ref::<Self>() {
                Some(failure) => failure.clone(),
                None => Self::new(external.to_string()),
            },
            Error::SyntaxError { message, .. } => {
                let (places, message) = positioned(message, sources);
                Self { places, ..Self::unreadable(message) }
            }
            Error::RuntimeError(text) | Error::MemoryError(text) => {
                Self::of_text(text, traceback, sources)
            }
            Error::BadArgument { to: Some(to), name: Some(name), .. } if name == "self" => {
                let method = to.rsplit('.').next().unwrap_or_default();
                let message = format!("{method} is called with a colon, such as lb:{method}(…)");
                Self { places: trace(traceback, sources), ..Self::new(message) }
            }
            other => Self { places: trace(traceback, sources), ..Self::new(other.to_string()) },
        }
    }

    /// From Lua's message and traceback.
    fn of_text(text: &str, traceback: &str, sources: &Sources) -> Self {
        let (message, own) = text.split_once(TRACEBACK).unwrap_or((text, traceback));
        let (mut places, message) = positioned(message, sources);
        let called = trace(own, sources).into_iter().filter(|place| !places.contains(place));
        let called: Vec<_> = called.collect();
        places.extend(called);
        Self { places, ..Self::new(message) }
    }
}

/// Raises what a function of ours says, at the line that called it.
pub(super) fn raise<T>(lua: &Lua, told: Told<T>) -> mlua::Result<T> {
    told.map_err(|message| Failure::here(lua, message).raise())
}

/// The lines of test files that are being executed, the innermost first.
pub(super) fn places(lua: &Lua) -> Vec<Place> {
    let place = |frame: &Debug<'_>| {
        let line = u32::try_from(frame.current_line()?).ok()?;
        let file = frame.source().source?.strip_prefix('@')?.to_owned();
        Some(Place { file, line })
    };
    let frames = (0..).map_while(|level| lua.inspect_stack(level, place));
    frames.flatten().collect()
}

/// Splits the place off a message of Lua's, if it begins with one.
fn positioned<'a>(message: &'a str, sources: &Sources) -> (Vec<Place>, &'a str) {
    match split_place(message, sources) {
        Some((place, message)) => (vec![place], message),
        None => (Vec::new(), message),
    }
}

fn split_place<'a>(text: &'a str, sources: &Sources) -> Option<(Place, &'a str)> {
    sources.iter().find_map(|(short, file)| {
        let rest = text.strip_prefix(short.as_str())?.strip_prefix(':')?;
        let (line, message) = rest.split_once(':')?;
        let place = Place { file: file.clone(), line: line.parse().ok()? };
        Some((place, message.trim_start()))
    })
}

fn trace(traceback: &str, sources: &Sources) -> Vec<Place> {
    let frames = traceback.lines().filter_map(|frame| split_place(frame.trim_start(), sources));
    frames.map(|(place, _)| place).collect()
}
