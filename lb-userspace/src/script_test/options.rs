//! Tables of options, as `lb:flow { … }` takes one: a misspelt key is an error.

use mlua::Value;

use super::failure::Told;
use crate::config::nearest;

/// What a function was given, by name.
pub(super) struct Options {
    /// The function's name.
    of: &'static str,
    values: Vec<(&'static str, Value)>,
}

impl Options {
    /// Takes a table apart; no table is one without keys.
    pub fn new(of: &'static str, given: &Value, known: &[&'static str]) -> Told<Self> {
        let mut values = Vec::new();
        match given {
            Value::Nil => {}
            Value::Table(table) => {
                for pair in table.pairs::<Value, Value>() {
                    let (key, value) = pair.map_err(|error| error.to_string())?;
                    values.push((known_key(of, &key, known)?, value));
                }
            }
            other => return Err(format!("{of} takes a table of options, not {}", a(other))),
        }
        Ok(Self { of, values })
    }

    /// Bytes.
    pub fn bytes(&self, key: &str) -> Told<Option<Vec<u8>>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.as_bytes().to_vec())),
            Some(other) => Err(self.wrong(key, "a string", other)),
        }
    }

    /// Bytes in one piece or in several: a string, or a list of such.
    pub fn pieces(&self, key: &str) -> Told<Vec<Vec<u8>>> {
        let wrong = |value: &Value| self.wrong(key, "a string or a list of strings", value);
        let list = match self.get(key) {
            None => return Ok(Vec::new()),
            Some(Value::String(text)) => return Ok(vec![text.as_bytes().to_vec()]),
            Some(Value::Table(list)) => list,
            Some(other) => return Err(wrong(other)),
        };
        let pieces = list.sequence_values::<Value>().map(|piece| match piece {
            Ok(Value::String(text)) => Ok(text.as_bytes().to_vec()),
            Ok(other) => Err(wrong(&other)),
            Err(error) => Err(error.to_string()),
        });
        let pieces = pieces.collect::<Told<Vec<_>>>()?;
        if pieces.len() == list.pairs::<Value, Value>().count() {
            return Ok(pieces);
        }
        Err(wrong(&Value::Table(list.clone())))
    }

    /// Text.
    pub fn text(&self, key: &str) -> Told<Option<String>> {
        let bytes = self.bytes(key)?;
        Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// Text that has to be there.
    pub fn required(&self, key: &str, example: &str) -> Told<Vec<u8>> {
        self.bytes(key)?.ok_or_else(|| format!("{} needs `{key}`, such as {example}", self.of))
    }

    /// A number, not negative.
    pub fn number(&self, key: &str) -> Told<Option<f64>> {
        match self.get(key) {
            None => Ok(None),
            Some(value) => match number(value) {
                Some(number) if number >= 0.0 => Ok(Some(number)),
                _ => Err(self.wrong(key, "a number that is not negative", value)),
            },
        }
    }

    /// The value itself.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.values.iter().find(|(known, _)| *known == key).map(|(_, value)| value)
    }

    /// That a value is not what it must be.
    pub fn wrong(&self, key: &str, expected: &str, value: &Value) -> String {
        format!("{}: `{key}` must be {expected}, not {}", self.of, a(value))
    }
}

/// A finite number.
pub(super) fn number(value: &Value) -> Option<f64> {
    let number = match value {
        Value::Integer(number) => *number as f64,
        Value::Number(number) => *number,
        _ => return None,
    };
    number.is_finite().then_some(number)
}

/// A value in an error: scalars themselves, others by their type.
fn a(value: &Value) -> String {
    match value {
        Value::String(text) => format!("{:?}", text.to_string_lossy()),
        Value::Integer(number) => number.to_string(),
        Value::Number(number) => number.to_string(),
        Value::Boolean(boolean) => boolean.to_string(),
        Value::Nil => "nil".to_owned(),
        other => format!("a {}", other.type_name()),
    }
}

fn known_key(of: &str, key: &Value, known: &[&'static str]) -> Told<&'static str> {
    let Value::String(text) = key else {
        return Err(format!("{of} takes options by name: {}", known.join(", ")));
    };
    let text = text.to_string_lossy();
    let found = known.iter().find(|known| **known == text);
    found.copied().ok_or_else(|| match nearest(&text, known.iter().copied()) {
        Some(nearest) => format!("{of} has no option `{text}`; did you mean `{nearest}`?"),
        None => format!("{of} has no option `{text}`; there are {}", known.join(", ")),
    })
}
