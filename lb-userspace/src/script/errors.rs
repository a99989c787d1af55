//! From Lua's errors to ours.

use std::borrow::Cow;

use super::vm::{Chunk, Vm};

/// The chunk name of our own Lua code, as Lua shows it.
pub(super) const PRELUDE: &str = "firstpacket";

/// Why a script must leave what it is doing.
#[derive(Debug)]
pub(super) enum Raise {
    /// An error, with its position.
    Error(String),
    /// Memory has run out.
    Memory,
    /// The run has ended: no handler of an error is to do anything.
    End,
}

/// The line at which the innermost function of `source` has called what is running, a function of
/// ours; 0 if there is none. `script` is the chunk that runs, if it is known: to ask whether its
/// own body is the caller takes less than to compare names.
pub(super) fn line(vm: &Vm, source: &str, script: Option<&Chunk>) -> u32 {
    if let Some(line) = script.and_then(|script| vm.line_in(script)) {
        return line;
    }
    vm.innermost_caller(|frame| frame.line().filter(|_| frame.is_of(source))).unwrap_or(0)
}

/// A text of so many characters at most; where more is cut off it says so.
pub(super) fn shortened(text: &str, most: usize) -> Cow<'_, str> {
    match text.char_indices().nth(most) {
        None => text.into(),
        Some((end, _)) => format!("{}…", &text[..end]).into(),
    }
}

/// A message with the script's position before it, as `error` in Lua would make it.
pub(super) fn positioned(vm: &Vm, message: &str) -> String {
    let position = vm.innermost(|frame| {
        let line = frame.line()?;
        let source = frame.source();
        (source != PRELUDE).then(|| format!("{source}:{line}: {message}"))
    });
    position.unwrap_or_else(|| message.to_owned())
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

/// A traceback without frames of ours.
pub(super) fn tidy(traceback: &str) -> String {
    let theirs = traceback.lines().filter(|frame| !frame.starts_with(PRELUDE));
    theirs.collect::<Vec<_>>().join("\n")
}
