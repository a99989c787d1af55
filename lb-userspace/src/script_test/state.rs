//! The Lua state of a test file: Lua's libraries without the world outside, and ours.

use std::{cell::Cell, fs, path::Path, rc::Rc};

use mlua::{
    FromLuaMulti, Function, HookTriggers, IntoLuaMulti, Lua, LuaOptions, LuaString, StdLib, Table,
    Value, VmState, chunk::ChunkMode,
};

use super::{
    balancer::Balancer,
    failure::{Failure, places, raise},
    session::{Session, Test},
};
use crate::table::notation::printable;

/// Lua instructions of one test: some seconds, and no test of a script needs them.
const BUDGET: u32 = 50_000_000;
/// How often they are counted.
const STRIDE: u32 = 10_000;
/// Bytes of a file's state.
const MEMORY: usize = 256 << 20;

/// Ours, and what stays of Lua's own.
const LIBRARY: &str = include_str!("library.lua");
/// Payloads, for test files.
const PAYLOADS: &str = include_str!("payloads.lua");

/// A state for a test file.
pub(super) fn state(session: &Rc<Session>) -> mlua::Result<Lua> {
    let libraries = StdLib::STRING | StdLib::TABLE | StdLib::MATH | StdLib::OS;
    let lua = Lua::new_with(libraries, LuaOptions::new())?;
    lua.set_memory_limit(MEMORY)?;
    let host = host(&lua, session)?;
    for (name, source) in [("library", LIBRARY), ("payloads", PAYLOADS)] {
        // No test file: places in it are of no interest.
        lua.load(source).set_name(format!("=lb test {name}")).call::<()>(&host)?;
    }
    Ok(lua)
}

/// Begins to count instructions anew. When they run out every further one is an error, so that
/// each `pcall` unwinds in turn.
pub(super) fn limit(lua: &Lua) -> mlua::Result<()> {
    let left = Cell::new(BUDGET / STRIDE);
    let triggers = HookTriggers::new().every_nth_instruction(STRIDE);
    lua.set_global_hook(triggers, move |lua, _| {
        left.set(left.get().saturating_sub(1));
        if left.get() > 0 {
            return Ok(VmState::Continue);
        }
        let failure = exhausted(lua);
        let raised = failure.clone();
        let every = HookTriggers::new().every_nth_instruction(1);
        lua.set_global_hook(every, move |_, _| Err(raised.clone().raise()))?;
        Err(failure.raise())
    })
}

fn exhausted(lua: &Lua) -> Failure {
    let message = format!("the test was stopped after {BUDGET} Lua instructions: an endless loop?");
    Failure::here(lua, message)
}

/// Compiles a file.
pub(super) fn load(lua: &Lua, session: &Session, path: &Path) -> mlua::Result<Function> {
    let text = fs::read(path).map_err(|error| {
        let message = format!("{} cannot be read: {error}", path.display());
        Failure { unreadable: true, ..Failure::here(lua, message) }.raise()
    })?;
    let name = format!("@{}", path.display());
    let short = lua.load("").set_name(&name).into_function()?.info().short_src;
    let path = path.display().to_string();
    session.sources.borrow_mut().insert(short.unwrap_or_else(|| path.clone()), path);
    lua.load(text).set_name(name).set_mode(ChunkMode::Text).into_function()
}

/// The functions that our Lua code calls, and makes known to test files.
fn host(lua: &Lua, session: &Rc<Session>) -> mlua::Result<Table> {
    let functions = [
        ("test", bound(lua, session, add_test)?),
        ("balancer", bound(lua, session, |lua, own, given| Balancer::open(lua, own, &given))?),
        ("file", bound(lua, session, |lua, own, path: String| read(lua, own, &path))?),
        ("dofile", bound(lua, session, |lua, own, path: String| run_file(lua, own, &path))?),
        ("expect", bound(lua, session, |lua, own, ()| Ok(own.expect(places(lua))))?),
        ("asked", bound(lua, session, asked)?),
        ("disappoint", bound(lua, session, disappoint)?),
        ("fail", lua.create_function(|lua, message: String| raise(lua, Err::<(), _>(message)))?),
        ("printable", lua.create_function(|_, text: LuaString| Ok(printable(&text.as_bytes())))?),
        ("print", lua.create_function(|_, text: LuaString| print(&text))?),
    ];
    lua.create_table_from(functions)
}

/// A function that knows its session.
fn bound<A: FromLuaMulti, R: IntoLuaMulti>(
    lua: &Lua,
    session: &Rc<Session>,
    function: impl Fn(&Lua, &Rc<Session>, A) -> mlua::Result<R> + 'static,
) -> mlua::Result<Function> {
    let own = Rc::clone(session);
    lua.create_function(move |lua, arguments: A| function(lua, &own, arguments))
}

fn run_file(lua: &Lua, session: &Session, path: &str) -> mlua::Result<Value> {
    load(lua, session, &session.beside(path))?.call(())
}

fn asked(_: &Lua, session: &Rc<Session>, number: usize) -> mlua::Result<()> {
    session.asked(number);
    Ok(())
}

/// The standard output is the report's.
fn print(text: &LuaString) -> mlua::Result<()> {
    eprintln!("{}", text.display());
    Ok(())
}

fn disappoint(
    lua: &Lua,
    session: &Rc<Session>,
    (number, message): (usize, LuaString),
) -> mlua::Result<()> {
    let message = message.to_string_lossy();
    Err(session.disappointed(number, message, places(lua)).raise())
}

/// A binary file beside the test.
fn read(lua: &Lua, session: &Session, path: &str) -> mlua::Result<LuaString> {
    let path = session.beside(path);
    let read = fs::read(&path);
    let bytes = read.map_err(|error| format!("{} cannot be read: {error}", path.display()));
    lua.create_string(raise(lua, bytes)?)
}

fn add_test(lua: &Lua, session: &Rc<Session>, given: (Value, Value)) -> mlua::Result<()> {
    let wrong = |message: String| Err(Failure::here(lua, message).raise());
    let (Value::String(name), Value::Function(function)) = given else {
        return wrong("a test is written: test(\"what holds\", function() … end)".to_owned());
    };
    if session.running.get() {
        return wrong("a test cannot be in another one".to_owned());
    }
    let (name, place) = (name.to_string_lossy(), places(lua).into_iter().next());
    let mut tests = session.tests.borrow_mut();
    if tests.iter().any(|test| test.name == name) {
        return wrong(format!("there is a test of this name already: {name:?}"));
    }
    tests.push(Test { name, place, function });
    Ok(())
}
