//! What is added to `string`, and what is replaced because Lua's own has no bound.

use super::call::{Answer, Call};
use crate::script::{
    errors::Raise,
    pattern::{self, Capture, Fault, Found},
    vm::{Argument, Nil},
};
use memchr::memmem;

pub(super) fn beginswith(call: &mut Call<'_>) -> Answer {
    compare(call, <[u8]>::starts_with)
}

pub(super) fn endswith(call: &mut Call<'_>) -> Answer {
    compare(call, <[u8]>::ends_with)
}

pub(super) fn contains(call: &mut Call<'_>) -> Answer {
    compare(call, |source, target| position(source, target).is_some())
}

fn compare(call: &mut Call<'_>, test: fn(&[u8], &[u8]) -> bool) -> Answer {
    let (source, target) = (call.string(0, "source")?, call.string(1, "target")?);
    charge(call, source.len() + target.len())?;
    call.reply(test(&source, &target))
}

/// `(text, separator)`: the parts between the separators; without any, the text itself.
pub(super) fn split(call: &mut Call<'_>) -> Answer {
    let (text, separator) = (call.string(0, "text")?, call.string(1, "separator")?);
    if separator.is_empty() {
        return Err(call.bad(1, "separator", "string that is not empty"));
    }
    charge(call, text.len() + separator.len())?;
    let parts = call.stack.push_table();
    let (mut rest, mut count) = (&*text, 1);
    let finder = memmem::Finder::new(&*separator);
    while let Some(at) = finder.find(rest) {
        call.room_for(at)?;
        charge(call, PER_PART)?;
        parts.set_element(count, &rest[..at]);
        rest = &rest[at + separator.len()..];
        count += 1;
    }
    parts.set_element(count, rest);
    Ok(())
}

/// `(text, count)`.
pub(super) fn rep(call: &mut Call<'_>) -> Answer {
    let text = call.string(0, "text")?;
    let count = call.number(1, "count")?.max(0.0);
    let size = text.len() as f64 * count;
    if size > call.context.memory as f64 {
        return Err(call.error(format!("a string of {size} bytes is more than `memory` allows")));
    }
    charge(call, size as usize / 4)?;
    call.room_for(size as usize)?;
    let count = if text.is_empty() { 0 } else { count as usize };
    call.reply(&*text.repeat(count))
}

pub(super) fn lower(call: &mut Call<'_>) -> Answer {
    mapped(call, <[u8]>::make_ascii_lowercase)
}

pub(super) fn upper(call: &mut Call<'_>) -> Answer {
    mapped(call, <[u8]>::make_ascii_uppercase)
}

pub(super) fn reverse(call: &mut Call<'_>) -> Answer {
    mapped(call, <[u8]>::reverse)
}

/// Lua's own put long texts together from shorter ones, which fills the memory.
fn mapped(call: &mut Call<'_>, change: fn(&mut [u8])) -> Answer {
    let mut text = call.string(0, "text")?.to_vec();
    charge(call, text.len())?;
    change(&mut text);
    call.reply(&*text)
}

/// `(text, pattern [, init [, plain]])`.
pub(super) fn find(call: &mut Call<'_>) -> Answer {
    let (text, wanted) = (call.string(0, "text")?, call.string(1, "pattern")?);
    let start = init(call, text.len())?;
    let no = |it| matches!(it, Argument::Missing | Argument::Nil | Argument::Boolean(false));
    let asked = !no(call.get(3));
    // As in Lua: a pattern without any of these is searched for as it is.
    let plain = asked || !wanted.iter().any(|byte| b"^$*+?.([%-".contains(byte));
    if plain {
        charge(call, text.len() + wanted.len())?;
        let found = position(&text[start..], &wanted);
        return match found {
            Some(at) => call.reply_two((start + at + 1) as f64, (start + at + wanted.len()) as f64),
            None => call.reply(Nil),
        };
    }
    match search(call, &text, &wanted, start)? {
        None => call.reply(Nil),
        Some(found) => {
            call.reply_two((found.0 + 1) as f64, found.1 as f64)?;
            push_captures(call, &text, &found)
        }
    }
}

/// `(text, pattern [, init])`.
pub(super) fn match_(call: &mut Call<'_>) -> Answer {
    let (text, wanted) = (call.string(0, "text")?, call.string(1, "pattern")?);
    let start = init(call, text.len())?;
    let Some(found) = search(call, &text, &wanted, start)? else {
        return call.reply(Nil);
    };
    push_captures_or_all(call, &text, &found)
}

/// `(text, pattern, start)`, for `gmatch` and `gsub` in the prelude: from, to, captures. The start
/// counts from 1; beyond the end there is nothing to find.
pub(super) fn scan(call: &mut Call<'_>) -> Answer {
    let (text, wanted) = (call.string(0, "text")?, call.string(1, "pattern")?);
    let start = call.number(2, "start")? as usize;
    let start = start.saturating_sub(1);
    if start > text.len() {
        return call.reply(Nil);
    }
    let Some(found) = search(call, &text, &wanted, start)? else {
        return call.reply(Nil);
    };
    call.reply_two((found.0 + 1) as f64, found.1 as f64)?;
    push_captures_or_all(call, &text, &found)
}

fn search(
    call: &Call<'_>,
    text: &[u8],
    wanted: &[u8],
    start: usize,
) -> Result<Option<Found>, Raise> {
    let (found, steps) = pattern::find(text, wanted, start, call.context.meter.left());
    call.charge(steps)?;
    found.map_err(|fault| match fault {
        Fault::Malformed(what) => call.error(what),
        Fault::Exhausted => call.error("instruction budget exhausted"),
    })
}

/// The third argument: where to begin, from 0.
fn init(call: &Call<'_>, len: usize) -> Result<usize, Raise> {
    if call.stack.is_nil(2) {
        return Ok(0);
    }
    let init = call.number(2, "init")?;
    let from_end = len as f64 + init;
    let start = if init < 0.0 { from_end } else { init - 1.0 };
    Ok((start as usize).min(len))
}

fn push_captures_or_all(call: &Call<'_>, text: &[u8], found: &Found) -> Answer {
    if found.2.is_empty() {
        call.reply(&text[found.0..found.1])?;
    }
    push_captures(call, text, found)
}

fn push_captures(call: &Call<'_>, text: &[u8], found: &Found) -> Answer {
    found.2.iter().try_for_each(|capture| match *capture {
        Capture::Text(from, to) => call.reply(&text[from..to]),
        Capture::Position(at) | Capture::Open(at) => call.reply((at + 1) as f64),
    })
}

/// Where `target` is in `source`, found in a time that grows with their lengths' sum only.
fn position(source: &[u8], target: &[u8]) -> Option<usize> {
    memmem::find(source, target)
}

/// Steps of making one part of a split.
const PER_PART: usize = 16 * 10;

/// Takes off the budget what going through this many bytes costs: 16 of them are a step.
fn charge(call: &Call<'_>, bytes: usize) -> Answer {
    call.charge(bytes as u64 / 16)
}
