//! What is added to `string`, and what is replaced because Lua's own has no bound.

use memchr::memmem;
use mlua::{LuaString, MultiValue, Result, Value};

use super::call::Call;
use crate::script::pattern::{self, Capture, Fault, Found};

pub(super) fn beginswith(call: &mut Call<'_>) -> Result<MultiValue> {
    compare(call, <[u8]>::starts_with)
}

pub(super) fn endswith(call: &mut Call<'_>) -> Result<MultiValue> {
    compare(call, <[u8]>::ends_with)
}

pub(super) fn contains(call: &mut Call<'_>) -> Result<MultiValue> {
    compare(call, |source, target| position(source, target).is_some())
}

fn compare(call: &mut Call<'_>, test: fn(&[u8], &[u8]) -> bool) -> Result<MultiValue> {
    let (source, target) = (call.string(0, "source")?, call.string(1, "target")?);
    charge(call, source.as_bytes().len() + target.as_bytes().len())?;
    call.reply(test(&source.as_bytes(), &target.as_bytes()))
}

/// `(text, separator)`: the parts between the separators; without any, the text itself.
pub(super) fn split(call: &mut Call<'_>) -> Result<MultiValue> {
    let (text, separator) = (call.string(0, "text")?, call.string(1, "separator")?);
    let (text, separator) = (text.as_bytes(), separator.as_bytes());
    if separator.is_empty() {
        return Err(call.bad(1, "separator", "string that is not empty"));
    }
    charge(call, text.len() + separator.len())?;
    let parts = call.lua.create_table()?;
    let mut rest = &*text;
    let finder = memmem::Finder::new(&*separator);
    while let Some(at) = finder.find(rest) {
        charge(call, PER_PART)?;
        parts.raw_push(call.lua.create_string(&rest[..at])?)?;
        rest = &rest[at + separator.len()..];
    }
    parts.raw_push(call.lua.create_string(rest)?)?;
    call.reply(parts)
}

/// `(text, count)`.
pub(super) fn rep(call: &mut Call<'_>) -> Result<MultiValue> {
    let text = call.string(0, "text")?;
    let count = call.number(1, "count")?.max(0.0);
    let text = text.as_bytes();
    let size = text.len() as f64 * count;
    if size > call.context.memory as f64 {
        return Err(call.error(format!("a string of {size} bytes is more than `memory` allows")));
    }
    charge(call, size as usize / 4)?;
    let count = if text.is_empty() { 0 } else { count as usize };
    call.reply(call.lua.create_string(text.repeat(count))?)
}

pub(super) fn lower(call: &mut Call<'_>) -> Result<MultiValue> {
    mapped(call, <[u8]>::make_ascii_lowercase)
}

pub(super) fn upper(call: &mut Call<'_>) -> Result<MultiValue> {
    mapped(call, <[u8]>::make_ascii_uppercase)
}

pub(super) fn reverse(call: &mut Call<'_>) -> Result<MultiValue> {
    mapped(call, <[u8]>::reverse)
}

/// Lua's own put long texts together from shorter ones, which fills the memory.
fn mapped(call: &mut Call<'_>, change: fn(&mut [u8])) -> Result<MultiValue> {
    let mut text = call.string(0, "text")?.as_bytes().to_vec();
    charge(call, text.len())?;
    change(&mut text);
    call.reply(call.lua.create_string(text)?)
}

/// `(text, pattern [, init [, plain]])`.
pub(super) fn find(call: &mut Call<'_>) -> Result<MultiValue> {
    let (text, wanted) = (call.string(0, "text")?, call.string(1, "pattern")?);
    let start = init(call, text.as_bytes().len())?;
    let asked = !matches!(call.arguments.get(3), None | Some(Value::Nil | Value::Boolean(false)));
    // As in Lua: a pattern without any of these is searched for as it is.
    let plain = asked || !wanted.as_bytes().iter().any(|byte| b"^$*+?.([%-".contains(byte));
    if plain {
        charge(call, text.as_bytes().len() + wanted.as_bytes().len())?;
        let found = position(&text.as_bytes()[start..], &wanted.as_bytes());
        return match found {
            Some(at) => call.reply_two(start + at + 1, start + at + wanted.as_bytes().len()),
            None => call.reply(Value::Nil),
        };
    }
    match search(call, &text, &wanted, start)? {
        None => call.reply(Value::Nil),
        Some(found) => {
            let mut reply = call.reply_two(found.0 + 1, found.1)?;
            push_captures(call, &text, &found, &mut reply)?;
            Ok(reply)
        }
    }
}

