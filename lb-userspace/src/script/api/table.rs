//! `avi.vs.table_*`.

use std::time::Duration;

use super::call::{Answer, Call};
use crate::{
    script::{
        TableAccess,
        errors::Raise,
        vm::{Argument, Nil, Push, Text},
    },
    table::{self, DEFAULT_LIFETIME},
};

/// The arguments that all of them have.
struct Target<'a> {
    /// Empty for the default one.
    table: Text<'a>,
    key: Text<'a>,
    /// Index of the argument that follows the key.
    next: usize,
}

impl<'a> Target<'a> {
    fn new(call: &Call<'a>, named: bool) -> Result<Self, Raise> {
        let next = 1 + usize::from(named);
        let table = if named { call.string(0, "table")? } else { Text::Own(b"") };
        let key = call.string(next - 1, "key")?;
        let limit = call.context.tables.limits().key_size;
        if key.len() > limit {
            let expected = format!("at most {limit} bytes (key_size of [instance.tables])");
            return Err(call.bad(next - 1, "key", expected));
        }
        Ok(Self { table, key, next })
    }

    /// For those who explain decisions: what was done, and what is there now.
    fn note(&self, call: &mut Call<'_>, action: &'static str, success: bool) {
        if call.run.accesses.is_none() {
            return;
        }
        let (line, run) = (call.place().line, &mut *call.run);
        let access = TableAccess::new(action, &self.table, &self.key, success);
        let found = run.tables.peek(&self.table, &self.key);
        let access = access.with_found(found.as_ref(), run.tables.now()).at(line);
        run.accesses.get_or_insert_default().push(access);
    }
}

/// `([table,] key, value [, lifetime])`. Three are (key, value, lifetime) when the third is a
/// number, else (table, key, value): a number in a named table needs its lifetime given.
pub(super) fn insert(call: &mut Call<'_>) -> Answer {
    let named = call.count == 4 || call.count == 3 && !call.is_number(2);
    let target = Target::new(call, named)?;
    let value = value(call, target.next)?;
    let lifetime = seconds(call, target.next + 1, 1)?;
    let tables = &mut call.run.tables;
    let inserted = tables.insert(&target.table, &target.key, value, lifetime);
    target.note(call, "table_insert", inserted);
    call.reply(inserted)
}

/// `([table,] key [, extension])`.
pub(super) fn lookup(call: &mut Call<'_>) -> Answer {
    let target = Target::new(call, names_a_table(call))?;
    let extension = seconds(call, target.next, 0)?;
    let stack = call.stack;
    let tables = &mut call.run.tables;
    let now = tables.now();
    let found = tables.read(&target.table, &target.key, extension, |value, deadline| {
        match value {
            table::Value::Number(number) => number.push(&stack),
            table::Value::String(bytes) => (**bytes).push(&stack),
        }
        (table::remaining(deadline, now) as f64).push(&stack);
    });
    target.note(call, "table_lookup", found.is_some());
    match found {
        Some(()) => Ok(()),
        None => call.reply(Nil),
    }
}

/// `([table,] key [, lifetime])`.
pub(super) fn refresh(call: &mut Call<'_>) -> Answer {
    let target = Target::new(call, names_a_table(call))?;
    let lifetime = seconds(call, target.next, 0)?;
    let tables = &mut call.run.tables;
    let there = tables.refresh(&target.table, &target.key, lifetime);
    target.note(call, "table_refresh", there);
    call.reply(there)
}

/// `([table,] key)`.
pub(super) fn remove(call: &mut Call<'_>) -> Answer {
    let target = Target::new(call, call.count == 2)?;
    let tables = &mut call.run.tables;
    let there = tables.peek(&target.table, &target.key).is_some();
    tables.remove(&target.table, &target.key);
    target.note(call, "table_remove", there);
    Ok(())
}

/// Two arguments are (key, lifetime) when the second is a number, else (table, key).
fn names_a_table(call: &Call<'_>) -> bool {
    call.count == 3 || call.count == 2 && !call.is_number(1)
}

/// A lifetime or an extension.
fn seconds(call: &Call<'_>, index: usize, least: u32) -> Result<Duration, Raise> {
    if call.stack.is_nil(index) {
        return Ok(DEFAULT_LIFETIME);
    }
    let seconds = call.whole(index, "lifetime", least..=u32::MAX)?;
    Ok(Duration::from_secs(seconds.into()))
}

fn value(call: &Call<'_>, index: usize) -> Result<table::Value, Raise> {
    match call.get(index) {
        Argument::Number(number) => Ok(table::Value::Number(number)),
        Argument::Text(text) => {
            let limit = call.context.tables.limits().value_size;
            if text.len() > limit {
                let expected = format!("at most {limit} bytes (value_size of [instance.tables])");
                return Err(call.bad(index, "value", expected));
            }
            Ok(table::Value::string(text))
        }
        _ => Err(call.bad(index, "value", "string or number")),
    }
}
