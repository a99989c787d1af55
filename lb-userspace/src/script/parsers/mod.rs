//! Protocol parsers: Lua modules that a set references and that its scripts `require`.
//!
//! Those that are built in run once in each state and are sealed: nothing can be changed in them,
//! and they have no globals to keep anything in. A user's runs anew in each script's run that
//! requires it, with that run's globals: what it keeps is forgotten with them.

use mlua::{Function, Lua, Result, Table, Value};

use super::{ScriptError, check::syntax_problem, runtime::compile, sandbox::Sandbox};
use crate::config::{BuiltInParser, Config, ParserIndex, ParserReference};

/// The parsers of a configuration, as a state has them.
#[derive(Debug, Default)]
pub(super) struct Parsers {
    /// Those that some set references.
    built_in: Vec<(BuiltInParser, Value)>,
    /// By [`ParserIndex`]: what makes the module when it is called.
    configured: Vec<Function>,
}

impl Parsers {
    pub(super) fn load(
        lua: &Lua,
        sandbox: &Sandbox,
        config: &Config,
    ) -> std::result::Result<Self, ScriptError> {
        let mut parsers = Self::default();
        for parser in BuiltInParser::ALL.into_iter().filter(|parser| references(config, *parser)) {
            let module = sandbox.built_in(lua, parser.name(), source(parser))?;
            parsers.built_in.push((parser, module));
        }
        for parser in &config.protocol_parsers {
            let script = &parser.script;
            let chunk = compile(lua, &script.path, &script.source)
                .map_err(|error| ScriptError::Compile(syntax_problem(script, &error)))?;
            parsers.configured.push(chunk);
        }
        Ok(parsers)
    }

    /// A sealed module; nil if no set references it.
    pub(super) fn built_in(&self, parser: BuiltInParser) -> Value {
        let found = self.built_in.iter().find(|(own, _)| *own == parser);
        found.map_or(Value::Nil, |(_, module)| module.clone())
    }

    pub(super) fn configured(&self, index: ParserIndex) -> Option<&Function> {
        self.configured.get(index.0)
    }
}

fn references(config: &Config, parser: BuiltInParser) -> bool {
    let mut all = config.datascripts.iter().flat_map(|set| &set.protocol_parsers);
    all.any(|reference| *reference == ParserReference::BuiltIn(parser))
}

/// The Lua text of a parser of ours.
const fn source(parser: BuiltInParser) -> &'static str {
    match parser {
        BuiltInParser::Tls => include_str!("default-tls.lua"),
        BuiltInParser::Radius => include_str!("default-radius.lua"),
        BuiltInParser::Dhcp => include_str!("default-dhcp.lua"),
    }
}

/// What one run has made of the users' parsers.
#[derive(Debug, Default)]
pub(super) struct Modules {
    /// The script that runs.
    script: Option<Function>,
    made: Vec<Made>,
}

#[derive(Debug)]
struct Made {
    parser: ParserIndex,
    chunk: Function,
    /// `None` before the chunk has returned.
    module: Option<Table>,
}

/// What `require` finds of a user's parser.
#[derive(Debug)]
pub(super) enum Found {
    Module(Table),
    /// Its file has begun to run and has not come to its end.
    Unfinished,
    /// Nothing: its file is to run.
    Nothing,
}

impl Modules {
    pub(super) fn find(&self, parser: ParserIndex) -> Found {
        match self.made.iter().find(|made| made.parser == parser) {
            None => Found::Nothing,
            Some(Made { module: None, .. }) => Found::Unfinished,
            Some(Made { module: Some(module), .. }) => Found::Module(module.clone()),
        }
    }

    /// For a run of this script.
    pub(super) fn begin(&mut self, script: &Function) {
        self.script = Some(script.clone());
    }

    /// A parser's file is about to run, with the globals of the script.
    pub(super) fn start(&mut self, parser: ParserIndex, chunk: &Function) -> Result<()> {
        if let Some(globals) = self.script.as_ref().and_then(Function::environment) {
            chunk.set_environment(globals)?;
        }
        self.made.push(Made { parser, chunk: chunk.clone(), module: None });
        Ok(())
    }

    /// Keeps what a parser's file has returned.
    pub(super) fn finish(&mut self, parser: ParserIndex, module: &Table) {
        if let Some(made) = self.made.iter_mut().find(|made| made.parser == parser) {
            made.module = Some(module.clone());
        }
    }

    /// Forgets it all: not even a chunk holds on to the run's globals.
    pub(super) fn end(&mut self, lua: &Lua) -> Result<()> {
        self.script = None;
        for made in self.made.drain(..) {
            made.chunk.set_environment(lua.globals())?;
        }
        Ok(())
    }
}
