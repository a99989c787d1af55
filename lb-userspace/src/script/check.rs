//! What is wrong with scripts, as far as it shows without running them.

use std::{net::IpAddr, sync::Arc};

use mlua::{Lua, LuaOptions, StdLib};

use super::{
    Event, Problem,
    lexer::{Kind, Token, tokens},
    runtime::compile,
};
use crate::config::{
    Config, DataScriptSet, ParserReference, Pool, PoolGroupIndex, Script, SetIndex,
};

/// What a literal argument names.
#[derive(Clone, Copy)]
enum Names {
    Pool,
    /// Of the pool that the first argument names.
    Server,
    PoolGroup,
    Parser,
}

/// Which arguments of which functions are names.
const NAMING: &[(&[&str], usize, Names)] = &[
    (&["avi", "pool", "select"], 0, Names::Pool),
    (&["avi", "pool", "select"], 1, Names::Server),
    (&["avi", "pool", "get_server_status"], 0, Names::Pool),
    (&["avi", "pool", "get_server_status"], 1, Names::Server),
    (&["avi", "pool", "get_servers"], 0, Names::Pool),
    (&["avi", "vs", "persist"], 2, Names::Pool),
    (&["avi", "poolgroup", "select"], 0, Names::PoolGroup),
    (&["require"], 0, Names::Parser),
];

/// Finds errors of syntax, and literal names that a script's set does not reference, in all scripts
/// of a configuration. Names that a script computes are not seen: they are errors when it runs.
pub fn check(config: &Config) -> Vec<Problem> {
    let mut problems: Vec<_> =
        config.protocol_parsers.iter().filter_map(|parser| syntax(&parser.script)).collect();
    for set in (0..config.datascripts.len()).map(SetIndex) {
        for event in Event::ALL {
            if let Some(script) = event.script(config, set) {
                match syntax(script) {
                    Some(problem) => problems.push(problem),
                    None => Check { config, set, script }.run(&mut problems),
                }
            }
        }
        for script in parsers(config, set) {
            Check { config, set, script }.run(&mut problems);
        }
    }
    problems
}

/// What the compiler has against a script.
fn syntax(script: &Arc<Script>) -> Option<Problem> {
    // A state of its own for each script: nothing is left of one when the next is compiled.
    let lua = Lua::new_with(StdLib::NONE, LuaOptions::new()).ok()?;
    let error = compile(&lua, &script.path, &script.source).err()?;
    Some(syntax_problem(script, &error))
}

/// The files of the protocol parsers that a set references: they name what the set may name.
fn parsers(config: &Config, set: SetIndex) -> impl Iterator<Item = &Arc<Script>> {
    let references = config.datascripts.get(set.0).map(|set| set.protocol_parsers.iter());
    references.into_iter().flatten().filter_map(|reference| match reference {
        ParserReference::BuiltIn(_) => None,
        ParserReference::Configured(index) => Some(&config.protocol_parsers.get(index.0)?.script),
    })
}

/// One script under check.
struct Check<'a> {
    config: &'a Config,
    set: SetIndex,
    script: &'a Arc<Script>,
}

/// An argument that is a string literal and nothing else.
type Literal<'t> = Option<&'t Token<'t>>;

impl Check<'_> {
    fn run(&self, problems: &mut Vec<Problem>) {
        let tokens = tokens(&self.script.source);
        for start in 0..tokens.len() {
            for (path, argument, names) in NAMING {
                let arguments = call_of(&tokens, start, path);
                problems.extend(self.argument(&arguments, *argument, *names));
            }
        }
    }

    fn argument(&self, arguments: &[Literal<'_>], index: usize, names: Names) -> Option<Problem> {
        let token = (*arguments.get(index)?)?;
        let name = text(token)?;
        let (what, help) = match names {
            Names::Pool => (format!("pool \"{name}\""), self.missing_pool(&name)?),
            Names::PoolGroup => (format!("pool group \"{name}\""), self.missing_group(&name)?),
            Names::Parser => (format!("protocol parser \"{name}\""), self.missing_parser(&name)?),
            Names::Server => return self.server(token, &name, (*arguments.first()?)?),
        };
        let set = &self.set_config()?.name;
        let message = format!("set \"{set}\" references no {what}");
        Some(self.problem(token, message, help))
    }

    /// What to say about a pool that the set does not reference; `None` if it does.
    fn missing_pool(&self, name: &str) -> Option<Option<String>> {
        if self.pool(name).is_some() {
            return None;
        }
        let set = &self.set_config()?.name;
        let exists = self.config.pools.iter().any(|pool| pool.name == name);
        let help = || format!("add \"{name}\" to `pools` of [[datascript]] \"{set}\"");
        Some(exists.then(help))
    }

    /// What to say about a pool group that the set does not reference; `None` if it does.
    fn missing_group(&self, name: &str) -> Option<Option<String>> {
        let set = self.set_config()?;
        let groups = &self.config.pool_groups;
        let named = |group: &PoolGroupIndex| groups.get(group.0).is_some_and(|g| g.name == name);
        if set.pool_groups.iter().any(named) {
            return None;
        }
        let exists = groups.iter().any(|group| group.name == name);
        let help = || format!("add \"{name}\" to `pool_groups` of [[datascript]] \"{}\"", set.name);
        Some(exists.then(help))
    }

    /// What to say about a parser that the set does not reference; `None` if it does.
    fn missing_parser(&self, name: &str) -> Option<Option<String>> {
        let set = self.set_config()?;
        let is = |reference: ParserReference| self.config.parser_name(reference) == Some(name);
        if set.protocol_parsers.iter().copied().any(is) {
            return None;
        }
        let exists = self.config.parsers().any(is);
        let set = &set.name;
        let help = || format!("add \"{name}\" to `protocol_parsers` of [[datascript]] \"{set}\"");
        Some(exists.then(help))
    }

    fn server(&self, token: &Token<'_>, name: &str, pool: &Token<'_>) -> Option<Problem> {
        let pool = self.pool(&text(pool)?)?;
        let address: Option<IpAddr> = name.parse().ok();
        let has = |address: IpAddr| {
            let mut servers = pool.servers.iter();
            servers.any(|server| server.address.ip() == address)
        };
        // What a name will lead to is not known here.
        if address.is_some_and(|it| has(it) || !pool.names.is_empty()) {
            return None;
        }
        let message = format!("pool \"{}\" has no server \"{name}\"", pool.name);
        Some(self.problem(token, message, None))
    }

    fn set_config(&self) -> Option<&DataScriptSet> {
        self.config.datascripts.get(self.set.0)
    }

    /// A pool that the set references.
    fn pool(&self, name: &str) -> Option<&Pool> {
        let mut pools = self.set_config()?.pools.iter();
        pools.find_map(|pool| {
            let pool = self.config.pools.get(pool.0)?;
            (pool.name == name).then_some(pool)
        })
    }

    fn problem(&self, token: &Token<'_>, message: String, help: Option<String>) -> Problem {
        Problem {
            script: Arc::clone(self.script),
            line: token.line,
            column: token.column,
            message,
            help,
        }
    }
}

