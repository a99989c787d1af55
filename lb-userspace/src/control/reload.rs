//! A configuration on its way into force: read, checked, compared with the one it replaces.

use std::path::Path;

use crate::{
    config::{Config, Problem, Problems, Source},
    script,
};

/// Reads a configuration with its scripts. Refused whole if anything is wrong with either.
pub fn load(path: &Path) -> Result<Config, Problems> {
    let config = Config::load(path)?;
    let problems: Problems = script::check(&config).into_iter().map(in_script).collect();
    if problems.is_empty() { Ok(config) } else { Err(problems) }
}

fn in_script(problem: script::Problem) -> Problem {
    let source = Source::new(&problem.script.path, problem.script.source.as_str());
    let (line, column) = (problem.line as usize, problem.column as usize);
    let shown = Problem::at_line(&source, line, Some(column), problem.message);
    match problem.help {
        Some(help) => shown.with_help(help),
        None => shown,
    }
}

/// What cannot change while the daemon runs; a restart keeps the flows.
pub(super) fn refuse_incompatible(old: &Config, new: &Config) -> Result<(), String> {
    let (old, new) = (&old.instance, &new.instance);
    let changed = [
        ("name", old.name != new.name),
        ("interfaces", old.interfaces != new.interfaces),
        ("attach_mode", old.attach_mode != new.attach_mode),
        ("flow_capacity", old.flow_capacity != new.flow_capacity),
        ("admin_socket", old.admin_socket != new.admin_socket),
        ("connection_log", old.connection_log != new.connection_log),
        ("cores", old.cores != new.cores),
        ("tables", old.tables != new.tables),
    ];
    let keys: Vec<_> = changed.iter().filter(|(_, is)| *is).map(|(key, _)| *key).collect();
    if keys.is_empty() {
        return Ok(());
    }
    Err(format!(
        "[instance] {} cannot change while the instance runs: restart it (established flows go on \
         meanwhile). Nothing of the new configuration is in force",
        keys.join(", ")
    ))
}
