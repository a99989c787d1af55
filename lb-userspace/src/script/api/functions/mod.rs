//! What functions there are: names, events, arguments, and what authors of scripts read of them.
//!
//! [`GROUPS`] is the one place that says so. From it the functions are made that scripts call, the
//! reference is printed (docs/datascript.md), and the tests know what to throw at each.

mod avi;
mod lua;

use super::{
    call::{Answer, Call},
    l4,
};
use crate::script::Event;

/// Functions that belong together.
pub(in crate::script) struct Group {
    /// The reference's heading; empty for what is not in it.
    pub(in crate::script) title: &'static str,
    /// What the reference says of all of them.
    pub(in crate::script) about: &'static str,
    pub(in crate::script) functions: &'static [Function],
}

/// Every function, in the reference's order. Those of the last group are the prelude's own.
pub(in crate::script) const GROUPS: &[Group] = &[
    Group { title: "avi.l4", about: avi::ABOUT_L4, functions: avi::L4 },
    Group { title: "avi.vs", about: avi::ABOUT_VS, functions: avi::VS },
    Group { title: "avi.vs: tables", about: avi::ABOUT_TABLES, functions: avi::TABLES },
    Group { title: "avi.pool and avi.poolgroup", about: avi::ABOUT_POOL, functions: avi::POOL },
    Group { title: "Lua's own, where they differ", about: lua::ABOUT, functions: lua::STANDARD },
    Group { title: "", about: "", functions: lua::HOST },
];

/// All of them.
pub(in crate::script) fn functions() -> impl Iterator<Item = &'static Function> {
    GROUPS.iter().flat_map(|group| group.functions)
}

/// A function of the API.
pub(in crate::script) struct Function {
    /// As scripts write it, dots and all.
    pub(in crate::script) name: &'static str,
    /// Where it may be called.
    pub(in crate::script) events: &'static [Event],
    /// The same, a bit for each.
    allowed: u8,
    pub(in crate::script) parameters: &'static [Parameter],
    /// Whether the last parameter stands for any number of arguments.
    pub(in crate::script) variadic: bool,
    /// Arguments that it needs.
    least: usize,
    /// What comes back; empty for nothing.
    pub(in crate::script) returns: &'static str,
    /// What it does.
    pub(in crate::script) about: &'static str,
    /// When it fails, apart from arguments of the wrong type, which all refuse.
    pub(in crate::script) fails: &'static str,
    /// Lua, where an example says more.
    pub(in crate::script) example: &'static str,
    pub(super) call: fn(&mut Call<'_>) -> Answer,
}

/// An argument of a function.
pub(in crate::script) struct Parameter {
    /// As signatures and errors name it.
    pub(in crate::script) name: &'static str,
    pub(in crate::script) kind: Kind,
    /// An optional one that is followed by others, as `[table,] key`, is there when the function
    /// says so by the number and types of the arguments.
    pub(in crate::script) optional: bool,
}

/// What an argument may be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::script) enum Kind {
    /// A string; a number is taken as its text.
    Text,
    /// A number, or a string that is one.
    Number,
    /// A whole number in a range, or a string that is one.
    Whole(u32, u32),
    /// `true` or `false`.
    Boolean,
    /// What a table stores: a string or a number.
    Value,
    /// What a log takes: a string, number, boolean or nil.
    Loggable,
    /// The name of a pool that the set references.
    Pool,
    /// A server's address.
    Server,
    /// The name of a pool group that the set references.
    PoolGroup,
    /// The name of a protocol parser that the set references.
    Parser,
    /// A table as `os.date("*t")` makes it.
    Time,
    /// Anything: `false` and nil are no, all else is yes.
    Truth,
}

impl Kind {
    /// A transport port.
    const PORT: Self = Self::Whole(1, 65_535);
    /// Seconds of a lifetime that is being set.
    const LIFETIME: Self = Self::Whole(1, u32::MAX);
    /// Seconds by which a lifetime is extended.
    const EXTENSION: Self = Self::Whole(0, u32::MAX);
    /// Bytes of the payload: Avi's own limit.
    const BYTES: Self = Self::Whole(0, l4::MOST);
}

