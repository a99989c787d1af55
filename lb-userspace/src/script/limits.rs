//! The bounds of a run: Lua instructions, and charged like them what Lua does not count: steps of
//! our own functions, and the memory that instructions make.
//!
//! Joining two strings is one instruction, whatever their length. Lua's collector stands still
//! while a script runs (see [`super::garbage`]), so what is in use only grows, and its growth is
//! what was made.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};

use mlua::{Error, HookTriggers, Lua, VmState};

use super::{errors, garbage};

/// How often Lua asks whether there is budget left, in instructions.
const STRIDE: u64 = 64;

/// For each of these that a run holds, Lua asks more often: an instruction may go through all of
/// it. Where much is held it asks at every instruction, so that a stuck script is stopped soon.
const SHORTER: usize = 16 << 10;

/// Joining strings makes nothing new if the result is there already, and comparing them never
/// does: an instruction counts once more for each of these that a run holds.
const FREE: usize = 64 << 10;

/// Bytes of new memory that count as one instruction.
const BYTES_A_STEP: u64 = 64;

/// New memory that a run may take between two looks. It bounds the string that one instruction
/// can make: nothing of the kind is needed for a payload of 64 KiB, and making a larger one would
/// take longer than a stuck script may go on.
pub(super) const AT_ONCE: usize = 2 << 20;

/// What is left of a run's instruction budget.
#[derive(Debug)]
pub(super) struct Meter {
    budget: u64,
    left: Cell<u64>,
    /// Lua's memory limit.
    memory: usize,
    /// What was in use when the run began, when it was last looked at, and when to collect.
    before: Cell<usize>,
    used: Cell<usize>,
    full: Cell<usize>,
    /// Where the budget ran out, and the traceback there.
    exhausted: RefCell<Option<(String, String)>>,
    #[cfg(test)]
    pub(super) pace: Pace,
}

/// How long a run went unwatched, at most, by the processor's time: as late it may be stopped.
#[cfg(test)]
#[derive(Debug, Default)]
pub(super) struct Pace {
    last: Cell<std::time::Duration>,
    pub(super) longest: Cell<std::time::Duration>,
}

#[cfg(test)]
impl Pace {
    fn look(&self) {
        let now = processor_time();
        let since = now - self.last.replace(now);
        self.longest.set(self.longest.get().max(since));
    }

    fn begin(&self) {
        self.last.set(processor_time());
        self.longest.take();
    }
}

#[cfg(test)]
fn processor_time() -> std::time::Duration {
    use rustix::time::{ClockId, clock_gettime};
    clock_gettime(ClockId::ThreadCPUTime).try_into().expect("it is not negative")
}

impl Meter {
    /// For runs of so many instructions, 0 for any number, in so much memory.
    pub(super) fn new(budget: u64, memory: usize) -> Self {
        let budget = if budget == 0 { u64::MAX } else { budget };
        let [before, used, full] = [const { Cell::new(0) }; 3];
        let exhausted = RefCell::default();
        Self {
            budget,
            left: Cell::new(0),
            memory,
            before,
            used,
            full,
            exhausted,
            #[cfg(test)]
            pace: Pace::default(),
        }
    }

    /// Begins a run.
    pub(super) fn start(self: &Rc<Self>, lua: &Lua) -> Result<(), Error> {
        self.left.set(self.budget);
        self.exhausted.take();
        self.before.set(lua.used_memory());
        self.watch(lua.used_memory());
        self.lend(lua, lua.used_memory())?;
        #[cfg(test)]
        self.pace.begin();
        self.fire_after(lua, STRIDE.min(self.budget))
    }

    /// The message and traceback of an exhausted budget.
    pub(super) fn exhausted(&self) -> Option<(String, String)> {
        self.exhausted.borrow().clone()
    }

    /// Whether the budget has run out.
    pub(super) fn is_exhausted(&self) -> bool {
        self.exhausted.borrow().is_some()
    }

    /// Takes steps that Lua does not count off the budget.
    pub(super) fn charge(self: &Rc<Self>, lua: &Lua, steps: u64) -> Result<(), Error> {
        #[cfg(test)]
        self.pace.look();
        let steps = steps.saturating_add(self.made(lua)?);
        self.left.set(self.left.get().saturating_sub(steps));
        if self.left.get() == 0 {
            return Err(self.exhaust(lua));
        }
        Ok(())
    }

    /// Steps that may be charged before the budget runs out.
    pub(super) fn left(&self) -> u64 {
        self.left.get()
    }

    /// Bytes that the run has made and not released.
    pub(super) fn held(&self, lua: &Lua) -> usize {
        lua.used_memory().saturating_sub(self.before.get())
    }

    /// Has Lua ask after this many instructions, counted from now, and again and again.
    fn fire_after(self: &Rc<Self>, lua: &Lua, stride: u64) -> Result<(), Error> {
        let meter = Rc::clone(self);
        let triggers =
            HookTriggers::new().every_nth_instruction(u32::try_from(stride).unwrap_or(u32::MAX));
        lua.set_global_hook(triggers, move |lua, _| meter.tick(lua, stride))
    }

    fn tick(self: &Rc<Self>, lua: &Lua, stride: u64) -> Result<VmState, Error> {
        if self.is_exhausted() {
            return Err(self.exhaust(lua));
        }
        let held = self.held(lua);
        self.charge(lua, stride * (1 + held / FREE) as u64)?;
        let next = (STRIDE / (1 + held / SHORTER) as u64).clamp(1, self.left());
        if next != stride {
            self.fire_after(lua, next)?;
        }
        Ok(VmState::Continue)
    }

    /// Steps for the memory that was made since the last look. When half of what was free is
    /// used, garbage is collected, which counts by what it goes through.
    fn made(&self, lua: &Lua) -> Result<u64, Error> {
        let used = lua.used_memory();
        let mut bytes = used.saturating_sub(self.used.get());
        self.used.set(used);
        self.lend(lua, used)?;
        if used > self.full.get() {
            bytes += used;
            garbage::collect(lua)?;
            self.watch(lua.used_memory());
        }
        Ok(bytes as u64 / BYTES_A_STEP)
    }

    /// Lets the run take more memory, up to its limit.
    fn lend(&self, lua: &Lua, used: usize) -> Result<(), Error> {
        lua.set_memory_limit(self.memory.min(used + AT_ONCE)).map(drop)
    }

    fn watch(&self, used: usize) {
        self.used.set(used);
        self.full.set(used + self.memory.saturating_sub(used) / 2);
    }

    /// From here on every instruction is an error, so that each `pcall` unwinds in turn.
    fn exhaust(self: &Rc<Self>, lua: &Lua) -> Error {
        if !self.is_exhausted() {
            let text = format!("instruction budget of {} exhausted", self.budget);
            let message = errors::positioned(lua, &text);
            let traceback = errors::traceback(lua);
            self.exhausted.replace(Some((message, traceback)));
            if let Err(error) = self.fire_after(lua, 1) {
                return error;
            }
        }
        let message = self.exhausted().map(|(message, _)| message);
        Error::RuntimeError(message.unwrap_or_default())
    }
}
