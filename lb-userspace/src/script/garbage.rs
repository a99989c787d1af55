//! When Lua collects garbage: between runs, a piece at a time, and not while a script runs, but for
//! one that fills the memory.
//!
//! Left alone, Lua's collector works at moments of its own choosing: what a run has made could not
//! be told, and a run would pay for the garbage of others.

use std::cell::Cell;

use mlua::state::{GcIncParams, GcMode};

use super::vm::Vm;

/// A step's work for each byte: it goes through this many times what was made since the last.
const PACE: usize = 4;

/// Bytes that one step goes through, about.
const STEP: usize = 16 << 10;

/// Garbage that may lie around, at most, before a cycle of collecting begins. Dead strings are
/// among those that Lua looks through whenever it makes one, and should be in a core's cache.
const SLACK: usize = 128 << 10;

/// Spreads collecting over runs.
#[derive(Debug)]
pub(super) struct Garbage {
    /// Lua's memory limit.
    memory: usize,
    /// What was in use after the last step.
    seen: Cell<usize>,
    /// A cycle begins, or is under way, when more than this is in use.
    due: Cell<usize>,
}

impl Garbage {
    /// Takes over from a state's collector.
    pub(super) fn new(vm: &Vm, memory: usize) -> Self {
        // Lua does ten bytes of work a step for each unit of the multiplier.
        let multiplier = i32::try_from(STEP / 10).unwrap_or(i32::MAX);
        vm.lua()
            .gc_set_mode(GcMode::Incremental(GcIncParams::default().step_multiplier(multiplier)));
        vm.lua().gc_stop();
        Self { memory, seen: Cell::new(0), due: Cell::new(0) }
    }

    /// Before a run. Whether so much is in use that all garbage must go first.
    pub(super) fn is_pressing(&self, vm: &Vm) -> bool {
        vm.used_memory() > self.memory / 2
    }

    /// Before a run: a part of a cycle that keeps pace with what the last run made.
    pub(super) fn step(&self, vm: &Vm) {
        let used = vm.used_memory();
        let made = used.saturating_sub(self.seen.get());
        self.seen.set(used);
        if used <= self.due.get() {
            return;
        }
        self.due.set(0);
        for _ in 0..=made * PACE / STEP {
            if vm.lua().gc_step().unwrap_or(true) {
                self.rest(vm);
                break;
            }
        }
        vm.lua().gc_stop();
        self.seen.set(vm.used_memory());
    }

    /// All of it, now.
    pub(super) fn collect_all(&self, vm: &Vm) {
        // Twice: what has a finalizer goes in the second round.
        collect(vm);
        collect(vm);
        self.rest(vm);
    }

    fn rest(&self, vm: &Vm) {
        self.seen.set(vm.used_memory());
        self.due.set(vm.used_memory() + SLACK.min(self.memory / 8));
    }
}

/// A whole cycle.
pub(super) fn collect(vm: &Vm) {
    // Only a finalizer that fails could make it fail, and scripts cannot make one.
    let _ = vm.lua().gc_collect();
    // Collecting makes Lua's collector run again.
    vm.lua().gc_stop();
}
