//! The functions that scripts call.
//!
//! [`functions::GROUPS`] says what there is; the other modules are what they do.

mod call;
pub(super) mod functions;
mod l4;
mod library;
mod math;
mod parser;
mod pool;
mod table;
mod text;
mod time;
mod vs;

use super::{context::Context, errors::Raise, vm::Stack};
use call::Call;
use functions::Function;

impl Function {
    /// Does what Lua has called it for.
    pub(super) fn run(&self, stack: Stack<'_>, context: &Context) -> Result<(), Raise> {
        let Ok(mut run) = context.run.try_borrow_mut() else {
            return Err(Raise::Error("a function of ours was called by one".to_owned()));
        };
        let count = (0..stack.len()).rposition(|index| !stack.is_nil(index));
        let count = count.map_or(0, |last| last + 1);
        let call = &mut Call { stack, context, run: &mut run, name: self.name, count };
        if !self.is_allowed_in(call.run.event) {
            return Err(call.error(format!("not allowed in {}", call.run.event.name())));
        }
        if !self.takes_count(count) && !self.takes_count(stack.len()) {
            return Err(call.error(self.arity(count)));
        }
        (self.call)(call)
    }
}
