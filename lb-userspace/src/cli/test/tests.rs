use std::{fs, path::Path};

use serde_json::Value;
use tempfile::TempDir;

use super::*;

/// Two virtual services, of which one has a script that is what the test makes it.
const CONFIG: &str = r#"
[instance]
name = "test"
interfaces = ["eth0"]
snat_addresses = ["192.0.2.9"]
[[virtual_service]]
name = "web"
address = "192.0.2.10"
port = 80
protocol = "tcp"
pool = "web"
datascripts = ["set"]
[[datascript]]
name = "set"
pools = ["web"]
l4_request = "set.lua"
[[pool]]
name = "web"
servers = [{ address = "10.0.0.11", port = 80 }]
"#;

/// A folder with a configuration, its script and test files.
fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = TempDir::new().unwrap();
    let usual = [("lb.toml", CONFIG), ("set.lua", "avi.vs.log('seen')"), ("bad.toml", "[instance")];
    for (name, text) in usual.iter().chain(files) {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    folder
}

/// The exit status, and what was printed and complained of.
fn run_with(path: &Path, filter: &str, json: bool) -> (u8, String) {
    let options = Options { path: path.to_owned(), filter: filter.to_owned(), json };
    let mut out = Vec::new();
    let result = run_to(&options, &mut out, false);
    let mut text = String::from_utf8(out).unwrap();
    let status = result.err().map_or(0, |error| {
        let Unsuccessful { status, why } = error.downcast_ref().unwrap();
        text.push_str(why.as_deref().unwrap_or_default());
        *status
    });
    (status, text)
}

const PASSES: &str = "test('passes', function() expect(1).is(1) end)\n";
const FAILS: &str = "test('fails', function()
  local flow = balancer('lb.toml'):flow()
  expect(flow.log).is('unseen')
end)\n";

/// Test files, the exit status, and what is said.
type Case<'a> = (&'a [(&'a str, &'a str)], u8, &'a [&'a str]);

#[test]
fn the_exit_status_tells_how_it_went() {
    let cases: [Case<'_>; 10] = [
        (
            &[("a_test.lua", PASSES)],
            0,
            &["a_test.lua\n", "ok      passes", "1 passed, 0 failed in 1 file"],
        ),
        (
            &[("b/a_test.lua", PASSES), ("c_test.lua", PASSES)],
            0,
            &["2 passed, 0 failed in 2 files"],
        ),
        (&[("a_test.lua", FAILS)], 1, &["FAILED  fails", "0 passed, 1 failed"]),
        (&[("a_test.lua", FAILS), ("b_test.lua", PASSES)], 1, &["1 passed, 1 failed in 2 files"]),
        (
            &[("a_test.lua", "test('x', function() balancer('bad.toml') end)")],
            2,
            &["bad.toml is not right", "TOML syntax", "1 problem found"],
        ),
        (
            &[("a_test.lua", "test('x', function() balancer('none.toml') end)")],
            2,
            &["none.toml", "cannot be read"],
        ),
        (
            &[
                ("a_test.lua", "test('x', function()\n  expect(1 is(1)\nend)"),
                ("b_test.lua", PASSES),
            ],
            2,
            &["the file as a whole", "a_test.lua:2", "expected near 'is'", "1 passed, 1 failed"],
        ),
        (&[("a_test.lua", "local x = 1")], 2, &["no tests in here"]),
        (&[("a_test.lua", "error('at the top')")], 2, &["a_test.lua:1", "at the top"]),
        (&[("nothing.lua", PASSES)], 2, &["nothing to test", "_test.lua"]),
    ];
    for (files, expected, said) in cases {
        let folder = folder(files);
        let (status, text) = run_with(folder.path(), "", false);
        assert_eq!(status, expected, "{files:?}\n{text}");
        for part in said {
            assert!(text.contains(part), "{part:?} is not in\n{text}");
        }
    }
}

#[test]
fn a_failed_expectation_is_shown_with_its_line_and_its_flow() {
    let folder = folder(&[("a_test.lua", FAILS)]);
    let (_, text) = run_with(folder.path(), "", false);
    let file = folder.path().join("a_test.lua");
    let detail = format!(
        "FAILED  fails\n  at {}:3\n     expect(flow.log).is('unseen')\n  expected  \"unseen\"\n       \
         got  \"seen\"\n\n  flow tcp 198.51.100.1:40000 to 192.0.2.10:80 (web)\n",
        file.display()
    );
    assert!(text.contains(&detail), "{text}");
    assert!(text.contains("set.lua: chose nothing\n"), "{text}");
    assert!(text.contains("round-robin: 10.0.0.11:80\n    log: seen\n"), "{text}");
}

