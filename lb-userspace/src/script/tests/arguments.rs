//! Every function of the table with everything that an argument can be.

use super::*;
use crate::script::api::functions::{Function, Kind, functions};

/// What is passed: its source, and what kind of thing it is.
struct Sample(&'static str, Is);

#[derive(Clone, Copy, PartialEq, Debug)]
enum Is {
    Nil,
    Boolean,
    Number(f64),
    /// What number the string is, if it is one.
    Text(Option<f64>),
    Table,
    /// Function, userdata: what no function takes.
    Other,
}

const SAMPLES: &[Sample] = &[
    Sample("nil", Is::Nil),
    Sample("true", Is::Boolean),
    Sample("false", Is::Boolean),
    Sample("{}", Is::Table),
    Sample("setmetatable({}, {__index = error, __tostring = error})", Is::Table),
    Sample("function() end", Is::Other),
    Sample("avi", Is::Other),
    Sample("pcall", Is::Other),
    Sample("0", Is::Number(0.0)),
    Sample("7", Is::Number(7.0)),
    Sample("-1", Is::Number(-1.0)),
    Sample("1.5", Is::Number(1.5)),
    Sample("65536", Is::Number(65536.0)),
    Sample("2^53", Is::Number(9007199254740992.0)),
    Sample("1e300", Is::Number(1e300)),
    Sample("1/0", Is::Number(f64::INFINITY)),
    Sample("-1/0", Is::Number(f64::NEG_INFINITY)),
    Sample("0/0", Is::Number(f64::NAN)),
    Sample("''", Is::Text(None)),
    Sample("'nope'", Is::Text(None)),
    Sample("'7'", Is::Text(Some(7.0))),
    Sample("'1.5'", Is::Text(Some(1.5))),
    Sample("'\\0\\255%\\n'", Is::Text(None)),
    Sample("('x'):rep(65536)", Is::Text(None)),
    Sample("('\\255'):rep(65536)", Is::Text(None)),
];

impl Kind {
    /// What an error says is expected.
    fn expected(self) -> String {
        match self {
            Self::Text | Self::Pool | Self::Server | Self::PoolGroup | Self::Parser => {
                "string".to_owned()
            }
            Self::Number => "number".to_owned(),
            Self::Whole(least, most) => format!("whole number from {least} to {most}"),
            Self::Boolean => "boolean".to_owned(),
            Self::Value => "string or number".to_owned(),
            Self::Loggable => "string, number, boolean or nil".to_owned(),
            Self::Time => "table".to_owned(),
            Self::Truth => "any value".to_owned(),
        }
    }

    /// Whether a thing is of this kind, whatever it says.
    fn takes(self, is: Is) -> bool {
        match (self, is) {
            (Self::Truth, _)
            | (Self::Loggable, Is::Nil | Is::Boolean)
            | (Self::Boolean, Is::Boolean)
            | (Self::Number, Is::Number(_) | Is::Text(Some(_))) => true,
            (Self::Time, is) => is == Is::Table,
            (Self::Whole(least, most), Is::Number(number) | Is::Text(Some(number))) => {
                number.fract() == 0.0 && (f64::from(least)..=f64::from(most)).contains(&number)
            }
            (Self::Whole(..) | Self::Number | Self::Boolean, _) => false,
            (_, Is::Number(_) | Is::Text(_)) => true,
            _ => false,
        }
    }

    /// One that every function takes.
    fn good(self) -> &'static str {
        match self {
            Self::Text | Self::Value | Self::Loggable => "'text'",
            Self::Number | Self::Whole(..) => "1",
            Self::Boolean | Self::Truth => "true",
            Self::Pool => "'web'",
            Self::Server => "'10.0.0.11'",
            Self::PoolGroup | Self::Parser => "'some'",
            Self::Time => "{year = 2000, month = 1, day = 1}",
        }
    }
}

/// A bench for each event: a state is kept from call to call.
struct Benches([Bench; 2]);

