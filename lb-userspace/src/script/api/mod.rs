//! The functions that scripts call.
//!
//! [`functions::GROUPS`] says what there is; the other modules are what they do.

mod call;
pub(super) mod functions;
mod l4;
mod library;
mod math;
mod parser;
mod pool;
mod table;
mod text;
mod time;
mod vs;

use std::rc::Rc;

use mlua::{Lua, MultiValue, Result, Value};

use super::{context::Context, errors};
use call::Call;
use functions::Function;

impl Function {
    /// The function as Lua calls it.
    pub(super) fn create(
        &'static self,
        lua: &Lua,
        context: &Rc<Context>,
    ) -> Result<mlua::Function> {
        let context = Rc::clone(context);
        lua.create_function(move |lua, arguments: MultiValue| self.run(lua, &context, &arguments))
    }

    fn run(&self, lua: &Lua, context: &Rc<Context>, arguments: &MultiValue) -> Result<MultiValue> {
        let Ok(mut run) = context.run.try_borrow_mut() else {
            return Err(mlua::Error::RecursiveMutCallback);
        };
        let mut call = Call { lua, context, run: &mut run, name: self.name, arguments };
        if !self.events.contains(&call.run.event) {
            return Err(call.error(format!("not allowed in {}", call.run.event.name())));
        }
        if !self.takes_count(call.count()) && !self.takes_count(arguments.len()) {
            return Err(call.error(self.arity(call.count())));
        }
        (self.call)(&mut call)
    }
}

/// Makes what `pcall` has caught into what a script may see: the message of one of our errors, or
/// whatever it was. When the run has ended it is raised again, so that every `pcall` unwinds.
pub(super) fn settle(lua: &Lua, context: &Rc<Context>, caught: Value) -> Result<Value> {
    if context.stopped() {
        return Err(mlua::Error::RuntimeError("the run has ended".to_owned()));
    }
    match caught {
        Value::Error(error) => lua.create_string(errors::explain(&error).0).map(Value::String),
        Value::String(text) if text.as_bytes().starts_with(errors::PRELUDE.as_bytes()) => {
            let text = text.to_string_lossy();
            lua.create_string(errors::without_ours(&text)).map(Value::String)
        }
        other => Ok(other),
    }
}
