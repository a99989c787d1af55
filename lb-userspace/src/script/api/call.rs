//! One call of a function: its arguments, and what it may act on.

use std::{fmt::Display, ops::RangeInclusive, rc::Rc};

use mlua::{Error, IntoLua, Lua, LuaString, MultiValue, Result, Value};

use crate::script::{
    Place,
    context::{Context, Run},
    errors,
    names::PoolNames,
};

/// Characters of a message, at most.
const LONGEST: usize = 300;

pub(super) struct Call<'a> {
    pub(super) lua: &'a Lua,
    pub(super) context: &'a Rc<Context>,
    pub(super) run: &'a mut Run,
    pub(super) name: &'static str,
    pub(super) arguments: &'a MultiValue,
}

impl Call<'_> {
    /// Arguments, not counting nils at the end: `f(a, nil)` is `f(a)`.
    pub(super) fn count(&self) -> usize {
        let last = self.arguments.iter().rposition(|value| !value.is_nil());
        last.map_or(0, |last| last + 1)
    }

    /// Whether an argument is a number, not a string that looks like one.
    pub(super) fn is_number(&self, index: usize) -> bool {
        matches!(self.arguments.get(index), Some(Value::Integer(_) | Value::Number(_)))
    }

    /// An error of this function, at the script's line.
    pub(super) fn error(&self, message: impl Display) -> Error {
        // A script's strings are in many of them, of any length.
        let message = format!("{}: {message}", self.name);
        let message = errors::shortened(&message, LONGEST);
        Error::RuntimeError(errors::positioned(self.lua, &message))
    }

    /// An argument that is not what it should be.
    pub(super) fn bad(&self, index: usize, what: &str, expected: impl Display) -> Error {
        let got = match self.arguments.get(index) {
            None => "nothing".to_owned(),
            Some(Value::String(text)) => format!("\"{}\"", text.display()),
            Some(Value::Integer(number)) => number.to_string(),
            Some(Value::Number(number)) => number.to_string(),
            Some(other) => other.type_name().to_owned(),
        };
        let number = index + 1;
        self.error(format!("bad argument #{number} ({what}): {expected} expected, got {got}"))
    }

    /// A string, or a number as Lua writes it.
    pub(super) fn string(&self, index: usize, what: &str) -> Result<LuaString> {
        match self.arguments.get(index) {
            Some(Value::String(text)) => Ok(text.clone()),
            Some(number @ (Value::Integer(_) | Value::Number(_))) => {
                let text = self.lua.coerce_string(number.clone())?;
                text.ok_or_else(|| self.bad(index, what, "string"))
            }
            _ => Err(self.bad(index, what, "string")),
        }
    }

    /// A number, or a string that is one.
    pub(super) fn number(&self, index: usize, what: &str) -> Result<f64> {
        let value = self.arguments.get(index).unwrap_or(&Value::Nil);
        let number = self.lua.coerce_number(value.clone())?;
        number.ok_or_else(|| self.bad(index, what, "number"))
    }

    /// A whole number in a range, or a string that is one.
    pub(super) fn whole(
        &self,
        index: usize,
        what: &str,
        range: RangeInclusive<u32>,
    ) -> Result<u32> {
        let number = match self.arguments.get(index) {
            Some(Value::Integer(number)) => u32::try_from(*number).ok(),
            Some(Value::String(text)) => text.to_str().ok().and_then(|text| text.parse().ok()),
            _ => None,
        };
        number.filter(|number| range.contains(number)).ok_or_else(|| {
            let (least, most) = (range.start(), range.end());
            self.bad(index, what, format!("whole number from {least} to {most}"))
        })
    }

    /// A port, as a number or as a string.
    pub(super) fn port(&self, index: usize) -> Result<u16> {
        let port = self.whole(index, "port", 1..=u32::from(u16::MAX))?;
        u16::try_from(port).map_err(|_| self.bad(index, "port", "port"))
    }

    /// A pool that the set references.
    pub(super) fn pool(&self, index: usize) -> Result<Rc<PoolNames>> {
        let name = self.string(index, "pool")?;
        let known = name.to_str().ok().and_then(|name| self.run.names.pool(&name).cloned());
        known.ok_or_else(|| {
            let (set, name) = (&self.run.names.set, name.display());
            self.error(format!("set \"{set}\" references no pool \"{name}\""))
        })
    }

    /// The line of the script that makes this call, also by way of a protocol parser.
    pub(super) fn place(&self) -> Place {
        self.run.place(errors::line(self.lua, &self.run.script))
    }

    /// A single result.
    pub(super) fn reply(&self, value: impl IntoLua) -> Result<MultiValue> {
        Ok(MultiValue::from_iter([value.into_lua(self.lua)?]))
    }

    /// Two results.
    pub(super) fn reply_two(&self, one: impl IntoLua, two: impl IntoLua) -> Result<MultiValue> {
        let (one, two) = (one.into_lua(self.lua)?, two.into_lua(self.lua)?);
        Ok(MultiValue::from_iter([one, two]))
    }
}

/// No result.
pub(super) fn nothing() -> Result<MultiValue> {
    Ok(MultiValue::new())
}
