//! Values on their way between Lua and Rust.

use mlua::{Lua, Result, Value};

use crate::table;

/// What JSON says, in Lua: lists and objects are tables, null is nil.
pub(super) fn to_lua(lua: &Lua, json: &serde_json::Value) -> Result<Value> {
    use serde_json::Value as Json;
    Ok(match json {
        Json::Null => Value::Nil,
        Json::Bool(boolean) => Value::Boolean(*boolean),
        Json::Number(number) => Value::Number(number.as_f64().unwrap_or(f64::NAN)),
        Json::String(text) => Value::String(lua.create_string(text)?),
        Json::Array(items) => {
            let list = lua.create_table()?;
            for (index, item) in items.iter().enumerate() {
                list.raw_set(index + 1, to_lua(lua, item)?)?;
            }
            Value::Table(list)
        }
        Json::Object(fields) => {
            let table = lua.create_table()?;
            for (key, value) in fields {
                table.raw_set(key.as_str(), to_lua(lua, value)?)?;
            }
            Value::Table(table)
        }
    })
}

/// What a script's table holds, in Lua.
pub(super) fn from_table(lua: &Lua, value: &table::Value) -> Result<Value> {
    Ok(match value {
        table::Value::String(bytes) => Value::String(lua.create_string(bytes)?),
        table::Value::Number(number) => Value::Number(*number),
    })
}