impl Benches {
    fn new() -> Self {
        Self([Bench::new(&[]), Bench::response("")])
    }

    fn run(&mut self, event: Event, source: &str) -> Outcome {
        let [request, response] = &mut self.0;
        let (bench, config) = match event {
            Event::L4Request => (request, config(&[source], None)),
            Event::L4Response => (response, config(&[], Some(source))),
        };
        bench.config = Arc::new(config);
        bench.runtime.load(&bench.config).unwrap();
        bench.run()
    }

    /// Calls a function in an event where it is allowed; what it says against it.
    fn call(&mut self, function: &Function, arguments: &[&str]) -> Option<String> {
        let source = format!("{}({})", function.name, arguments.join(", "));
        self.run(function.events[0], &source).failure.map(|failure| failure.message)
    }
}

fn good(function: &Function) -> Vec<&'static str> {
    function.parameters.iter().map(|parameter| parameter.kind.good()).collect()
}

fn scripts_see() -> impl Iterator<Item = &'static Function> {
    functions().filter(|function| !function.name.starts_with("host."))
}

#[test]
fn arguments_of_every_kind_are_taken_or_refused_by_name() {
    let mut benches = Benches::new();
    for function in scripts_see() {
        for (index, parameter) in function.parameters.iter().enumerate() {
            for Sample(sample, is) in SAMPLES {
                let mut arguments = good(function);
                arguments[index] = sample;
                let message = benches.call(function, &arguments);
                let what = format!("{}({}): {message:?}", function.name, arguments.join(", "));
                assert!(what.chars().count() < 500, "nobody reads that in a log: {what}");
                // `f([table,] key)`: what is nil at the end makes it the shorter form.
                let shortens = index + 1 == arguments.len() && function.parameters[0].optional;
                let may_be_left_out = *is == Is::Nil && (parameter.optional || shortens);
                if parameter.kind.takes(*is) || may_be_left_out {
                    let named =
                        |message: &String| message.starts_with(&format!("{}: ", function.name));
                    assert!(message.as_ref().is_none_or(named), "{what}");
                } else {
                    let message = message.unwrap_or_else(|| panic!("{what}"));
                    assert_refused(function, index, *is, &message);
                }
            }
        }
    }
}

/// nil at the end is no argument; everything else is told by number, name and what was expected.
fn assert_refused(function: &Function, index: usize, is: Is, message: &str) {
    let Function { name, parameters, .. } = function;
    let last = parameters[index + 1..].is_empty();
    if is == Is::Nil && last && message == format!("{name}: {}", function.arity(index)) {
        return;
    }
    let (number, what) = (index + 1, parameters[index].name);
    let expected = parameters[index].kind.expected();
    let begins = format!("{name}: bad argument #{number} ({what}): {expected} expected, got ");
    assert!(message.starts_with(&begins), "{message}\nshould begin with\n{begins}");
}

#[test]
fn wrong_counts_are_refused_by_name() {
    let mut benches = Benches::new();
    for function in scripts_see().filter(|function| !function.variadic) {
        let all = good(function);
        let least = function.parameters.iter().filter(|parameter| !parameter.optional).count();
        let more = [all.clone(), vec!["1"]].concat();
        let fewer = least.checked_sub(1).map(|fewer| all[..fewer].to_vec());
        for arguments in fewer.into_iter().chain([more]) {
            let message = benches.call(function, &arguments).expect(function.name);
            assert_eq!(message, format!("{}: {}", function.name, function.arity(arguments.len())));
        }
    }
}

#[test]
fn calls_in_another_event_are_refused_by_name() {
    let mut benches = Benches::new();
    for function in scripts_see() {
        let source = format!("{}({})", function.name, good(function).join(", "));
        for event in Event::ALL {
            let refusal = format!("{}: not allowed in {}", function.name, event.name());
            let message = benches.run(event, &source).failure.map(|failure| failure.message);
            assert_eq!(message == Some(refusal), !function.events.contains(&event), "{message:?}");
        }
    }
}
