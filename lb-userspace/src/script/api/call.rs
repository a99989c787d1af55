//! One call of a function: its arguments, and what it may act on.

use std::{fmt::Display, ops::RangeInclusive, rc::Rc};

use crate::script::{
    Place,
    context::{Context, Run},
    errors::{self, Raise},
    names::PoolNames,
    vm::{Argument, Push, Stack, Text},
};

/// Characters of a message, at most.
const LONGEST: usize = 300;

/// How a call ends. What it answers it has pushed by then.
pub(super) type Answer = Result<(), Raise>;

pub(super) struct Call<'a> {
    pub(super) stack: Stack<'a>,
    pub(super) context: &'a Context,
    pub(super) run: &'a mut Run,
    pub(super) name: &'static str,
    /// Arguments, not counting nils at the end: `f(a, nil)` is `f(a)`.
    pub(super) count: usize,
}

impl<'a> Call<'a> {
    /// An argument as it is.
    pub(super) fn get(&self, index: usize) -> Argument<'a> {
        self.stack.get(index)
    }

    /// Whether an argument is a number, not a string that looks like one.
    pub(super) fn is_number(&self, index: usize) -> bool {
        matches!(self.get(index), Argument::Number(_))
    }

    /// An error of this function, at the script's line.
    pub(super) fn error(&self, message: impl Display) -> Raise {
        // A script's strings are in many of them, of any length.
        let message = format!("{}: {message}", self.name);
        let message = errors::shortened(&message, LONGEST);
        Raise::Error(errors::positioned(&self.context.vm, &message))
    }

    /// An argument that is not what it should be.
    pub(super) fn bad(&self, index: usize, what: &str, expected: impl Display) -> Raise {
        let got = match self.get(index) {
            Argument::Missing => "nothing".to_owned(),
            Argument::Nil => "nil".to_owned(),
            Argument::Boolean(_) => "boolean".to_owned(),
            Argument::Text(text) => format!("\"{}\"", String::from_utf8_lossy(text)),
            Argument::Number(number) => number.to_string(),
            Argument::Table => "table".to_owned(),
            Argument::Other(kind) => kind.to_owned(),
        };
        let number = index + 1;
        self.error(format!("bad argument #{number} ({what}): {expected} expected, got {got}"))
    }

    /// A string, or a number as Lua writes it.
    pub(super) fn string(&self, index: usize, what: &str) -> Result<Text<'a>, Raise> {
        match self.get(index) {
            Argument::Text(text) => Ok(Text::Own(text)),
            Argument::Number(number) => Ok(Text::of_number(number)),
            _ => Err(self.bad(index, what, "string")),
        }
    }

    /// A number, or a string that is one.
    pub(super) fn number(&self, index: usize, what: &str) -> Result<f64, Raise> {
        self.stack.number(index).ok_or_else(|| self.bad(index, what, "number"))
    }

    /// A whole number in a range, or a string that is one.
    pub(super) fn whole(
        &self,
        index: usize,
        what: &str,
        range: RangeInclusive<u32>,
    ) -> Result<u32, Raise> {
        let number = match self.get(index) {
            Argument::Number(number) => exact(number),
            Argument::Text(text) => str::from_utf8(text).ok().and_then(|text| text.parse().ok()),
            _ => None,
        };
        number.filter(|number| range.contains(number)).ok_or_else(|| {
            let (least, most) = (range.start(), range.end());
            self.bad(index, what, format!("whole number from {least} to {most}"))
        })
    }

    /// A port, as a number or as a string.
    pub(super) fn port(&self, index: usize) -> Result<u16, Raise> {
        let port = self.whole(index, "port", 1..=u32::from(u16::MAX))?;
        u16::try_from(port).map_err(|_| self.bad(index, "port", "port"))
    }

    /// A pool that the set references.
    pub(super) fn pool(&self, index: usize) -> Result<Rc<PoolNames>, Raise> {
        let name = self.string(index, "pool")?;
        let known = self.run.names.pool(&name).cloned();
        known.ok_or_else(|| {
            let (set, name) = (&self.run.names.set, String::from_utf8_lossy(&name));
            self.error(format!("set \"{set}\" references no pool \"{name}\""))
        })
    }

    /// The line of the script that makes this call, also by way of a protocol parser.
    pub(super) fn place(&self) -> Place {
        let line = errors::line(&self.context.vm, &self.run.script, self.run.modules.script());
        self.run.place(line)
    }

    /// Takes steps that Lua does not count off the budget.
    pub(super) fn charge(&self, steps: u64) -> Answer {
        self.context.meter.charge(&self.context.vm, steps)
    }

    /// An error if the run may not take so much memory. What makes a large result, or one a piece at
    /// a time, asks this first: within a function of ours no limit holds.
    pub(super) fn room_for(&self, bytes: usize) -> Answer {
        match self.context.meter.has_room(&self.context.vm, bytes) {
            true => Ok(()),
            false => Err(Raise::Memory),
        }
    }

    /// A result.
    pub(super) fn reply(&self, value: impl Push) -> Answer {
        value.push(&self.stack);
        Ok(())
    }

    /// Two results.
    pub(super) fn reply_two(&self, one: impl Push, two: impl Push) -> Answer {
        one.push(&self.stack);
        two.push(&self.stack);
        Ok(())
    }
}

/// A number that is whole and not negative.
fn exact(number: f64) -> Option<u32> {
    let whole = number as u32;
    (f64::from(whole) == number).then_some(whole)
}
