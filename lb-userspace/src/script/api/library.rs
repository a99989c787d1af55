//! What is no one library's.

use super::call::{Answer, Call};
use crate::script::{
    errors::{self, Raise},
    vm::Argument,
};

/// `(steps)`: what a function of the standard library is about to do, for the budget.
pub(super) fn charge(call: &mut Call<'_>) -> Answer {
    let steps = call.number(0, "steps")?;
    // A cast saturates; NaN and what is negative cost nothing.
    call.charge(steps as u64)
}

/// What going through a table may cost: it has as many places as the run has memory for, perhaps
/// all of them empty, and Lua passes 16 of those in the time of an instruction.
pub(super) fn traverse(call: &mut Call<'_>) -> Answer {
    let held = call.context.meter.held(&call.context.vm);
    call.charge(held as u64 / BYTES_A_PLACE / 16)
}

/// A table's place is no smaller than this.
const BYTES_A_PLACE: u64 = 16;

/// Whether the run has ended, and no handler of an error may do anything.
pub(super) fn stopped(call: &mut Call<'_>) -> Answer {
    call.reply(call.context.stopped())
}

/// `(caught)`: what `pcall` has caught, as a script may see it. When the run has ended it is raised
/// again, so that every `pcall` unwinds.
pub(super) fn settle(call: &mut Call<'_>) -> Answer {
    if call.context.stopped() {
        return Err(Raise::End);
    }
    match call.get(0) {
        Argument::Text(text) if text.starts_with(errors::PRELUDE.as_bytes()) => {
            call.reply(errors::without_ours(&String::from_utf8_lossy(text)))
        }
        _ => {
            call.stack.push_argument(0);
            Ok(())
        }
    }
}
