//! `avi.vs.table_*`.

use std::time::Duration;

use mlua::{LuaString, MultiValue, Result, Value};

use super::call::{Call, nothing};
use crate::{
    script::TableAccess,
    table::{self, DEFAULT_LIFETIME},
};

/// The arguments that all of them have.
struct Target {
    table: Option<LuaString>,
    key: LuaString,
    /// Index of the argument that follows the key.
    next: usize,
}

impl Target {
    fn new(call: &Call<'_>, named: bool) -> Result<Self> {
        let next = 1 + usize::from(named);
        let table = named.then(|| call.string(0, "table")).transpose()?;
        let key = call.string(next - 1, "key")?;
        let limit = call.context.tables.limits().key_size;
        if key.as_bytes().len() > limit {
            let expected = format!("at most {limit} bytes (key_size of [instance.tables])");
            return Err(call.bad(next - 1, "key", expected));
        }
        Ok(Self { table, key, next })
    }

    /// Calls `act` with the table's name, empty for the default one, and the key.
    fn with<R>(&self, act: impl FnOnce(&[u8], &[u8]) -> R) -> R {
        let key = self.key.as_bytes();
        match &self.table {
            Some(table) => act(&table.as_bytes(), &key),
            None => act(b"", &key),
        }
    }
}

impl Target {
    /// For those who explain decisions: what was done, and what is there now.
    fn note(&self, call: &mut Call<'_>, action: &'static str, success: bool) {
        if call.run.accesses.is_none() {
            return;
        }
        let (line, run) = (call.place().line, &mut *call.run);
        let access = self.with(|table, key| {
            let access = TableAccess::new(action, table, key, success);
            let found = run.tables.peek(table, key);
            access.with_found(found.as_ref(), run.tables.now()).at(line)
        });
        run.accesses.get_or_insert_default().push(access);
    }
}

/// `([table,] key, value [, lifetime])`. Three are (key, value, lifetime) when the third is a
/// number, else (table, key, value): a number in a named table needs its lifetime given.
pub(super) fn insert(call: &mut Call<'_>) -> Result<MultiValue> {
    let named = call.count() == 4 || call.count() == 3 && !call.is_number(2);
    let target = Target::new(call, named)?;
    let value = value(call, target.next)?;
    let lifetime = seconds(call, target.next + 1, 1)?;
    let tables = &mut call.run.tables;
    let inserted = target.with(|table, key| tables.insert(table, key, value, lifetime));
    target.note(call, "table_insert", inserted);
    call.reply(inserted)
}

/// `([table,] key [, extension])`.
pub(super) fn lookup(call: &mut Call<'_>) -> Result<MultiValue> {
    let target = Target::new(call, names_a_table(call))?;
    let extension = seconds(call, target.next, 0)?;
    let tables = &mut call.run.tables;
    let found = target.with(|table, key| tables.lookup(table, key, extension));
    target.note(call, "table_lookup", found.is_some());
    let Some(found) = found else {
        return call.reply(Value::Nil);
    };
    let remaining = found.remaining(call.run.tables.now()) as f64;
    match found.value {
        table::Value::Number(number) => call.reply_two(number, remaining),
        table::Value::String(bytes) => call.reply_two(call.lua.create_string(bytes)?, remaining),
    }
}

/// `([table,] key [, lifetime])`.
pub(super) fn refresh(call: &mut Call<'_>) -> Result<MultiValue> {
    let target = Target::new(call, names_a_table(call))?;
    let lifetime = seconds(call, target.next, 0)?;
    let tables = &mut call.run.tables;
    let there = target.with(|table, key| tables.refresh(table, key, lifetime));
    target.note(call, "table_refresh", there);
    call.reply(there)
}

/// `([table,] key)`.
pub(super) fn remove(call: &mut Call<'_>) -> Result<MultiValue> {
    let target = Target::new(call, call.count() == 2)?;
    let tables = &mut call.run.tables;
    let there = target.with(|table, key| {
        let there = tables.peek(table, key).is_some();
        tables.remove(table, key);
        there
    });
    target.note(call, "table_remove", there);
    nothing()
}

/// Two arguments are (key, lifetime) when the second is a number, else (table, key).
fn names_a_table(call: &Call<'_>) -> bool {
    call.count() == 3 || call.count() == 2 && !call.is_number(1)
}

/// A lifetime or an extension.
fn seconds(call: &Call<'_>, index: usize, least: u32) -> Result<Duration> {
    match call.arguments.get(index) {
        None | Some(Value::Nil) => Ok(DEFAULT_LIFETIME),
        Some(_) => {
            let seconds = call.whole(index, "lifetime", least..=u32::MAX)?;
            Ok(Duration::from_secs(seconds.into()))
        }
    }
}

fn value(call: &Call<'_>, index: usize) -> Result<table::Value> {
    match &call.arguments[index] {
        Value::Integer(number) => Ok(table::Value::Number(*number as f64)),
        Value::Number(number) => Ok(table::Value::Number(*number)),
        Value::String(text) => {
            let limit = call.context.tables.limits().value_size;
            if text.as_bytes().len() > limit {
                let expected = format!("at most {limit} bytes (value_size of [instance.tables])");
                return Err(call.bad(index, "value", expected));
            }
            Ok(table::Value::string(text.as_bytes()))
        }
        _ => Err(call.bad(index, "value", "string or number")),
    }
}