/// The compiler's error as a problem.
pub(super) fn syntax_problem(script: &Arc<Script>, error: &mlua::Error) -> Problem {
    let (line, message) = compiler_message(error);
    Problem { script: Arc::clone(script), line, column: 1, message, help: None }
}

/// The line and the message of "chunk:12: message"; the chunk's name may have colons itself.
fn compiler_message(error: &mlua::Error) -> (u32, String) {
    let message = match error {
        mlua::Error::SyntaxError { message, .. } => message.clone(),
        other => other.to_string(),
    };
    let parts = message.match_indices(':').find_map(|(at, _)| {
        let (line, text) = message[at + 1..].split_once(": ")?;
        Some((line.parse().ok()?, text.to_owned()))
    });
    parts.unwrap_or((1, message))
}

fn text(token: &Token<'_>) -> Option<String> {
    match &token.kind {
        Kind::Text(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
        _ => None,
    }
}

/// The arguments of the call of `path` that begins at `start`; none if there is no such call.
fn call_of<'t>(tokens: &'t [Token<'t>], start: usize, path: &[&str]) -> Vec<Literal<'t>> {
    let symbol = |back: usize| start.checked_sub(back).map(|at| &tokens[at].kind);
    // Two dots are an operator, and what follows them is no field.
    let is_field = symbol(1) == Some(&Kind::Symbol(':'))
        || symbol(1) == Some(&Kind::Symbol('.')) && symbol(2) != Some(&Kind::Symbol('.'));
    let Some(rest) = tokens.get(start..).filter(|_| !is_field) else {
        return Vec::new();
    };
    match after_path(rest, path) {
        Some([token, ..]) if matches!(token.kind, Kind::Text(_)) => vec![Some(token)],
        Some([token, inner @ ..]) if token.kind == Kind::Symbol('(') => arguments(inner),
        _ => Vec::new(),
    }
}

/// What follows `a.b.c`.
fn after_path<'t>(mut tokens: &'t [Token<'t>], path: &[&str]) -> Option<&'t [Token<'t>]> {
    for (index, part) in path.iter().enumerate() {
        if index > 0 {
            tokens = tokens.split_first().filter(|(dot, _)| dot.kind == Kind::Symbol('.'))?.1;
        }
        tokens = tokens.split_first().filter(|(name, _)| name.kind == Kind::Name(part))?.1;
    }
    Some(tokens)
}

/// The arguments from behind the opening parenthesis.
fn arguments<'t>(tokens: &'t [Token<'t>]) -> Vec<Literal<'t>> {
    let (mut arguments, mut depth, mut start) = (Vec::new(), 0usize, 0);
    for (at, token) in tokens.iter().enumerate() {
        match token.kind {
            Kind::Symbol('(' | '{' | '[') => depth += 1,
            Kind::Symbol(')' | '}' | ']') if depth == 0 => {
                arguments.push(literal(&tokens[start..at]));
                return arguments;
            }
            Kind::Symbol(')' | '}' | ']') => depth -= 1,
            Kind::Symbol(',') if depth == 0 => {
                arguments.push(literal(&tokens[start..at]));
                start = at + 1;
            }
            _ => {}
        }
    }
    arguments
}

fn literal<'t>(argument: &'t [Token<'t>]) -> Literal<'t> {
    match argument {
        [token] if matches!(token.kind, Kind::Text(_)) => Some(token),
        _ => None,
    }
}