/// `(text, pattern [, init])`.
pub(super) fn match_(call: &mut Call<'_>) -> Result<MultiValue> {
    let (text, wanted) = (call.string(0, "text")?, call.string(1, "pattern")?);
    let start = init(call, text.as_bytes().len())?;
    let Some(found) = search(call, &text, &wanted, start)? else {
        return call.reply(Value::Nil);
    };
    let mut reply = MultiValue::new();
    push_captures_or_all(call, &text, &found, &mut reply)?;
    Ok(reply)
}

/// `(text, pattern, start)`, for `gmatch` and `gsub` in the prelude: from, to, captures. The start
/// counts from 1; beyond the end there is nothing to find.
pub(super) fn scan(call: &mut Call<'_>) -> Result<MultiValue> {
    let (text, wanted) = (call.string(0, "text")?, call.string(1, "pattern")?);
    let start = call.number(2, "start")? as usize;
    let start = start.saturating_sub(1);
    if start > text.as_bytes().len() {
        return call.reply(Value::Nil);
    }
    let Some(found) = search(call, &text, &wanted, start)? else {
        return call.reply(Value::Nil);
    };
    let mut reply = call.reply_two(found.0 + 1, found.1)?;
    push_captures_or_all(call, &text, &found, &mut reply)?;
    Ok(reply)
}

fn search(
    call: &Call<'_>,
    text: &LuaString,
    wanted: &LuaString,
    start: usize,
) -> Result<Option<Found>> {
    let left = call.context.meter.left();
    let (found, steps) = pattern::find(&text.as_bytes(), &wanted.as_bytes(), start, left);
    call.context.meter.charge(call.lua, steps)?;
    found.map_err(|fault| match fault {
        Fault::Malformed(what) => call.error(what),
        Fault::Exhausted => call.error("instruction budget exhausted"),
    })
}

/// The third argument: where to begin, from 0.
fn init(call: &Call<'_>, len: usize) -> Result<usize> {
    let init = match call.arguments.get(2) {
        None | Some(Value::Nil) => return Ok(0),
        Some(_) => call.number(2, "init")?,
    };
    let from_end = len as f64 + init;
    let start = if init < 0.0 { from_end } else { init - 1.0 };
    Ok((start as usize).min(len))
}

fn push_captures_or_all(
    call: &Call<'_>,
    text: &LuaString,
    found: &Found,
    reply: &mut MultiValue,
) -> Result<()> {
    if found.2.is_empty() {
        let all = &text.as_bytes()[found.0..found.1];
        reply.push_back(Value::String(call.lua.create_string(all)?));
    }
    push_captures(call, text, found, reply)
}

fn push_captures(
    call: &Call<'_>,
    text: &LuaString,
    found: &Found,
    reply: &mut MultiValue,
) -> Result<()> {
    for capture in &found.2 {
        reply.push_back(match *capture {
            Capture::Text(from, to) => {
                Value::String(call.lua.create_string(&text.as_bytes()[from..to])?)
            }
            Capture::Position(at) | Capture::Open(at) => Value::Number((at + 1) as f64),
        });
    }
    Ok(())
}

/// Where `target` is in `source`, found in a time that grows with their lengths' sum only.
fn position(source: &[u8], target: &[u8]) -> Option<usize> {
    memmem::find(source, target)
}

/// Steps of making one part of a split.
const PER_PART: usize = 16 * 10;

/// Takes off the budget what going through this many bytes costs: 16 of them are a step.
fn charge(call: &Call<'_>, bytes: usize) -> Result<()> {
    call.context.meter.charge(call.lua, bytes as u64 / 16)
}
