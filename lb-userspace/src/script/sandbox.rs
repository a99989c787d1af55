//! What a script finds when it begins: globals of its own, over libraries that it cannot change.

use std::rc::Rc;

use hashbrown::HashSet;
use mlua::{Function, Lua, Result, Table, Value, chunk::ChunkMode};

use super::{
    api::functions::functions,
    bytecode::Bytecode,
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
    /// Full names of functions that a chunk which cannot touch its globals may read them by.
    names: HashSet<&'static str>,
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
        let functions = named_functions(vm)?;
        let (globals, build_in): (Table, _) = prelude.call(library(lua, &functions)?)?;
        // What is not a script's is nobody's any more.
        lua.globals().clear()?;
        let untouched = copy(lua, &globals.raw_get("__index")?)?;
        let mut names = HashSet::new();
        for (name, function) in &functions {
            if is_within_reach(&untouched, name)? {
                untouched.raw_set(*name, function)?;
                names.insert(*name);
            }
        }
        Ok(Self { ground: vm.ground(globals, untouched)?, names, vm: Rc::clone(vm), build_in })
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

    /// A compiled script, ready to run. `touches` says that something else does what it likes with the
    /// script's globals; if nothing does, neither the script itself, it shares those of all such.
    pub(super) fn script(&self, function: Function, touches: bool) -> Result<Chunk> {
        let dumped = function.dump(false);
        let code = Bytecode::read(&dumped).filter(|code| !touches && !code.touches_globals());
        let Some(mut code) = code else {
            return self.vm.chunk(function, true);
        };
        let is_known = |name: &[u8]| str::from_utf8(name).is_ok_and(|it| self.names.contains(it));
        let function = match code.resolve(is_known) {
            true => {
                let chunk = self.vm.lua().load(code.write()).set_mode(ChunkMode::Binary);
                chunk.into_function()?
            }
            false => function,
        };
        let chunk = self.vm.chunk(function, false)?;
        self.vm.set_globals(&chunk, &self.ground.untouched);
        Ok(chunk)
    }

    /// The compiled file of a user's protocol parser: it gets the globals of each script that requires
    /// it.
    pub(super) fn module(&self, function: Function) -> Result<Chunk> {
        let touches = Bytecode::read(&function.dump(true)).is_none_or(|it| it.touches_globals());
        self.vm.chunk(function, touches)
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

/// Our functions, as Lua calls them, with their full names.
fn named_functions(vm: &Vm) -> Result<Vec<(&'static str, Function)>> {
    functions().map(|function| Ok((function.name, vm.function(function)?))).collect()
}

/// The functions as tables in tables, by the dots in their names.
fn library(lua: &Lua, functions: &[(&str, Function)]) -> Result<Table> {
    let root = lua.create_table()?;
    for (name, function) in functions {
        let mut table = root.clone();
        let mut path: Vec<_> = name.split('.').collect();
        let last = path.pop().unwrap_or_default();
        for part in path {
            table = inner(lua, &table, part)?;
        }
        table.raw_set(last, function)?;
    }
    Ok(root)
}

/// Whether a script finds the function in a library of its globals; some are for the prelude alone.
fn is_within_reach(globals: &Table, name: &str) -> Result<bool> {
    name.split_once('.').map_or(Ok(false), |(library, _)| globals.contains_key(library))
}

fn inner(lua: &Lua, table: &Table, name: &str) -> Result<Table> {
    if let Some(inner) = table.raw_get::<Option<Table>>(name)? {
        return Ok(inner);
    }
    let inner = lua.create_table()?;
    table.raw_set(name, &inner)?;
    Ok(inner)
}
