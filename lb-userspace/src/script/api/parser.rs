//! `require`: of protocol parsers, and of nothing else.

use super::call::{Answer, Call};
use crate::{
    config::{ParserIndex, ParserReference},
    script::{
        errors::{self, Raise},
        parsers::Found,
        vm::{Argument, Nil},
    },
};

/// `(name)`: the module; or, if it is still to be made, nil and the function that makes it. The
/// prelude calls that, for none of ours can: it would hold the run while the parser needs it.
pub(super) fn require(call: &mut Call<'_>) -> Answer {
    let name = call.string(0, "protocol parser")?;
    match reference(call, &name)? {
        ParserReference::BuiltIn(parser) => match call.context.parsers.borrow().built_in(parser) {
            Some(module) => call.reply(module),
            None => call.reply(Nil),
        },
        ParserReference::Configured(index) => configured(call, &name, index),
    }
}

fn reference(call: &Call<'_>, name: &[u8]) -> Result<ParserReference, Raise> {
    let names = &call.run.names;
    let known = str::from_utf8(name).ok().and_then(|name| names.parser(name));
    known.ok_or_else(|| {
        let (set, name, known) = (&names.set, String::from_utf8_lossy(name), names.parsers());
        call.error(format!(
            "set \"{set}\" references no protocol parser \"{name}\"; it references {known}"
        ))
    })
}

fn configured(call: &mut Call<'_>, name: &[u8], index: ParserIndex) -> Answer {
    match call.run.modules.find(index) {
        Found::Module(module) => return call.reply(module),
        Found::Unfinished => {
            return Err(call.error(format!(
                "protocol parser \"{}\" has begun to run and has not returned: it requires \
                 itself, perhaps by way of another, or has failed before",
                String::from_utf8_lossy(name)
            )));
        }
        Found::Nothing => {}
    }
    call.reply(Nil)?;
    match call.context.parsers.borrow().configured(index) {
        Some(chunk) => {
            call.run.modules.start(index, chunk, &call.context.vm);
            call.reply(&chunk.function)
        }
        None => call.reply(Nil),
    }
}

/// `(name, module)`: what a parser's file has returned, kept until the run ends.
pub(super) fn keep(call: &mut Call<'_>) -> Answer {
    let name = call.string(0, "protocol parser")?;
    let ParserReference::Configured(index) = reference(call, &name)? else {
        return Ok(());
    };
    let got = match call.get(1) {
        Argument::Table => {
            let module = call.stack.anchor(&call.context.vm, 1);
            call.run.modules.finish(index, module);
            return Ok(());
        }
        Argument::Missing | Argument::Nil => "nil",
        Argument::Boolean(_) => "boolean",
        Argument::Number(_) => "number",
        Argument::Text(_) => "string",
        Argument::Other(kind) => kind,
    };
    Err(no_module(call, &name, index, got))
}

fn no_module(call: &Call<'_>, name: &[u8], index: ParserIndex, got: &str) -> Raise {
    let config = call.context.config.borrow();
    let parser = config.as_ref().and_then(|config| config.protocol_parsers.get(index.0));
    let file = parser.map(|parser| parser.script.path.display().to_string());
    let message = format!(
        "require: protocol parser \"{}\" must return a table of its functions, and {} returned {got}",
        String::from_utf8_lossy(name),
        file.unwrap_or_default()
    );
    Raise::Error(errors::positioned(&call.context.vm, &message))
}