const REQUEST: &[Event] = &[Event::L4Request];
const RESPONSE: &[Event] = &[Event::L4Response];
const ANY: &[Event] = &Event::ALL;

const fn required(name: &'static str, kind: Kind) -> Parameter {
    Parameter { name, kind, optional: false }
}

const fn optional(name: &'static str, kind: Kind) -> Parameter {
    Parameter { name, kind, optional: true }
}

const fn function(
    name: &'static str,
    events: &'static [Event],
    call: fn(&mut Call<'_>) -> Answer,
) -> Function {
    Function {
        name,
        events,
        allowed: bits(events),
        parameters: &[],
        variadic: false,
        least: 0,
        returns: "",
        about: "",
        fails: "",
        example: "",
        call,
    }
}

/// One bit for each event.
const fn bits(events: &[Event]) -> u8 {
    let (mut bits, mut index) = (0, 0);
    while index < events.len() {
        bits |= 1 << events[index] as u8;
        index += 1;
    }
    bits
}

/// How many of these are not optional.
const fn required_of(parameters: &[Parameter]) -> usize {
    let (mut required, mut index) = (0, 0);
    while index < parameters.len() {
        required += !parameters[index].optional as usize;
        index += 1;
    }
    required
}

impl Function {
    const fn takes(self, parameters: &'static [Parameter]) -> Self {
        Self { parameters, least: required_of(parameters), ..self }
    }

    const fn takes_any_number_of(self, parameters: &'static [Parameter]) -> Self {
        Self { parameters, variadic: true, ..self }
    }

    const fn returns(self, returns: &'static str) -> Self {
        Self { returns, ..self }
    }

    const fn about(self, about: &'static str) -> Self {
        Self { about, ..self }
    }

    const fn fails(self, fails: &'static str) -> Self {
        Self { fails, ..self }
    }

    const fn example(self, example: &'static str) -> Self {
        Self { example, ..self }
    }

    /// Whether it may be called in an event.
    pub(super) fn is_allowed_in(&self, event: Event) -> bool {
        self.allowed & 1 << event as u8 != 0
    }

    /// Whether it takes this many arguments.
    pub(super) fn takes_count(&self, count: usize) -> bool {
        (self.least..=self.most()).contains(&count)
    }

    fn most(&self) -> usize {
        if self.variadic { usize::MAX } else { self.parameters.len() }
    }

    /// What is wrong with a number of arguments.
    pub(in crate::script) fn arity(&self, got: usize) -> String {
        let expected = match (self.least, self.most()) {
            (0, 0) => "no arguments".to_owned(),
            (1, 1) => "1 argument".to_owned(),
            (least, most) if least == most => format!("{least} arguments"),
            (least, most) => format!("{least} to {most} arguments"),
        };
        format!("{expected} expected, got {got}")
    }

    /// As scripts write a call: `avi.vs.table_lookup([table,] key [, lifetime])`.
    pub(in crate::script) fn signature(&self) -> String {
        if self.variadic {
            return format!("{}(...)", self.name);
        }
        let (mut text, mut closing) = (String::new(), 0);
        for (index, parameter) in self.parameters.iter().enumerate() {
            let name = parameter.name.replace(' ', "_");
            let leads = self.parameters[index + 1..].iter().any(|later| !later.optional);
            text += &match (parameter.optional, leads, text.is_empty() || text.ends_with(' ')) {
                (true, true, _) => format!("[{name},] "),
                (true, false, true) => format!("[{name}"),
                (true, false, false) => format!(" [, {name}"),
                (false, _, true) => name,
                (false, _, false) => format!(", {name}"),
            };
            closing += usize::from(parameter.optional && !leads);
        }
        format!("{}({text}{})", self.name, "]".repeat(closing))
    }
}
