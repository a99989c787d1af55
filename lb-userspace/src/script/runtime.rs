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
    Event, Failure, Flow, Outcome, RunEntry, ScriptError, World,
    check::syntax_problem,
    context::{Context, Run},
    errors::{self, Raise},
    garbage::Garbage,
    limits::{AT_ONCE, Meter},
    names::{Names, SetNames},
    parsers::Parsers,
    sandbox::Sandbox,
    vm::{Chunk, Ended, Vm},
};
use crate::{
    config::{Config, ScriptLimits, SetIndex},
    table::{Tables, Transaction},
};

/// Characters of a failure's message: a script may raise a string of any length.
const LONGEST_MESSAGE: usize = 1_000;

/// Characters of a failure's traceback: names of functions have any length too.
const LONGEST_TRACEBACK: usize = 4_000;

/// Runs DataScripts for one worker; not `Send`, as its Lua state is not.
#[derive(Debug)]
pub struct Runtime {
    context: Rc<Context>,
    sandbox: Sandbox,
    garbage: Garbage,
    loaded: Loaded,
    /// What runs did, if somebody wants to know.
    journal: Option<Vec<RunEntry>>,
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
    chunk: Rc<Chunk>,
    /// The script's name as Lua shows it in messages: a long path is cut short.
    shown: Rc<str>,
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
                let vm = &self.context.vm;
                let function = compile(vm.lua(), &script.path, &script.source)
                    .map_err(|error| ScriptError::Compile(syntax_problem(script, &error)))?;
                let shown = function.info().short_src.unwrap_or_default().into();
                let mut chunk = vm.chunk(function)?;
                chunk.touches_globals |= parsers.touch_globals(config, set);
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
        if !self.begin(event, flow, world, wall) {
            return Outcome::default();
        }
        {
            let run = &mut *self.context.run.borrow_mut();
            run.tables.begin(&run.service, now);
        }
        self.run_sets(event, sets, |transaction| transaction.commit(now))
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
    ) -> (Outcome, Transaction) {
        let loaded = self.begin(event, flow, world, wall);
        let kept = self.exchange(Transaction::rehearsal, now);
        let sets = if loaded { sets } else { &[] };
        let outcome = self.run_sets(event, sets, |_| ());
        (outcome, self.exchange(|_, _, _| kept, now))
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

    fn run_sets(
        &mut self,
        event: Event,
        sets: &[SetIndex],
        settle: impl Fn(&mut Transaction),
    ) -> Outcome {
        let mut outcome = Outcome::default();
        for &set in sets {
            let Some(script) = self.loaded.script(event, set) else {
                continue;
            };
            let result = self.run_script(script, set);
            let mut run = self.context.run.borrow_mut();
            if let (Some(journal), Some(accesses)) = (&mut self.journal, &mut run.accesses) {
                let tables = std::mem::take(accesses);
                journal.push(RunEntry::new(event, set, &run.effects, tables, result.is_ok()));
            }
            match result {
                Ok(()) => {
                    settle(&mut run.tables);
                    run.effects.merge_into(&mut outcome);
                }
                Err(ended) => {
                    run.tables.abandon();
                    drop(run);
                    outcome.failure = self.failure(event, set, &script.shown, ended);
                    break;
                }
            }
            if outcome.close.is_some() || outcome.persist.is_some() {
                break;
            }
        }
        outcome
    }

    fn run_script(&self, script: &Compiled, set: SetIndex) -> Result<(), Ended> {
        let context = &*self.context;
        let vm = &*context.vm;
        if let Some(names) = self.loaded.names.as_ref().and_then(|names| names.set(set)) {
            let mut run = context.run.borrow_mut();
            run.begin_script(set, &script.shown, names);
            run.modules.begin(&script.chunk);
        }
        context.ended.set(false);
        if self.garbage.is_pressing(vm) {
            self.collect();
        }
        self.garbage.step(vm);
        context.meter.start(vm);
        let result = self.sandbox.run(context, &script.chunk);
        context.run.borrow_mut().modules.end(vm);
        if result.as_ref().is_err_and(|ended| ended.memory) {
            self.collect();
        }
        if context.ended.get() {
            return Ok(());
        }
        result
    }

    /// Frees all memory that no script needs any more.
    fn collect(&self) {
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

    fn failure(&self, event: Event, set: SetIndex, shown: &str, ended: Ended) -> Option<Failure> {
        let config = self.loaded.config.as_ref()?;
        let (message, traceback) = match self.context.meter.exhausted() {
            Some(exhausted) => exhausted,
            None if ended.memory => (self.memory_message(), String::new()),
            None => (ended.message, errors::tidy(&ended.traceback)),
        };
        let positioned = errors::split_position(shown, &message);
        let line = positioned.map(|(line, _)| line);
        let line = line.or_else(|| errors::line_in(shown, &traceback));
        let text = positioned.map_or(errors::without_ours(&message), |(_, text)| text);
        let text = if text.chars().all(|it| it.is_control() || it.is_whitespace()) {
            "the script raised an error without a message"
        } else {
            text
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
        format!(
            "not enough memory: `memory` under [instance.script] is {limit} bytes, of which one \
             instruction may take {AT_ONCE}"
        )
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
