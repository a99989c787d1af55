//! The scripts of an event, one after the other, and what is left of each.

use super::{
    Event, Failure, Outcome, Progress, RunEntry, Runtime, errors, limits::AT_ONCE,
    runtime::Compiled, vm::Ended,
};
use crate::{config::SetIndex, table::Transaction};

/// Characters of a failure's message: a script may raise a string of any length.
const LONGEST_MESSAGE: usize = 1_000;

/// Characters of a failure's traceback: names of functions have any length too.
const LONGEST_TRACEBACK: usize = 4_000;

/// When everyone sees what the scripts do to tables.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Commit {
    /// When the script has ended.
    AfterEach,
    /// When the last one has: until then the whole chain may have to run again.
    AtTheEnd,
    /// Never: it is a rehearsal.
    Never,
}

impl Runtime {
    /// No script waits for payload unless more may come.
    pub(super) fn run_sets(&mut self, event: Event, sets: &[SetIndex], commit: Commit) -> Progress {
        let mut outcome = Outcome::default();
        let entries = self.journal.as_ref().map_or(0, Vec::len);
        for &set in sets {
            let Some(script) = self.loaded.script(event, set) else {
                continue;
            };
            let result = self.run_script(script, set);
            let mut run = self.context.run.borrow_mut();
            if let Some(wait) = run.wait.take() {
                run.tables.abandon();
                if let Some(journal) = &mut self.journal {
                    journal.truncate(entries);
                    journal.push(RunEntry::of_wait(wait));
                }
                return Progress::Waits(wait);
            }
            if let (Some(journal), Some(accesses)) = (&mut self.journal, &mut run.accesses) {
                let tables = std::mem::take(accesses);
                journal.push(RunEntry::new(event, set, &run.effects, tables, result.is_ok()));
            }
            match result {
                Ok(()) => {
                    commit.after_one(&mut run.tables);
                    run.effects.merge_into(&mut outcome);
                }
                Err(ended) => {
                    run.tables.back();
                    drop(run);
                    outcome.failure = self.failure(event, set, &script.shown, ended).map(Box::new);
                    break;
                }
            }
            if outcome.close.is_some() || outcome.persist.is_some() {
                break;
            }
        }
        commit.after_all(&mut self.context.run.borrow_mut().tables);
        Progress::Decided(outcome)
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

impl Commit {
    fn after_one(self, tables: &mut Transaction) {
        match self {
            Self::AfterEach => tables.commit(tables.now()),
            Self::AtTheEnd | Self::Never => tables.mark(),
        }
    }

    fn after_all(self, tables: &mut Transaction) {
        if self == Self::AtTheEnd {
            tables.commit(tables.now());
        }
    }
}
