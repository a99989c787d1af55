//! The bounds of a run: Lua instructions, and steps of our own functions charged like them.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};

use mlua::{Error, HookTriggers, Lua, VmState};

use super::errors;

/// How often Lua asks whether there is budget left, in instructions.
const STRIDE: u64 = 1_000;

/// What is left of a run's instruction budget.
#[derive(Debug, Default)]
pub(super) struct Meter {
    /// 0: no bound.
    budget: u64,
    left: Cell<u64>,
    /// Where the budget ran out, and the traceback there.
    exhausted: RefCell<Option<(String, String)>>,
}

impl Meter {
    pub(super) fn new(budget: u64) -> Self {
        Self { budget, ..Self::default() }
    }

    /// Begins a run.
    pub(super) fn start(self: &Rc<Self>, lua: &Lua) -> Result<(), Error> {
        self.left.set(self.budget);
        self.exhausted.take();
        if self.budget == 0 {
            return Ok(());
        }
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
        if self.budget == 0 {
            return Ok(());
        }
        self.left.set(self.left.get().saturating_sub(steps));
        if self.left.get() == 0 {
            return Err(self.exhaust(lua));
        }
        Ok(())
    }

    /// Steps that may be charged before the budget runs out.
    pub(super) fn left(&self) -> u64 {
        if self.budget == 0 { u64::MAX } else { self.left.get() }
    }

    /// Has Lua ask after this many instructions, counted from now, and again and again.
    fn fire_after(self: &Rc<Self>, lua: &Lua, stride: u64) -> Result<(), Error> {
        let meter = Rc::clone(self);
        let triggers =
            HookTriggers::new().every_nth_instruction(u32::try_from(stride).unwrap_or(u32::MAX));
        lua.set_global_hook(triggers, move |lua, _| meter.tick(lua, stride))
    }

    fn tick(self: &Rc<Self>, lua: &Lua, stride: u64) -> Result<VmState, Error> {
        let left = self.left.get().saturating_sub(stride);
        self.left.set(left);
        if left == 0 {
            return Err(self.exhaust(lua));
        }
        if left < stride {
            self.fire_after(lua, left)?;
        }
        Ok(VmState::Continue)
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
