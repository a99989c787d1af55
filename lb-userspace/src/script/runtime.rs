//! One worker's Lua state: scripts go in compiled, flows go through.

use std::{
    cell::{Cell, RefCell},
    path::Path,
    rc::Rc,
    sync::Arc,
    time::{Duration, SystemTime},
};

use mlua::{Error, Function, Lua, LuaOptions, StdLib, chunk::ChunkMode};

use super::{
    Event, Failure, Flow, Outcome, ScriptError, World,
    check::syntax_problem,
    context::{Context, Run},
    errors,
    garbage::Garbage,
    limits::Meter,
    names::{Names, SetNames},
    sandbox::Sandbox,
};
use crate::{
    config::{Config, ScriptLimits, SetIndex},
    table::Tables,
};

/// Characters of a failure's message: a script may raise a string of any length.
const LONGEST_MESSAGE: usize = 1_000;

/// Characters of a failure's traceback: names of functions have any length too.
const LONGEST_TRACEBACK: usize = 4_000;

/// Runs DataScripts for one worker; not `Send`, as its Lua state is not.
#[derive(Debug)]
pub struct Runtime {
    lua: Lua,
    context: Rc<Context>,
    sandbox: Sandbox,
    garbage: Garbage,
    loaded: Loaded,
}

/// A configuration's scripts.
#[derive(Debug, Default)]
struct Loaded {
    config: Option<Arc<Config>>,
    names: Option<Names>,
    /// By set, then by event in the order of [`Event::ALL`].
    scripts: Vec<[Option<Compiled>; Event::ALL.len()]>,
}

#[derive(Debug)]
struct Compiled {
    function: Function,
    /// The script's name as Lua shows it in messages: a long path is cut short.
    shown: String,
}

impl Runtime {
    /// A state without scripts. `tables` are those that all workers share.
    pub fn new(limits: ScriptLimits, tables: Arc<Tables>) -> Result<Self, ScriptError> {
        let libraries = StdLib::STRING | StdLib::TABLE | StdLib::MATH;
        let lua = Lua::new_with(libraries, LuaOptions::new())?;
        let context = Rc::new(Context {
            meter: Rc::new(Meter::new(limits.instruction_budget, limits.memory)),
            memory: limits.memory,
            run: RefCell::new(Run::idle(Arc::clone(&tables), Rc::new(SetNames::none()))),
            tables,
            config: RefCell::new(None),
            ended: Cell::new(false),
        });
        Ok(Self {
            sandbox: Sandbox::new(&lua, &context)?,
            garbage: Garbage::new(&lua, limits.memory),
            loaded: Loaded::default(),
            context,
            lua,
        })
    }

    /// Compiles the scripts of a configuration. They replace the old ones, or, on an error, nothing
    /// has changed.
    pub fn load(&mut self, config: &Arc<Config>) -> Result<(), ScriptError> {
        let sets = (0..config.datascripts.len()).map(SetIndex);
        let scripts = sets.map(|set| self.compile_set(config, set)).collect::<Result<_, _>>()?;
        let loaded =
            Loaded { config: Some(Arc::clone(config)), names: Some(Names::new(config)), scripts };
        let old = std::mem::replace(&mut self.loaded, loaded);
        if let Err(error) = self.check_memory() {
            self.loaded = old;
            return Err(error);
        }
        let names = Rc::new(SetNames::none());
        let idle = Run::idle(Arc::clone(&self.context.tables), names);
        self.context.run.replace(idle);
        self.context.config.replace(Some(Arc::clone(config)));
        Ok(())
    }

    fn compile_set(
        &self,
        config: &Config,
        set: SetIndex,
    ) -> Result<[Option<Compiled>; Event::ALL.len()], ScriptError> {
        let mut compiled = [const { None }; Event::ALL.len()];
        for (slot, event) in compiled.iter_mut().zip(Event::ALL) {
            if let Some(script) = event.script(config, set) {
                let function = compile(&self.lua, &script.path, &script.source);
                let function = function
                    .map_err(|error| ScriptError::Compile(syntax_problem(set, script, &error)))?;
                let shown = function.info().short_src.unwrap_or_default();
                *slot = Some(Compiled { function, shown });
            }
        }
        Ok(compiled)
    }

    /// Half of the memory is for running.
    fn check_memory(&self) -> Result<(), ScriptError> {
        self.collect()?;
        let (used, limit) = (self.lua.used_memory(), self.context.memory);
        if used > limit / 2 {
            return Err(ScriptError::Memory { used, limit });
        }
        Ok(())
    }

