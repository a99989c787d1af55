//! Protocol parsers: Lua modules that a set references and that its scripts `require`.
//!
//! Those that are built in run once in each state and are sealed: nothing can be changed in them,
//! and they have no globals to keep anything in. A user's runs anew in each script's run that
//! requires it, with that run's globals: what it keeps is forgotten with them.

use std::rc::Rc;

use super::{
    ScriptError,
    check::syntax_problem,
    context::Context,
    runtime::compile,
    sandbox::Sandbox,
    vm::{Anchor, Chunk, Vm},
};
use crate::config::{BuiltInParser, Config, ParserIndex, ParserReference, SetIndex};

/// The parsers of a configuration, as a state has them.
#[derive(Debug, Default)]
pub(super) struct Parsers {
    /// Those that some set references.
    built_in: Vec<(BuiltInParser, Anchor)>,
    /// By [`ParserIndex`]: what makes the module when it is called.
    configured: Vec<Rc<Chunk>>,
}

impl Parsers {
    pub(super) fn load(
        context: &Context,
        sandbox: &Sandbox,
        config: &Config,
    ) -> Result<Self, ScriptError> {
        let mut parsers = Self::default();
        for parser in BuiltInParser::ALL.into_iter().filter(|parser| references(config, *parser)) {
            let module = sandbox.built_in(context, parser.name(), source(parser))?;
            parsers.built_in.push((parser, module));
        }
        for parser in &config.protocol_parsers {
            let script = &parser.script;
            let chunk = compile(context.vm.lua(), &script.path, &script.source)
                .map_err(|error| ScriptError::Compile(syntax_problem(script, &error)))?;
            parsers.configured.push(Rc::new(sandbox.module(chunk)?));
        }
        Ok(parsers)
    }

    /// A sealed module; `None` if no set references it.
    pub(super) fn built_in(&self, parser: BuiltInParser) -> Option<&Anchor> {
        let found = self.built_in.iter().find(|(own, _)| *own == parser);
        found.map(|(_, module)| module)
    }

    /// Whether a parser of the user's that a set references may touch the globals that it shares with
    /// the set's scripts.
    pub(super) fn touch_globals(&self, config: &Config, set: SetIndex) -> bool {
        let set = config.datascripts.get(set.0);
        let mut references = set.iter().flat_map(|set| &set.protocol_parsers);
        references.any(|reference| match reference {
            ParserReference::BuiltIn(_) => false,
            ParserReference::Configured(index) => {
                self.configured(*index).is_none_or(|chunk| chunk.touches_globals)
            }
        })
    }

    pub(super) fn configured(&self, index: ParserIndex) -> Option<&Rc<Chunk>> {
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
    script: Option<Rc<Chunk>>,
    made: Vec<Made>,
}

#[derive(Debug)]
struct Made {
    parser: ParserIndex,
    chunk: Rc<Chunk>,
    /// `None` before the chunk has returned.
    module: Option<Anchor>,
}

/// What `require` finds of a user's parser.
#[derive(Debug)]
pub(super) enum Found<'a> {
    Module(&'a Anchor),
    /// Its file has begun to run and has not come to its end.
    Unfinished,
    /// Nothing: its file is to run.
    Nothing,
}

impl Modules {
    pub(super) fn find(&self, parser: ParserIndex) -> Found<'_> {
        match self.made.iter().find(|made| made.parser == parser) {
            None => Found::Nothing,
            Some(Made { module: None, .. }) => Found::Unfinished,
            Some(Made { module: Some(module), .. }) => Found::Module(module),
        }
    }

    /// The script that runs.
    pub(super) fn script(&self) -> Option<&Chunk> {
        self.script.as_deref()
    }

    /// For a run of this script.
    pub(super) fn begin(&mut self, script: &Rc<Chunk>) {
        self.script = Some(Rc::clone(script));
    }

    /// A parser's file is about to run, with the globals of the script.
    pub(super) fn start(&mut self, parser: ParserIndex, chunk: &Rc<Chunk>, vm: &Vm) {
        vm.share_globals(self.script.as_deref(), chunk);
        self.made.push(Made { parser, chunk: Rc::clone(chunk), module: None });
    }

    /// Keeps what a parser's file has returned.
    pub(super) fn finish(&mut self, parser: ParserIndex, module: Anchor) {
        if let Some(made) = self.made.iter_mut().find(|made| made.parser == parser) {
            made.module = Some(module);
        }
    }

    /// Forgets it all: not even a chunk holds on to the run's globals.
    pub(super) fn end(&mut self, vm: &Vm) {
        self.script = None;
        if self.made.is_empty() {
            return;
        }
        for made in self.made.drain(..) {
            vm.share_globals(None, &made.chunk);
        }
    }
}
