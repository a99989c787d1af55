//! The Lua state of a test file: Lua's libraries without the world outside, and ours.

use std::{cell::Cell, fs, path::Path, rc::Rc};

use mlua::{
    Function, HookTriggers, Lua, LuaOptions, LuaString, StdLib, Table, Value, VmState,
    chunk::ChunkMode,
};

use super::{
    balancer::Balancer,
    failure::{Failure, places, raise},
    session::{Session, Test},
};
use crate::table::printable;

/// Lua instructions of one test: some seconds, and no test of a script needs them.
const BUDGET: u32 = 50_000_000;
/// How often they are counted.
const STRIDE: u32 = 10_000;
/// Bytes of a file's state.
const MEMORY: usize = 256 << 20;

/// What a test file may use of Lua's own. The rest reaches files and processes, loads bytecode, or
/// makes a test run differently every time.
const LIBRARY: &str = include_str!("library.lua");
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

/// The functions that our Lua code and test files call.
fn host(lua: &Lua, session: &Rc<Session>) -> mlua::Result<Table> {
    let host = lua.create_table()?;
    let own = Rc::clone(session);
    host.set("test", lua.create_function(move |lua, given| add_test(lua, &own, given))?)?;
    let own = Rc::clone(session);
    host.set(
        "balancer",
        lua.create_function(move |lua, given| Balancer::open(lua, &own, &given))?,
    )?;
    let own = Rc::clone(session);
    host.set("file", lua.create_function(move |lua, path: String| read(lua, &own, &path))?)?;
    let own = Rc::clone(session);
    host.set(
        "dofile",
        lua.create_function(move |lua, path: String| {
            load(lua, &own, &own.beside(&path))?.call::<Value>(())
        })?,
    )?;
    let own = Rc::clone(session);
    host.set("expect", lua.create_function(move |lua, ()| Ok(own.expect(places(lua))))?)?;
    let own = Rc::clone(session);
    host.set(
        "asked",
        lua.create_function(move |_, number| {
            own.asked(number);
            Ok(())
        })?,
    )?;
    let own = Rc::clone(session);
    host.set(
        "disappoint",
        lua.create_function(move |lua, (number, message): (usize, LuaString)| {
            let message = message.to_string_lossy();
            Err::<(), _>(own.disappointed(number, message, places(lua)).raise())
        })?,
    )?;
    host.set(
        "fail",
        lua.create_function(|lua, message: String| {
            Err::<(), _>(Failure::here(lua, message).raise())
        })?,
    )?;
    host.set(
        "printable",
        lua.create_function(|_, text: LuaString| Ok(printable(&text.as_bytes())))?,
    )?;
    host.set(
        "print",
        lua.create_function(|_, text: LuaString| {
            eprintln!("{}", text.to_string_lossy());
            Ok(())
        })?,
    )?;
    Ok(host)
}

/// A binary file beside the test.
fn read(lua: &Lua, session: &Session, path: &str) -> mlua::Result<LuaString> {
    let path = session.beside(path);
    let read = fs::read(&path);
    let bytes = read.map_err(|error| format!("{} cannot be read: {error}", path.display()));
    lua.create_string(raise(lua, bytes)?)
}

fn add_test(lua: &Lua, session: &Session, given: (Value, Value)) -> mlua::Result<()> {
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
