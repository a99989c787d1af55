//! Lua's stack: who calls whom, at which lines.

use std::{
    borrow::Cow,
    ffi::{CStr, c_char, c_int, c_void},
    fmt::Write,
    mem::zeroed,
};

use mlua::ffi;

/// Frames that a traceback shows from its beginning and its end, as Lua's own.
const FIRST: c_int = 10;
const LAST: c_int = 11;

/// A function that has been called and has not returned.
pub(in crate::script) struct Frame(ffi::lua_Debug);

impl Frame {
    /// The frame of a level; `None` beyond the outermost. `what` says what is to be known of it.
    fn at(state: *mut ffi::lua_State, level: c_int, what: &CStr) -> Option<Self> {
        // SAFETY: all of the structure is integers and pointers, which may be zero. Lua fills it and
        // needs no memory for what is asked here; its pointers are to constants and to names that
        // functions on the stack keep.
        unsafe {
            let mut frame: ffi::lua_Debug = zeroed();
            if ffi::lua_getstack(state, level, &raw mut frame) == 0 {
                return None;
            }
            ffi::lua_getinfo(state, what.as_ptr(), &raw mut frame);
            Some(Self(frame))
        }
    }

    /// The chunk's name as Lua shows it.
    pub(in crate::script) fn source(&self) -> Cow<'_, str> {
        self.text(self.0.short_src.as_ptr())
    }

    /// Whether the chunk's name is this one.
    pub(in crate::script) fn is_of(&self, source: &str) -> bool {
        // SAFETY: as for `text`; the array is part of the structure.
        let own = unsafe { CStr::from_ptr(self.0.short_src.as_ptr()) };
        // Lua may have cut a name within a character.
        own.to_bytes() == source.as_bytes() || self.source() == source
    }

    /// The line that is being executed; `None` if that is not Lua's.
    pub(in crate::script) fn line(&self) -> Option<u32> {
        u32::try_from(self.0.currentline).ok()
    }

    /// One of the frame's strings; empty if it has none.
    fn text(&self, pointer: *const c_char) -> Cow<'_, str> {
        if pointer.is_null() {
            return Cow::Borrowed("");
        }
        // SAFETY: Lua's strings end with a zero, and are there while the function is on the stack.
        unsafe { CStr::from_ptr(pointer) }.to_string_lossy()
    }

    /// As a line of a traceback.
    fn describe(&self, out: &mut String) -> std::fmt::Result {
        let what = self.text(self.0.what);
        if what == "tail" {
            return out.write_str("(...tail calls...)");
        }
        out.write_str(&self.source())?;
        if let Some(line) = self.line().filter(|line| *line > 0) {
            write!(out, ":{line}")?;
        }
        let (kind, name) = (self.text(self.0.namewhat), self.text(self.0.name));
        match (&*kind, &*what) {
            ("", "main") => out.write_str(": in main chunk"),
            ("", "C") => out.write_str(": in ?"),
            ("", _) => write!(out, ": in function <{}:{}>", self.source(), self.0.linedefined),
            // The full name of one of ours, which a script may have been made to read at once.
            ("global", _) if name.contains('.') => write!(out, ": in function '{name}'"),
            (kind, _) => write!(out, ": in {kind} '{name}'"),
        }
    }
}

/// What `read` makes of the innermost frame of a function written in Lua that it makes anything of,
/// from a level on.
pub(super) fn innermost<R>(
    state: *mut ffi::lua_State,
    from: c_int,
    mut read: impl FnMut(&Frame) -> Option<R>,
) -> Option<R> {
    for level in from.. {
        let frame = Frame::at(state, level, c"Sl")?;
        if frame.line().is_some()
            && let Some(found) = read(&frame)
        {
            return Some(found);
        }
    }
    None
}

/// The line that is being executed at a level, if it is this function's that is there.
pub(super) fn line_of(
    state: *mut ffi::lua_State,
    level: c_int,
    function: *const c_void,
) -> Option<u32> {
    // SAFETY: as in `Frame::at`; Lua makes room for the function, which is taken off again.
    unsafe {
        let mut frame: ffi::lua_Debug = zeroed();
        if ffi::lua_getstack(state, level, &raw mut frame) == 0 {
            return None;
        }
        ffi::lua_getinfo(state, c"lf".as_ptr(), &raw mut frame);
        let there = ffi::lua_topointer(state, -1);
        ffi::lua_pop(state, 1);
        (there == function).then(|| u32::try_from(frame.currentline).ok()).flatten()
    }
}

/// The stack from a level on, a frame a line.
pub(super) fn traceback(state: *mut ffi::lua_State, from: c_int) -> String {
    let mut lines = String::new();
    let levels = depth(state);
    let skipped = levels - from - FIRST - LAST;
    let mut level = from;
    while let Some(frame) = Frame::at(state, level, c"Sln") {
        if !lines.is_empty() {
            lines.push('\n');
        }
        if skipped > 0 && level == from + FIRST {
            _ = write!(lines, "...\t(skipping {skipped} levels)");
            level += skipped;
        } else {
            _ = frame.describe(&mut lines);
            level += 1;
        }
    }
    lines
}

/// How many frames there are, found by halving.
fn depth(state: *mut ffi::lua_State) -> c_int {
    let is_there = |level| {
        // SAFETY: asks for a level, whatever the number.
        unsafe {
            let mut frame: ffi::lua_Debug = zeroed();
            ffi::lua_getstack(state, level, &raw mut frame) != 0
        }
    };
    let (mut there, mut beyond) = (-1, 1);
    while is_there(beyond) {
        (there, beyond) = (beyond, beyond * 2);
    }
    while beyond - there > 1 {
        let middle = there + (beyond - there) / 2;
        if is_there(middle) { there = middle } else { beyond = middle }
    }
    beyond
}