    /// Runs the scripts that `sets` have for this event, in order, until one closes the connection,
    /// persists, or fails. The table writes of those that succeed are visible to all workers.
    ///
    /// `now` is of the clock that the tables use; `wall` is what `os.time` tells.
    pub fn run(
        &mut self,
        event: Event,
        sets: &[SetIndex],
        flow: &Flow<'_>,
        world: &Rc<dyn World>,
        now: Duration,
        wall: SystemTime,
    ) -> Outcome {
        let mut outcome = Outcome::default();
        let Some(names) = &self.loaded.names else {
            return outcome;
        };
        let mut run = self.context.run.borrow_mut();
        run.begin_event(event, flow, world, names, wall);
        drop(run);
        for &set in sets {
            let Some(script) = self.loaded.script(event, set) else {
                continue;
            };
            let result = self.run_script(script, names, set, now);
            let mut run = self.context.run.borrow_mut();
            match result {
                Ok(()) => {
                    run.tables.commit(now);
                    run.effects.merge_into(&mut outcome);
                }
                Err(error) => {
                    run.tables.abandon();
                    drop(run);
                    outcome.failure = self.failure(event, set, &script.shown, &error);
                    break;
                }
            }
            if outcome.close.is_some() || outcome.persist.is_some() {
                break;
            }
        }
        outcome
    }

    fn run_script(
        &self,
        script: &Compiled,
        names: &Names,
        set: SetIndex,
        now: Duration,
    ) -> Result<(), Error> {
        let lua = &self.lua;
        if let Some(names) = names.set(set) {
            let mut run = self.context.run.borrow_mut();
            run.begin_script(set, names, now);
        }
        self.context.ended.set(false);
        if self.garbage.is_pressing(lua) {
            self.collect()?;
        }
        self.garbage.step(lua)?;
        self.context.meter.start(lua)?;
        // Only while the script runs: what we do around it must not fail for want of memory.
        lua.set_memory_limit(self.context.memory)?;
        let result = self.sandbox.run(&script.function);
        lua.set_memory_limit(0)?;
        if is_memory(result.as_ref()) {
            self.collect()?;
        }
        if self.context.ended.get() {
            return Ok(());
        }
        result
    }

    /// Frees all memory that no script needs any more.
    fn collect(&self) -> Result<(), Error> {
        for script in self.loaded.scripts.iter().flatten().flatten() {
            self.sandbox.forget(&script.function)?;
        }
        self.garbage.collect_all(&self.lua)
    }

    /// Bytes that Lua uses once nothing is left to collect.
    #[cfg(test)]
    pub(super) fn used_memory(&self) -> usize {
        self.collect().expect("collecting does not fail");
        self.lua.used_memory()
    }

    fn failure(&self, event: Event, set: SetIndex, shown: &str, error: &Error) -> Option<Failure> {
        let config = self.loaded.config.as_ref()?;
        let (message, traceback) = match self.context.meter.exhausted() {
            Some(exhausted) => exhausted,
            None if is_memory(Err(error)) => (self.memory_message(), String::new()),
            None => errors::explain(error),
        };
        let positioned = errors::split_position(shown, &message);
        let line = positioned.map(|(line, _)| line);
        let line = line.or_else(|| errors::line_in(shown, &traceback));
        let text = match positioned.map_or(errors::without_ours(&message), |(_, text)| text) {
            "" => "the script raised an error without a message",
            text => text,
        };
        Some(Failure {
            set,
            event,
            script: event.script(config, set)?.path.clone(),
            line: line.unwrap_or(0),
            message: errors::shortened(text, LONGEST_MESSAGE).into_owned(),
            traceback: errors::shortened(&traceback, LONGEST_TRACEBACK).into_owned(),
            on_error: config.datascripts.get(set.0)?.on_error,
        })
    }

    fn memory_message(&self) -> String {
        let limit = self.context.memory;
        format!("not enough memory: `memory` under [instance.script] is {limit} bytes")
    }
}

impl Loaded {
    fn script(&self, event: Event, set: SetIndex) -> Option<&Compiled> {
        let place = Event::ALL.iter().position(|it| *it == event)?;
        self.scripts.get(set.0)?[place].as_ref()
    }
}

/// Compiles a script's text; Lua's bytecode is refused.
pub(super) fn compile(lua: &Lua, path: &Path, source: &str) -> Result<Function, Error> {
    lua.load(source)
        .set_name(format!("@{}", path.display()))
        .set_mode(ChunkMode::Text)
        .into_function()
}

/// Whether memory ran out, in Lua or in a function of ours.
fn is_memory(result: Result<&(), &Error>) -> bool {
    match result {
        Err(Error::MemoryError(_)) => true,
        Err(Error::CallbackError { cause, .. }) => is_memory(Err(cause)),
        _ => false,
    }
}
