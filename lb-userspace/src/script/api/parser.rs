//! `require`: of protocol parsers, and of nothing else.

use mlua::{Error, LuaString, MultiValue, Result, Value};

use super::call::{Call, nothing};
use crate::{
    config::{ParserIndex, ParserReference},
    script::{errors, parsers::Found},
};

/// `(name)`: the module; or, if it is still to be made, nil and the function that makes it. The
/// prelude calls that, for none of ours can: it would hold the run while the parser needs it.
pub(super) fn require(call: &mut Call<'_>) -> Result<MultiValue> {
    let name = call.string(0, "protocol parser")?;
    match reference(call, &name)? {
        ParserReference::BuiltIn(parser) => {
            let module = call.context.parsers.borrow().built_in(parser);
            call.reply(module)
        }
        ParserReference::Configured(index) => configured(call, &name, index),
    }
}

fn reference(call: &Call<'_>, name: &LuaString) -> Result<ParserReference> {
    let names = &call.run.names;
    let known = name.to_str().ok().and_then(|name| names.parser(&name));
    known.ok_or_else(|| {
        let (set, name, known) = (&names.set, name.display(), names.parsers());
        call.error(format!(
            "set \"{set}\" references no protocol parser \"{name}\"; it references {known}"
        ))
    })
}

fn configured(call: &mut Call<'_>, name: &LuaString, index: ParserIndex) -> Result<MultiValue> {
    match call.run.modules.find(index) {
        Found::Module(module) => call.reply(module),
        Found::Unfinished => Err(call.error(format!(
            "protocol parser \"{}\" has begun to run and has not returned: it requires itself, \
             perhaps by way of another, or has failed before",
            name.display()
        ))),
        Found::Nothing => {
            let chunk = call.context.parsers.borrow().configured(index).cloned();
            if let Some(chunk) = &chunk {
                call.run.modules.start(index, chunk)?;
            }
            call.reply_two(Value::Nil, chunk)
        }
    }
}

/// `(name, module)`: what a parser's file has returned, kept until the run ends.
pub(super) fn keep(call: &mut Call<'_>) -> Result<MultiValue> {
    let name = call.string(0, "protocol parser")?;
    let ParserReference::Configured(index) = reference(call, &name)? else {
        return nothing();
    };
    match call.arguments.get(1) {
        Some(Value::Table(module)) => {
            call.run.modules.finish(index, module);
            nothing()
        }
        Some(Value::Integer(_)) => Err(no_module(call, &name, index, "number")),
        other => Err(no_module(call, &name, index, other.map_or("nil", Value::type_name))),
    }
}

fn no_module(call: &Call<'_>, name: &LuaString, index: ParserIndex, got: &str) -> Error {
    let config = call.context.config.borrow();
    let parser = config.as_ref().and_then(|config| config.protocol_parsers.get(index.0));
    let file = parser.map(|parser| parser.script.path.display().to_string());
    let message = format!(
        "require: protocol parser \"{}\" must return a table of its functions, and {} returned {got}",
        name.display(),
        file.unwrap_or_default()
    );
    Error::RuntimeError(errors::positioned(call.lua, &message))
}
