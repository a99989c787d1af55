//! The functions that scripts call.
//!
//! [`FUNCTIONS`] is the one place that says what there is, in which events, and with how many
//! arguments; a new event is a new list in here.

mod call;
mod l4;
mod library;
mod math;
mod parser;
mod pool;
mod table;
mod text;
mod time;
mod vs;

use std::{ops::RangeInclusive, rc::Rc};

use mlua::{Lua, MultiValue, Result, Value};

use super::{Event, context::Context, errors};
use call::Call;

/// A function of the API.
pub(super) struct Function {
    /// As scripts write it, dots and all.
    pub(super) name: &'static str,
    /// Where it may be called.
    events: &'static [Event],
    /// How many arguments it takes.
    arguments: RangeInclusive<usize>,
    call: fn(&mut Call<'_>) -> Result<MultiValue>,
}

const REQUEST: &[Event] = &[Event::L4Request];
const RESPONSE: &[Event] = &[Event::L4Response];
const ANY: &[Event] = &Event::ALL;

/// As many arguments as the author likes.
const MANY: usize = usize::MAX;

/// Every function of the API.
#[rustfmt::skip]
pub(super) const FUNCTIONS: &[Function] = &[
    function("avi.l4.read",                ANY,      0..=1,    l4::read),
    function("avi.l4.collect",             ANY,      1..=1,    l4::collect),
    function("avi.l4.ds_done",             ANY,      0..=0,    l4::ds_done),
    function("avi.vs.ds_done",             REQUEST,  0..=0,    l4::ds_done),
    function("avi.vs.log",                 ANY,      0..=MANY, vs::log),
    function("avi.vs.close_conn",          REQUEST,  0..=1,    vs::close_conn),
    function("avi.vs.client_ip",           REQUEST,  0..=0,    vs::client_ip),
    function("avi.vs.client_port",         REQUEST,  0..=0,    vs::client_port),
    function("avi.vs.ip",                  REQUEST,  0..=0,    vs::ip),
    function("avi.vs.port",                REQUEST,  0..=0,    vs::port),
    function("avi.vs.name",                REQUEST,  0..=0,    vs::name),
    function("avi.vs.persist",             REQUEST,  1..=3,    vs::persist),
    function("avi.vs.table_insert",        ANY,      2..=4,    table::insert),
    function("avi.vs.table_lookup",        ANY,      1..=3,    table::lookup),
    function("avi.vs.table_refresh",       ANY,      1..=3,    table::refresh),
    function("avi.vs.table_remove",        ANY,      1..=2,    table::remove),
    function("avi.pool.select",            REQUEST,  1..=3,    pool::select),
    function("avi.pool.get_server_status", REQUEST,  3..=3,    pool::get_server_status),
    function("avi.pool.get_servers",       REQUEST,  0..=1,    pool::get_servers),
    function("avi.pool.chash",             REQUEST,  1..=1,    pool::chash),
    function("avi.pool.server_ip",         RESPONSE, 0..=0,    pool::server_ip),
    function("avi.pool.get_server_ip",     RESPONSE, 0..=0,    pool::server_ip),
    function("avi.pool.get_server_info",   RESPONSE, 0..=0,    pool::get_server_info),
    function("avi.poolgroup.select",       REQUEST,  1..=1,    pool::select_group),
    function("require",                    ANY,      1..=1,    parser::require),
    function("string.beginswith",          ANY,      2..=2,    text::beginswith),
    function("string.endswith",            ANY,      2..=2,    text::endswith),
    function("string.contains",            ANY,      2..=2,    text::contains),
    function("string.split",               ANY,      2..=2,    text::split),
    function("string.rep",                 ANY,      2..=2,    text::rep),
    function("string.find",                ANY,      2..=4,    text::find),
    function("string.match",               ANY,      2..=3,    text::match_),
    function("host.scan",                  ANY,      3..=3,    text::scan),
    function("host.keep",                  ANY,      1..=2,    parser::keep),
    function("host.charge",                ANY,      1..=1,    library::charge),
    function("math.random",                ANY,      0..=2,    math::random),
    function("math.randomseed",            ANY,      1..=1,    math::randomseed),
    function("os.time",                    ANY,      0..=1,    time::time),
    function("os.date",                    ANY,      0..=2,    time::date),
    function("os.clock",                   ANY,      0..=0,    time::clock),
];

const fn function(
    name: &'static str,
    events: &'static [Event],
    arguments: RangeInclusive<usize>,
    call: fn(&mut Call<'_>) -> Result<MultiValue>,
) -> Function {
    Function { name, events, arguments, call }
}

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
        if !self.arguments.contains(&call.count()) && !self.arguments.contains(&arguments.len()) {
            return Err(call.error(self.arity(call.count())));
        }
        (self.call)(&mut call)
    }

    fn arity(&self, got: usize) -> String {
        let (least, most) = (self.arguments.start(), self.arguments.end());
        let expected = match (*least, *most) {
            (0, 0) => "no arguments".to_owned(),
            (1, 1) => "1 argument".to_owned(),
            (least, most) if least == most => format!("{least} arguments"),
            (least, MANY) => format!("at least {least} arguments"),
            (least, most) => format!("{least} to {most} arguments"),
        };
        format!("{expected} expected, got {got}")
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
        other => Ok(other),
    }
}
