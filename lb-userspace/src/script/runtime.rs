//! One worker's Lua state: scripts go in compiled, flows go through.

use std::{
    cell::{Cell, RefCell},
    path::Path,
    rc::Rc,
    sync::Arc,
    time::{Duration, SystemTime},
};

use mlua::{Error, Function, Lua, chunk::ChunkMode};

use super::{
    Event, Flow, Outcome, Progress, RunEntry, ScriptError, World,
    chain::Commit,
    check::syntax_problem,
    context::{Context, Run},
    errors::Raise,
    garbage::Garbage,
    limits::Meter,
    names::{Names, SetNames},
    parsers::Parsers,
    sandbox::Sandbox,
    vm::{Chunk, Vm},
};
use crate::{
    config::{Config, ScriptLimits, SetIndex},
    table::{Tables, Transaction},
};

/// Runs DataScripts for one worker; not `Send`, as its Lua state is not.
#[derive(Debug)]
pub struct Runtime {
    pub(super) context: Rc<Context>,
    pub(super) sandbox: Sandbox,
    pub(super) garbage: Garbage,
    pub(super) loaded: Loaded,
    /// What runs did, if somebody wants to know.
    pub(super) journal: Option<Vec<RunEntry>>,
}

/// A configuration's scripts.
#[derive(Debug, Default)]
pub(super) struct Loaded {
    pub(super) config: Option<Arc<Config>>,
    pub(super) names: Option<Names>,
    /// By set, then by event in the order of [`Event::ALL`].
    scripts: Vec<[Option<Compiled>; Event::ALL.len()]>,
}

#[derive(Debug)]
pub(super) struct Compiled {
    pub(super) chunk: Rc<Chunk>,
    /// The script's name as Lua shows it in messages: a long path is cut short.
    pub(super) shown: Rc<str>,
}

impl Runtime {
    /// A state without scripts. `tables` are those that all workers share.
    pub fn new(limits: ScriptLimits, tables: Arc<Tables>) -> Result<Self, ScriptError> {
        let vm = Rc::new(Vm::new()?);
        let context = Rc::new(Context {
            vm: Rc::clone(&vm),
            meter: Meter::new(limits.instruction_budget, limits.memory),
            memory: limits.memory,
            run: RefCell::new(Run::idle(Arc::clone(&tables), Rc::new(SetNames::none()))),
            tables,
            config: RefCell::new(None),
            parsers: RefCell::default(),
            ended: Cell::new(false),
            raised: RefCell::new(Raise::End),
            traceback: RefCell::default(),
            panic: RefCell::default(),
        });
        Ok(Self {
            sandbox: Sandbox::new(&vm)?,
            garbage: Garbage::new(&vm, limits.memory),
            loaded: Loaded::default(),
            journal: None,
            context,
        })
    }

    /// Compiles the scripts of a configuration. They replace the old ones, or, on an error, nothing
    /// has changed.
    pub fn load(&mut self, config: &Arc<Config>) -> Result<(), ScriptError> {
        let sets = (0..config.datascripts.len()).map(SetIndex);
        let parsers = Parsers::load(&self.context, &self.sandbox, config)?;
        let compile = |set| self.compile_set(config, set, &parsers);
        let scripts = sets.map(compile).collect::<Result<_, _>>()?;
        let loaded =
            Loaded { config: Some(Arc::clone(config)), names: Some(Names::new(config)), scripts };
        let old = std::mem::replace(&mut self.loaded, loaded);
        let old_parsers = self.context.parsers.replace(parsers);
        if let Err(error) = self.check_memory() {
            self.loaded = old;
            self.context.parsers.replace(old_parsers);
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
        parsers: &Parsers,
    ) -> Result<[Option<Compiled>; Event::ALL.len()], ScriptError> {
        let mut compiled = [const { None }; Event::ALL.len()];
        for (slot, event) in compiled.iter_mut().zip(Event::ALL) {
            if let Some(script) = event.script(config, set) {
                let lua = self.context.vm.lua();
                let function = compile(lua, &script.path, &script.source)
                    .map_err(|error| ScriptError::Compile(syntax_problem(script, &error)))?;
                let shown = function.info().short_src.unwrap_or_default().into();
                let chunk = self.sandbox.script(function, parsers.touch_globals(config, set))?;
                *slot = Some(Compiled { chunk: Rc::new(chunk), shown });
            }
        }
        Ok(compiled)
    }

    /// Half of the memory is for running.
    fn check_memory(&self) -> Result<(), ScriptError> {
        self.collect();
        let (used, limit) = (self.context.vm.used_memory(), self.context.memory);
        if used > limit / 2 {
            return Err(ScriptError::Memory { used, limit });
        }
        Ok(())
    }

    /// Runs the scripts that `sets` have for this event, in order, until one closes the connection,
    /// persists, or fails.
    ///
    /// The table writes of each script that succeeds are visible to all workers when it has ended;
    /// of a stream, those of all scripts when the last one has: while they wait for more payload,
    /// there are none.
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
    ) -> Progress {
        if !self.begin(event, flow, world, wall) {
            return Progress::Decided(Outcome::default());
        }
        self.begin_tables(now);
        let commit = if flow.more.is_some() { Commit::AtTheEnd } else { Commit::AfterEach };
        self.run_sets(event, sets, commit)
    }

