//! The bounds of a run: Lua instructions, and charged like them what Lua does not count: steps of
//! our own functions, and the memory that instructions make.
//!
//! Joining two strings is one instruction, whatever their length. Lua's collector stands still
//! while a script runs (see [`super::garbage`]), so what is in use only grows, and its growth is
//! what was made.

use std::cell::{Cell, RefCell};

use super::{
    errors::{self, Raise},
    garbage,
    vm::Vm,
};

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
    /// What may be in use until it is looked at again.
    lent: Cell<usize>,
    /// Instructions between two looks, as asked for last.
    stride: Cell<u64>,
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
        let [before, used, full, lent] = [const { Cell::new(0) }; 4];
        let exhausted = RefCell::default();
        Self {
            budget,
            left: Cell::new(0),
            memory,
            before,
            used,
            full,
            lent,
            stride: Cell::new(STRIDE),
            exhausted,
            #[cfg(test)]
            pace: Pace::default(),
        }
    }

    /// Begins a run.
    pub(super) fn start(&self, vm: &Vm) {
        self.left.set(self.budget);
        self.exhausted.take();
        let used = vm.used_memory();
        self.before.set(used);
        self.watch(used);
        self.lend(used);
        #[cfg(test)]
        self.pace.begin();
        self.ask_after(vm, STRIDE.min(self.budget));
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
    pub(super) fn charge(&self, vm: &Vm, steps: u64) -> Result<(), Raise> {
        #[cfg(test)]
        self.pace.look();
        let steps = steps.saturating_add(self.made(vm));
        self.left.set(self.left.get().saturating_sub(steps));
        if self.left.get() == 0 {
            return Err(self.exhaust(vm));
        }
        Ok(())
    }

    /// Steps that may be charged before the budget runs out.
    pub(super) fn left(&self) -> u64 {
        self.left.get()
    }

    /// Bytes that the run has made and not released.
    pub(super) fn held(&self, vm: &Vm) -> usize {
        vm.used_memory().saturating_sub(self.before.get())
    }

    /// Bytes that may be in use, until the meter looks again.
    pub(super) fn lent(&self) -> usize {
        self.lent.get()
    }

    /// Whether the run may take so much.
    pub(super) fn has_room(&self, vm: &Vm, bytes: usize) -> bool {
        vm.used_memory().saturating_add(bytes) <= self.lent.get()
    }

    /// Has itself asked after so many instructions, counted from now, and again and again.
    fn ask_after(&self, vm: &Vm, stride: u64) {
        self.stride.set(stride);
        vm.ask_after(Some(stride));
    }

    /// So many instructions more have been executed.
    pub(super) fn tick(&self, vm: &Vm) -> Result<(), Raise> {
        if self.is_exhausted() {
            return Err(self.exhaust(vm));
        }
        let (held, stride) = (self.held(vm), self.stride.get());
        self.charge(vm, stride * (1 + held / FREE) as u64)?;
        let next = (STRIDE / (1 + held / SHORTER) as u64).clamp(1, self.left());
        if next != stride {
            self.ask_after(vm, next);
        }
        Ok(())
    }

    /// Steps for the memory that was made since the last look. When half of what was free is
    /// used, garbage is collected, which counts by what it goes through.
    fn made(&self, vm: &Vm) -> u64 {
        let used = vm.used_memory();
        let mut bytes = used.saturating_sub(self.used.get());
        self.used.set(used);
        self.lend(used);
        if used > self.full.get() {
            bytes += used;
            garbage::collect(vm);
            self.watch(vm.used_memory());
        }
        bytes as u64 / BYTES_A_STEP
    }

    /// Lets the run take more memory, up to its limit.
    fn lend(&self, used: usize) {
        self.lent.set(self.memory.min(used + AT_ONCE));
    }

    fn watch(&self, used: usize) {
        self.used.set(used);
        self.full.set(used + self.memory.saturating_sub(used) / 2);
    }

    /// From here on every instruction is an error, so that each `pcall` unwinds in turn.
    fn exhaust(&self, vm: &Vm) -> Raise {
        if !self.is_exhausted() {
            let text = format!("instruction budget of {} exhausted", self.budget);
            let message = errors::positioned(vm, &text);
            let traceback = errors::tidy(&vm.traceback());
            self.exhausted.replace(Some((message, traceback)));
            self.ask_after(vm, 1);
        }
        let message = self.exhausted().map(|(message, _)| message);
        Raise::Error(message.unwrap_or_default())
    }
}
