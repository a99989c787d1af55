//! Whether a chunk can do anything with its globals but read what a fresh run has there.
//!
//! Most scripts cannot: they assign no global and never name `_G`, the only way to the table itself.
//! Such chunks share one table that stays as it is, and their runs need not make one each.

/// Of Lua 5.1's instructions, the one that assigns a global; the lowest six bits say which it is.
const SET_GLOBAL: u32 = 7;

/// Bytes of a dumped chunk before its main function.
const HEADER: usize = 12;

/// Whether the dumped chunk may touch its globals. What cannot be read may.
pub(super) fn touches(dumped: &[u8]) -> bool {
    let mut reader = Reader(dumped);
    let read = reader.take(HEADER).and_then(|_| function(&mut reader));
    read.unwrap_or(true)
}

/// A function, with those within it, as `luaU_dump` of Lua 5.1 writes it.
fn function(reader: &mut Reader<'_>) -> Option<bool> {
    reader.string()?;
    // Where it is defined, and four counts of a byte each.
    reader.take(4 + 4 + 4)?;
    let mut touches = false;
    for _ in 0..reader.int()? {
        touches |= reader.int()? & 0x3f == SET_GLOBAL;
    }
    for _ in 0..reader.int()? {
        touches |= constant(reader)?;
    }
    for _ in 0..reader.int()? {
        touches |= function(reader)?;
    }
    // For debugging: lines, local variables, names of upvalues.
    let lines = reader.int()?;
    reader.take(lines as usize * 4)?;
    for _ in 0..reader.int()? {
        reader.string()?;
        reader.take(4 + 4)?;
    }
    for _ in 0..reader.int()? {
        reader.string()?;
    }
    Some(touches)
}

/// Whether a constant names the table of globals.
fn constant(reader: &mut Reader<'_>) -> Option<bool> {
    match reader.take(1)? {
        [0] => {}
        [1] => _ = reader.take(1)?,
        [3] => _ = reader.take(8)?,
        [4] => return Some(reader.string()? == b"_G\0"),
        _ => return None,
    }
    Some(false)
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn int(&mut self) -> Option<u32> {
        Some(u32::from_ne_bytes(self.take(4)?.try_into().ok()?))
    }

    /// With the zero at its end; empty if there is none.
    fn string(&mut self) -> Option<&'a [u8]> {
        let length = usize::from_ne_bytes(self.take(size_of::<usize>())?.try_into().ok()?);
        self.take(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_that_may_touch_their_globals_are_told_from_those_that_cannot() {
        let lua = mlua::Lua::new();
        for (source, expected) in [
            ("", false),
            ("local x = 1 local t = {x = 1, [2] = 'y'} t.x = x x = t", false),
            (
                "if avi.vs.table_lookup('k', avi.vs.client_ip(), 0) then avi.pool.select('web') end",
                false,
            ),
            (
                "local function f() return function() local y = 1.5 y = nil return true, y end end",
                false,
            ),
            ("local M = {} function M.f(...) return ... end return M", false),
            ("x = 1", true),
            ("function f() end", true),
            ("local function f() return function() x = nil end end", true),
            ("rawset(_G, 'x', 1)", true),
            ("local function f() return _G end", true),
        ] {
            let chunk = lua.load(source).into_function().unwrap();
            for strip in [false, true] {
                assert_eq!(touches(&chunk.dump(strip)), expected, "{source}");
            }
            let dumped = chunk.dump(true);
            for end in 0..dumped.len() {
                assert!(touches(&dumped[..end]), "{source}, cut at {end}");
            }
        }
    }
}