    /// As [`Runtime::run`], but nobody sees what the scripts do to tables, apart from those that
    /// run after them: the transaction, which holds it, is not to be committed.
    pub fn rehearse(
        &mut self,
        event: Event,
        sets: &[SetIndex],
        flow: &Flow<'_>,
        world: &Rc<dyn World>,
        now: Duration,
        wall: SystemTime,
    ) -> (Progress, Transaction) {
        let sets = if self.begin(event, flow, world, wall) { sets } else { &[] };
        let kept = self.exchange(Transaction::rehearsal, now);
        let progress = self.run_sets(event, sets, Commit::Never);
        (progress, self.exchange(|_, _, _| kept, now))
    }

    fn begin_tables(&self, now: Duration) {
        let run = &mut *self.context.run.borrow_mut();
        run.tables.begin(&run.service, now);
    }

    /// Puts another transaction in place of the one that runs write to, and returns that.
    fn exchange(
        &self,
        other: impl FnOnce(Arc<Tables>, Arc<str>, Duration) -> Transaction,
        now: Duration,
    ) -> Transaction {
        let mut run = self.context.run.borrow_mut();
        let other = other(Arc::clone(&self.context.tables), Arc::clone(&run.service), now);
        std::mem::replace(&mut run.tables, other)
    }

    /// From now on keeps what runs do, for [`Runtime::take_journal`].
    pub fn keep_journal(&mut self, keep: bool) {
        self.journal = keep.then(Vec::new);
    }

    /// What the runs since the last call did, in order.
    pub fn take_journal(&mut self) -> Vec<RunEntry> {
        self.journal.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// False if nothing is loaded.
    fn begin(
        &self,
        event: Event,
        flow: &Flow<'_>,
        world: &Rc<dyn World>,
        wall: SystemTime,
    ) -> bool {
        let Some(names) = &self.loaded.names else {
            return false;
        };
        let mut run = self.context.run.borrow_mut();
        run.begin_event(event, flow, world, names, wall);
        run.accesses = self.journal.is_some().then(Vec::new);
        true
    }

    /// Frees all memory that no script needs any more.
    pub(super) fn collect(&self) {
        for script in self.loaded.scripts.iter().flatten().flatten() {
            self.sandbox.forget(&script.chunk);
        }
        self.garbage.collect_all(&self.context.vm);
    }

    /// How long the last run went unwatched, at most.
    #[cfg(test)]
    pub(super) fn longest_unwatched(&self) -> Duration {
        self.context.meter.pace.longest.get()
    }

    /// Bytes that Lua uses once nothing is left to collect.
    #[cfg(test)]
    pub(super) fn used_memory(&self) -> usize {
        self.collect();
        self.context.vm.used_memory()
    }
}

impl Loaded {
    pub(super) fn script(&self, event: Event, set: SetIndex) -> Option<&Compiled> {
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
