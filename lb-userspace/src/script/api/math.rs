//! `math.random`, so that a replay draws what the first run drew.

use super::call::{Answer, Call};
use crate::script::errors::Raise;

/// Up to here every whole number is a number of Lua's.
const EXACT: f64 = (1u64 << 53) as f64;

/// `([m [, n]])`, as Lua 5.1's.
pub(super) fn random(call: &mut Call<'_>) -> Answer {
    // 53 bits: every value in [0, 1) that Lua can tell apart.
    let unit = (next(call.run.random()) >> 11) as f64 / (1u64 << 53) as f64;
    let (low, high) = match call.count {
        0 => return call.reply(unit),
        1 => (1.0, limit(call, 0, "m")?),
        _ => (limit(call, 0, "m")?, limit(call, 1, "n")?),
    };
    if low > high {
        return Err(call.error(format!("there is no whole number from {low} to {high}")));
    }
    call.reply((unit * (high - low + 1.0)).floor() + low)
}

fn limit(call: &Call<'_>, index: usize, name: &str) -> Result<f64, Raise> {
    let limit = call.number(index, name)?;
    if limit.is_nan() || limit.abs() > EXACT {
        return Err(call.bad(index, name, "number that is exact to the unit"));
    }
    Ok(limit.floor())
}

/// `(seed)`: for this run.
pub(super) fn randomseed(call: &mut Call<'_>) -> Answer {
    *call.run.random() = call.number(0, "seed")?.to_bits();
    Ok(())
}

/// SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
