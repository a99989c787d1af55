use super::*;
use crate::config::{NamedServer, Script};
use crate::script::check;

fn problems(source: &str) -> Vec<Problem> {
    check(&config(&[source], None))
}

/// The position and message of the only problem.
fn problem(source: &str) -> (u32, u32, String) {
    let problems = problems(source);
    assert_eq!(problems.len(), 1, "{source}: {problems:?}");
    (problems[0].line, problems[0].column, problems[0].message.clone())
}

/// What does not compile is a problem, and the other way round.
pub(super) fn assert_syntax_agrees(source: &str) {
    let config = Arc::new(config(&[source], None));
    let loaded = Bench::new(&[]).runtime.load(&config).is_ok();
    assert_eq!(check(&config).is_empty(), loaded, "{source:?}");
}

#[test]
fn a_good_script_has_no_problem() {
    let source = "avi.pool.select('web', '10.0.0.12', 80) avi.vs.persist('k', 1, 'api') \
                  avi.pool.get_servers('web') avi.pool.chash('nope') avi.vs.log('pool \"nope\"')";
    assert_eq!(problems(source), []);
}

#[test]
fn any_address_may_be_a_server_of_a_pool_with_names() {
    let select = |server: &str| format!("avi.pool.select('web', '{server}')");
    let mut config = config(&[&select("10.9.9.9")], None);
    assert_eq!(check(&config).len(), 1);
    let name = NamedServer { host: "app.test".into(), port: 80, ratio: 1, enabled: true };
    config.pools.iter_mut().for_each(|pool| pool.names.push(name.clone()));
    assert_eq!(check(&config), []);
    let set = config.datascripts[0].l4_request.as_mut().unwrap();
    *set = Arc::new(Script { source: select("app.test"), ..(**set).clone() });
    assert_eq!(check(&config).len(), 1, "a server is named by its address");
}

#[test]
fn an_error_of_syntax_is_told_with_its_line() {
    let (line, _, message) = problem("local x = 1\nlocal = 2\n");
    assert_eq!((line, message.as_str()), (2, "'<name>' expected near '='"));
    let (line, _, message) = problem("if true then");
    assert_eq!((line, message.as_str()), (1, "'end' expected near '<eof>'"));
}

#[test]
fn a_literal_name_is_told_with_line_and_column() {
    let found = problem("-- a comment\n  avi.pool.select(  \"nope\")");
    let message = "set \"s0\" references no pool \"nope\"".to_owned();
    assert_eq!(found, (2, 21, message));
    assert_eq!(problem("x = 'ä' avi.pool.select('nope')").1, 25);
}

#[test]
fn every_function_that_takes_names_is_checked() {
    for call in [
        "avi.pool.select('nope')",
        "avi.pool.select 'nope'",
        "avi.pool.select[[nope]]",
        "avi . pool . select ( --[==[ ( ]==] 'nope' )",
        "avi.pool.select('no\\112e', '10.0.0.11')",
        "avi.pool.get_server_status('nope', ip, 80)",
        "avi.pool.get_servers('nope')",
        "avi.vs.persist(f('a', {1, 2}), 300, 'nope')",
        "x = 'up: '..avi.pool.get_servers('nope')",
        "avi.poolgroup.select('web')",
        "require('Default-TLS')",
        "local tls = require 'Default-TLS'",
        "avi.pool.select('web', '10.0.0.1')",
        "avi.pool.get_server_status('web', '10.0.0.1', 80)",
    ] {
        problem(call);
    }
}

#[test]
fn names_that_are_computed_or_not_ours_are_left_alone() {
    for source in [
        "avi.pool.select('no' .. 'pe')",
        "avi.pool.select(name)",
        "avi.pool.select(f('nope'))",
        "my.avi.pool.select('nope')",
        "avi.pool.selected('nope')",
        "my.require('x')",
        "-- avi.pool.select('nope')",
        "--[[ avi.pool.select('nope') ]]",
        "x = [==[ avi.pool.select('nope') ]==]",
        "x = \"avi.pool.select('nope')\"",
        "avi.pool.select('web', ip)",
    ] {
        assert_eq!(problems(source), [], "{source}");
    }
}

#[test]
fn a_pool_that_the_set_does_not_reference_comes_with_help() {
    let help = |source| problems(source)[0].help.clone();
    let other = help("avi.pool.select('other')");
    assert_eq!(other.as_deref(), Some("add \"other\" to `pools` of [[datascript]] \"s0\""));
    assert_eq!(help("avi.pool.select('nope')"), None);
    assert!(help("avi.poolgroup.select('g')").is_none());
}

#[test]
fn all_problems_of_all_scripts_are_told() {
    let mut config = config(&["avi.pool.select('a')\navi.pool.select('b')", "x ="], Some("y ="));
    config.datascripts[2].name = "response".to_owned();
    let found: Vec<_> = check(&config)
        .iter()
        .map(|it| (it.script.path.file_stem().unwrap().to_str().unwrap().to_owned(), it.line))
        .collect();
    let expected = [("s0", 1), ("s0", 2), ("s1", 1), ("response", 1)];
    assert_eq!(found, expected.map(|(script, line)| (script.to_owned(), line)));
}