#[test]
fn a_single_file_may_be_tested_whatever_its_name() {
    let folder = folder(&[("a.lua", PASSES), ("b_test.lua", FAILS)]);
    assert_eq!(run_with(&folder.path().join("a.lua"), "", false).0, 0);
    let (status, text) = run_with(&folder.path().join("none"), "", false);
    assert_eq!(status, 2);
    assert!(text.contains("No such file"), "{text}");
}

#[test]
fn a_filter_leaves_tests_out_and_never_all_of_them() {
    let folder = folder(&[("a_test.lua", &format!("{PASSES}{FAILS}"))]);
    let (status, text) = run_with(folder.path(), "pass", false);
    assert_eq!(status, 0, "{text}");
    assert!(text.contains("1 passed, 0 failed"), "{text}");
    let (status, text) = run_with(folder.path(), "nowhere", false);
    assert_eq!(status, 2, "{text}");
    assert!(text.contains("no name contains \"nowhere\""), "{text}");
}

#[test]
fn programs_get_an_object_a_test() {
    let folder = folder(&[("a_test.lua", &format!("{PASSES}{FAILS}")), ("b_test.lua", "(")]);
    let (status, text) = run_with(folder.path(), "", true);
    assert_eq!(status, 2, "{text}");
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let [passed, failed, unreadable] = &lines[..] else { panic!("{text}") };
    let file = folder.path().join("a_test.lua").display().to_string();
    assert_eq!((&passed["test"], &passed["passed"]), (&"passes".into(), &true.into()));
    assert_eq!((&passed["file"], &passed["line"]), (&file.as_str().into(), &1.into()));
    assert_eq!((&failed["test"], &failed["passed"]), (&"fails".into(), &false.into()));
    assert_eq!(failed["places"][0], format!("{file}:4"));
    assert_eq!(failed["message"], "expected  \"unseen\"\n     got  \"seen\"");
    assert_eq!(failed["flow"]["log"], "seen");
    assert_eq!((&unreadable["test"], &unreadable["passed"]), (&Value::Null, &false.into()));
}

#[test]
fn the_examples_pass_their_tests() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/datascripts");
    let (status, text) = run_with(&examples, "", false);
    assert_eq!(status, 0, "{text}");
}

#[test]
fn every_example_is_right_and_has_a_test() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/datascripts");
    let mut seen = 0;
    for entry in fs::read_dir(examples).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            crate::control::load(&path).unwrap_or_else(|problems| panic!("{problems}"));
            let name = path.file_stem().unwrap().to_str().unwrap();
            let test = path.with_file_name(format!("{name}{SUFFIX}"));
            // What the demo runs is three of the others. `lb test` has no payload for connections
            // that are inspected: what decides by the server name has its tests with real clients.
            let has_none = ["demo", "sni"].contains(&name);
            assert!(test.exists() || has_none, "{} is missing", test.display());
            seen += 1;
        }
    }
    assert!(seen > 3);
}

/// The text between two marks.
fn between<'a>(text: &'a str, start: &str, end: &str) -> &'a str {
    text.split_once(start).unwrap().1.split_once(end).unwrap().0
}

/// Without how long things took.
fn timeless(report: &str) -> Vec<&str> {
    report.lines().map(|line| line.split(" (").next().unwrap().trim_end()).collect()
}

#[test]
fn the_documentation_shows_what_is_printed() {
    let documentation = include_str!("../../../../docs/testing-scripts.md");
    let folder = folder(&[
        ("by-client.lua", include_str!("../../../../scripts/datascripts/by-client.lua")),
        ("by-client.toml", include_str!("../../../../scripts/datascripts/by-client.toml")),
        ("by-client_test.lua", between(documentation, "```lua\n", "```")),
    ]);
    let (status, text) = run_with(folder.path(), "", false);
    assert_eq!(status, 1, "{text}");
    let printed = text.replace(&format!("{}/", folder.path().display()), "");
    let shown = between(documentation, "$ lb test .\n", "```");
    assert_eq!(timeless(&printed), timeless(shown));
}
