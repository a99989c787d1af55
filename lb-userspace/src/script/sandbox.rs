//! What a script finds when it begins: globals of its own, over libraries that it cannot change.

use std::rc::Rc;

use mlua::{Function, Lua, Result, Table, Value};

use super::{
    api::{self, functions::functions},
    context::Context,
    errors::PRELUDE,
};

/// Makes environments. What one run assigns, no other run sees: each gets a table of its own, and
/// everything that is reached through its metatable is closed to writing.
#[derive(Debug)]
pub(super) struct Sandbox {
    /// Runs a function with globals that nobody has touched.
    run: Function,
    /// Makes a module that nothing can change of a chunk.
    build_in: Function,
    /// The globals of functions that do not run.
    none: Table,
}

impl Sandbox {
    /// Closes a fresh state's libraries.
    pub(super) fn new(lua: &Lua, context: &Rc<Context>) -> Result<Self> {
        let own = Rc::clone(context);
        let settle = move |lua: &Lua, caught: Value| api::settle(lua, &own, caught);
        let own = Rc::clone(context);
        let stopped = move |_: &Lua, ()| Ok(own.stopped());
        let prelude = lua.load(include_str!("sandbox.lua")).set_name(format!("={PRELUDE}"));
        let arguments =
            (library(lua, context)?, lua.create_function(settle)?, lua.create_function(stopped)?);
        let prelude = prelude.into_function()?;
        prelude.set_environment(copy(lua, &lua.globals())?)?;
        let (run, build_in) = prelude.call(arguments)?;
        // Nobody sees them any more but tracebacks, which look for every function's name in all of
        // them: that takes longer than the run. What a function was called by is known without.
        lua.globals().clear()?;
        Ok(Self { run, build_in, none: lua.create_table()? })
    }

    /// Runs a protocol parser of ours: a module that cannot be changed and keeps nothing.
    pub(super) fn built_in(&self, lua: &Lua, name: &str, source: &str) -> Result<Value> {
        let chunk = lua.load(source).set_name(format!("={name}")).into_function()?;
        self.build_in.call((name, chunk))
    }

    /// Runs a compiled script.
    pub(super) fn run(&self, script: &Function) -> Result<()> {
        self.run.call(script)
    }

    /// Lets go of what a script's last run has left in its globals.
    pub(super) fn forget(&self, script: &Function) -> Result<()> {
        script.set_environment(self.none.clone()).map(drop)
    }
}

fn copy(lua: &Lua, table: &Table) -> Result<Table> {
    lua.create_table_from(table.pairs::<Value, Value>().collect::<Result<Vec<_>>>()?)
}

/// The functions as tables in tables, by the dots in their names.
fn library(lua: &Lua, context: &Rc<Context>) -> Result<Table> {
    let root = lua.create_table()?;
    for function in functions() {
        let mut table = root.clone();
        let mut path: Vec<_> = function.name.split('.').collect();
        let last = path.pop().unwrap_or_default();
        for part in path {
            table = inner(lua, &table, part)?;
        }
        table.raw_set(last, function.create(lua, context)?)?;
    }
    Ok(root)
}

fn inner(lua: &Lua, table: &Table, name: &str) -> Result<Table> {
    if let Some(inner) = table.raw_get::<Option<Table>>(name)? {
        return Ok(inner);
    }
    let inner = lua.create_table()?;
    table.raw_set(name, &inner)?;
    Ok(inner)
}
