//! From Lua's errors to ours.

use std::borrow::Cow;

use mlua::{Error, Lua, debug::Debug};

/// The chunk name of our own Lua code, as Lua shows it.
pub(super) const PRELUDE: &str = "firstpacket";

/// What stands between a message and its traceback.
const TRACEBACK: &str = "\nstack traceback:\n";

/// The innermost function of a script or a parser that is running: its chunk's name as Lua shows it, and the line.
fn position(lua: &Lua) -> Option<(String, u32)> {
    innermost(lua, |source, line| (source != PRELUDE).then(|| (source.to_owned(), line)))
}

/// The line of the innermost function of `source` that is running; 0 if there is none.
pub(super) fn line(lua: &Lua, source: &str) -> u32 {
    innermost(lua, |frame, line| (frame == source).then_some(line)).unwrap_or(0)
}

/// What `read` makes of the innermost frame of Lua's that it makes anything of.
fn innermost<R>(lua: &Lua, read: impl Fn(&str, u32) -> Option<R>) -> Option<R> {
    let frame = |frame: &Debug<'_>| {
        let line = u32::try_from(frame.current_line()?).ok()?;
        let source = frame.source().short_src?;
        read(&source, line)
    };
    for level in 0.. {
        if let Some(found) = lua.inspect_stack(level, frame)? {
            return Some(found);
        }
    }
    None
}

/// A text of so many characters at most; where more is cut off it says so.
pub(super) fn shortened(text: &str, most: usize) -> Cow<'_, str> {
    match text.char_indices().nth(most) {
        None => text.into(),
        Some((end, _)) => format!("{}…", &text[..end]).into(),
    }
}

/// A message with the script's position before it, as `error` in Lua would make it.
pub(super) fn positioned(lua: &Lua, message: &str) -> String {
    match position(lua) {
        Some((source, line)) => format!("{source}:{line}: {message}"),
        None => message.to_owned(),
    }
}

/// The stack as it is now.
pub(super) fn traceback(lua: &Lua) -> String {
    let traceback = lua.traceback(None, 0);
    let text = traceback.map(|text| text.to_string_lossy());
    tidy(&text.unwrap_or_default())
}

/// An error's message and traceback.
pub(super) fn explain(error: &Error) -> (String, String) {
    match error {
        Error::CallbackError { traceback, cause } => (explain(cause).0, tidy(traceback)),
        Error::WithContext { context, cause } => {
            let (message, traceback) = explain(cause);
            (format!("{context}: {message}"), traceback)
        }
        Error::RuntimeError(text) | Error::MemoryError(text) => {
            let (message, traceback) = text.split_once(TRACEBACK).unwrap_or((text, ""));
            (message.to_owned(), tidy(traceback))
        }
        other => (other.to_string(), String::new()),
    }
}

/// Splits "`source`:12: message" into the line and the message.
pub(super) fn split_position<'a>(source: &str, message: &'a str) -> Option<(u32, &'a str)> {
    let rest = message.strip_prefix(source)?.strip_prefix(':')?;
    let (line, message) = rest.split_once(':')?;
    Some((line.parse().ok()?, message.trim_start()))
}

/// A message without a position that is ours: the script's author cannot look there.
pub(super) fn without_ours(message: &str) -> &str {
    split_position(PRELUDE, message).map_or(message, |(_, message)| message)
}

/// The line of the innermost frame of a traceback that is in `source`.
pub(super) fn line_in(source: &str, traceback: &str) -> Option<u32> {
    traceback
        .lines()
        .find_map(|frame| split_position(source, frame.trim_start()))
        .map(|(line, _)| line)
}

/// What ends every traceback: the prelude has called the script and left.
const CALLER: &str = "\n(...tail calls...)";

/// A traceback's frames, one a line, without its heading and without frames of ours.
fn tidy(traceback: &str) -> String {
    let frames = traceback.lines().map(str::trim);
    let theirs = frames.filter(|frame| {
        !frame.is_empty() && *frame != "stack traceback:" && !frame.starts_with(PRELUDE)
    });
    let text = theirs.collect::<Vec<_>>().join("\n");
    text.strip_suffix(CALLER).unwrap_or(&text).to_owned()
}
