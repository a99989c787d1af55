//! What is no one library's.

use mlua::{MultiValue, Result};

use super::call::{Call, nothing};

/// `(steps)`: what a function of the standard library is about to do, for the budget.
pub(super) fn charge(call: &mut Call<'_>) -> Result<MultiValue> {
    let steps = call.number(0, "steps")?;
    // A cast saturates; NaN and what is negative cost nothing.
    call.context.meter.charge(call.lua, steps as u64)?;
    nothing()
}

/// What going through a table may cost: it has as many places as the run has memory for, perhaps
/// all of them empty, and Lua passes 16 of those in the time of an instruction.
pub(super) fn traverse(call: &mut Call<'_>) -> Result<MultiValue> {
    let held = call.context.meter.held(call.lua);
    call.context.meter.charge(call.lua, held as u64 / BYTES_A_PLACE / 16)?;
    nothing()
}

/// A table's place is no smaller than this.
const BYTES_A_PLACE: u64 = 16;
