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
