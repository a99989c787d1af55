//! What a script finds when it begins: globals of its own, over libraries that it cannot change.

use std::rc::Rc;

use mlua::{Function, Lua, Result, Table, Value};

use super::{
    api::functions::functions,
    context::Context,
    errors::PRELUDE,
    vm::{Anchor, Chunk, Ended, Ground, Vm},
};

/// Makes environments. What one run assigns, no other run sees: each gets a table of its own, and
/// everything that is reached through its metatable is closed to writing.
#[derive(Debug)]
pub(super) struct Sandbox {
    vm: Rc<Vm>,
    ground: Ground,
    /// Makes a module that nothing can change of a chunk.
    build_in: Function,
}

impl Sandbox {
    /// Closes a fresh state's libraries.
    pub(super) fn new(vm: &Rc<Vm>) -> Result<Self> {
        let lua = vm.lua();
        let prelude = lua.load(include_str!("sandbox.lua")).set_name(format!("={PRELUDE}"));
        let prelude = prelude.into_function()?;
        prelude.set_environment(copy(lua, &lua.globals())?)?;
        let (globals, build_in): (Table, _) = prelude.call(library(vm)?)?;
        // What is not a script's is nobody's any more.
        lua.globals().clear()?;
        Ok(Self { ground: vm.ground(globals)?, vm: Rc::clone(vm), build_in })
    }

    /// Runs a protocol parser of ours: a module that cannot be changed and keeps nothing.
    pub(super) fn built_in(&self, context: &Context, name: &str, source: &str) -> Result<Anchor> {
        let chunk = self.vm.lua().load(source).set_name(format!("={name}")).into_function()?;
        let module: Value = self.vm.within(context, || self.build_in.call((name, chunk)))?;
        self.vm.anchor(module)
    }

    /// Runs a compiled script with globals that nobody has touched.
    pub(super) fn run(&self, context: &Context, script: &Chunk) -> std::result::Result<(), Ended> {
        self.vm.run(context, &self.ground, script)
    }

    /// Before a script's first run: one that cannot touch its globals shares those of all such.
    pub(super) fn settle(&self, script: &Chunk) {
        if !script.touches_globals {
            self.vm.set_globals(script, &self.ground.untouched);
        }
    }

    /// Lets go of what a script's last run has left in its globals.
    pub(super) fn forget(&self, script: &Chunk) {
        if script.touches_globals {
            self.vm.share_globals(None, script);
        }
    }
}

fn copy(lua: &Lua, table: &Table) -> Result<Table> {
    lua.create_table_from(table.pairs::<Value, Value>().collect::<Result<Vec<_>>>()?)
}

/// The functions as tables in tables, by the dots in their names.
fn library(vm: &Vm) -> Result<Table> {
    let lua = vm.lua();
    let root = lua.create_table()?;
    for function in functions() {
        let mut table = root.clone();
        let mut path: Vec<_> = function.name.split('.').collect();
        let last = path.pop().unwrap_or_default();
        for part in path {
            table = inner(lua, &table, part)?;
        }
        table.raw_set(last, vm.function(function)?)?;
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
