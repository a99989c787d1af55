//! Compiled chunks as `luaU_dump` of Lua 5.1 writes them (`ldump.c`): read, looked at, changed and
//! written again, when scripts are loaded.
//!
//! Two things are found in them: whether a chunk can do anything with its globals but read what a
//! fresh run has there, and where it names functions of ours ([`names`]). Most scripts cannot touch
//! their globals: they assign none and never name `_G`, the only way to the table itself. Such chunks
//! share one table that stays as it is, and what names in it stand for is known beforehand.

mod instruction;
mod names;

use std::borrow::Cow;

use instruction::{Instruction, Operation};

/// Bytes of a dumped chunk before its main function.
const HEADER: usize = 12;

/// Of constants, the byte before one that says what it is.
const NIL: u8 = 0;
const BOOLEAN: u8 = 1;
const NUMBER: u8 = 3;
const STRING: u8 = 4;

/// A chunk.
#[derive(Debug)]
pub(super) struct Bytecode<'a> {
    header: &'a [u8],
    main: Prototype<'a>,
}

/// A function that was compiled.
#[derive(Debug)]
struct Prototype<'a> {
    /// The name of its source, where it is defined there, how many values it takes.
    head: &'a [u8],
    code: Vec<Instruction>,
    constants: Vec<Constant<'a>>,
    /// Those that are defined in it.
    functions: Vec<Prototype<'a>>,
    /// For debugging: lines, local variables, names of upvalues.
    debug: &'a [u8],
}

#[derive(PartialEq, Debug)]
enum Constant<'a> {
    /// Without the zero at its end.
    String(Cow<'a, [u8]>),
    /// As it is written.
    Other(&'a [u8]),
}

impl<'a> Bytecode<'a> {
    /// Reads a dumped chunk; `None` if it is not one of this Lua's.
    pub(super) fn read(dumped: &'a [u8]) -> Option<Self> {
        let mut reader = Reader(dumped);
        let header = reader.take(HEADER)?;
        let main = Prototype::read(&mut reader)?;
        reader.0.is_empty().then_some(Self { header, main })
    }

    /// As Lua loads it.
    pub(super) fn write(&self) -> Vec<u8> {
        let mut out = self.header.to_vec();
        self.main.write(&mut out);
        out
    }

    /// Whether it may do more with its globals than to read them.
    pub(super) fn touches_globals(&self) -> bool {
        self.main.touches_globals()
    }

    /// Reads each function that `is_known` by its full name, dots and all, from a global of that name
    /// instead of going through tables. Says whether there was any.
    ///
    /// The chunk must not be able to touch its globals, nor anybody else what they hold.
    pub(super) fn resolve(&mut self, is_known: impl Fn(&[u8]) -> bool) -> bool {
        self.main.resolve(&is_known)
    }
}

impl<'a> Prototype<'a> {
    fn read(reader: &mut Reader<'a>) -> Option<Self> {
        let head = reader.span(|reader| {
            reader.string()?;
            // Where it is defined, and four counts of a byte each.
            reader.take(4 + 4 + 4)
        })?;
        let code = reader.list(|reader| reader.int().map(Instruction))?;
        let constants = reader.list(Constant::read)?;
        let functions = reader.list(Self::read)?;
        let debug = reader.span(|reader| {
            let lines = reader.int()?;
            reader.take(usize::try_from(lines).ok()?.checked_mul(4)?)?;
            reader.list(|reader| {
                reader.string()?;
                reader.take(4 + 4)
            })?;
            reader.list(Reader::string)
        })?;
        Some(Self { head, code, constants, functions, debug })
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.head);
        write_list(out, &self.code, |instruction, out| {
            out.extend_from_slice(&instruction.0.to_ne_bytes());
        });
        write_list(out, &self.constants, Constant::write);
        write_list(out, &self.functions, Self::write);
        out.extend_from_slice(self.debug);
    }

    fn touches_globals(&self) -> bool {
        self.code.iter().any(|instruction| instruction.operation() == Operation::SET_GLOBAL)
            || self.constants.iter().any(|constant| constant.string() == Some(b"_G"))
            || self.functions.iter().any(Self::touches_globals)
    }
}

impl<'a> Constant<'a> {
    fn read(reader: &mut Reader<'a>) -> Option<Self> {
        let start = reader.0;
        let length = match *reader.take(1)?.first()? {
            NIL => 1,
            BOOLEAN => 1 + 1,
            NUMBER => 1 + size_of::<f64>(),
            STRING => return Some(Self::String(reader.string()?.strip_suffix(&[0])?.into())),
            _ => return None,
        };
        reader.take(length - 1)?;
        start.get(..length).map(Self::Other)
    }

    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::String(bytes) => {
                out.push(STRING);
                out.extend_from_slice(&(bytes.len() + 1).to_ne_bytes());
                out.extend_from_slice(bytes);
                out.push(0);
            }
            Self::Other(written) => out.extend_from_slice(written),
        }
    }

    fn string(&self) -> Option<&[u8]> {
        match self {
            Self::String(bytes) => Some(bytes),
            Self::Other(_) => None,
        }
    }
}

fn write_list<T>(out: &mut Vec<u8>, list: &[T], write: impl Fn(&T, &mut Vec<u8>)) {
    // Lua's own counts are of this size: a list was read, and has grown by a few at most.
    let count = u32::try_from(list.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&count.to_ne_bytes());
    list.iter().for_each(|it| write(it, out));
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

    fn list<T>(&mut self, mut read: impl FnMut(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        (0..self.int()?).map(|_| read(self)).collect()
    }

    /// What `read` goes over.
    fn span<T>(&mut self, read: impl FnOnce(&mut Self) -> Option<T>) -> Option<&'a [u8]> {
        let start = self.0;
        read(self)?;
        start.get(..start.len() - self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCES: [(&str, bool); 10] = [
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
    ];

    #[test]
    fn chunks_that_may_touch_their_globals_are_told_from_those_that_cannot() {
        let lua = mlua::Lua::new();
        for (source, expected) in SOURCES {
            let chunk = lua.load(source).into_function().unwrap();
            for strip in [false, true] {
                let dumped = chunk.dump(strip);
                assert_eq!(
                    Bytecode::read(&dumped).unwrap().touches_globals(),
                    expected,
                    "{source}"
                );
            }
        }
    }

    #[test]
    fn what_is_written_is_what_was_read_and_what_is_cut_short_is_not_read() {
        let lua = mlua::Lua::new();
        for (source, _) in SOURCES {
            let chunk = lua.load(source).into_function().unwrap();
            for strip in [false, true] {
                let dumped = chunk.dump(strip);
                assert_eq!(Bytecode::read(&dumped).unwrap().write(), dumped, "{source}");
                for end in 0..dumped.len() {
                    assert!(Bytecode::read(&dumped[..end]).is_none(), "{source}, cut at {end}");
                }
            }
        }
    }
}
