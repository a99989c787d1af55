mod monitors;
mod names;
mod one_value;
mod random;
mod together;
mod treatment;
mod valid;

use std::{io, path::Path};

use super::*;

const VALID: &str = r#"[instance]
name = "edge"
interfaces = ["eth0"]
snat_addresses = ["192.0.2.9"]

[[virtual_service]]
name = "dns"
address = "192.0.2.10"
port = 53
protocol = "udp"
pool = "resolvers"
datascripts = ["by-client"]

[[pool]]
name = "resolvers"
servers = [
  { address = "10.0.0.11", port = 53 },
  { address = "10.0.0.12", port = 53, ratio = 2 },
]

[[datascript]]
name = "by-client"
pools = ["resolvers"]
l4_request = "by-client.lua"
"#;

/// `by-client.lua` and `parsers/mine.lua` are there; of others one cannot be read.
fn read_script(path: &Path) -> io::Result<String> {
    match path.to_str() {
        Some("/etc/lb/by-client.lua") => Ok("pool.select('resolvers')".to_owned()),
        Some("/etc/lb/parsers/mine.lua") => Ok("return {}".to_owned()),
        Some("/etc/lb/latin1.lua") => Err(io::Error::new(io::ErrorKind::InvalidData, "not UTF-8")),
        _ => Err(io::Error::new(io::ErrorKind::NotFound, "no such file")),
    }
}

fn parse(text: &str) -> Result<Config, Problems> {
    Config::parse(Path::new("/etc/lb/lb.toml"), text, read_script)
}

/// A change to [`VALID`], and what must come of it: each problem's message and help. `‹` stands
/// where a problem is expected to point, in the same order, and is not part of the text.
struct Case(&'static str, &'static str, &'static [(&'static str, &'static str)]);

impl Case {
    fn run(&self) {
        let Self(old, new, expected) = self;
        assert!(VALID.contains(old), "{old}");
        let marked = VALID.replacen(old, new, 1);
        let text = marked.replace('‹', "");
        let problems = parse(&text).expect_err(new);
        let found: Vec<_> = problems
            .iter()
            .map(|problem| {
                let (line, column) = problem.position().unwrap();
                (line, column, problem.message(), problem.help().unwrap_or_default())
            })
            .collect();
        let marks = marks(&marked);
        assert_eq!(marks.len(), expected.len(), "a mark for each problem: {new}");
        let expected: Vec<_> = marks
            .into_iter()
            .zip(*expected)
            .map(|((line, column), (message, help))| (line, column, *message, *help))
            .collect();
        assert_eq!(found, expected, "{new}\n{problems}");
    }
}

fn marks(marked: &str) -> Vec<(usize, usize)> {
    let mut marks = Vec::new();
    for (number, line) in marked.lines().enumerate() {
        let columns = line.chars().enumerate().filter(|(_, c)| *c == '‹');
        marks.extend(columns.enumerate().map(|(before, (at, _))| (number + 1, at + 1 - before)));
    }
    marks
}

fn run(cases: &[Case]) {
    for case in cases {
        case.run();
    }
}

const GOLDEN: &str = r#"error: [[virtual_service]] has no key `idle_timout`
  --> /etc/lb/lb.toml:12:1
   |
12 | idle_timout = "10s"
   | ^^^^^^^^^^^
   |
   = help: did you mean `idle_timeout`?

error: two virtual services listen on 192.0.2.10:53, udp
  --> /etc/lb/lb.toml:18:8
   |
 9 | port = 53
   |        -- the other one
...
18 | port = 53
   |        ^^
   |
   = help: a service has its own address, port or protocol

2 problems found"#;

#[test]
fn problems_are_rendered_as_compilers_do() {
    let text =
        VALID.replacen("pool = \"resolvers\"", "pool = \"resolvers\"\nidle_timout = \"10s\"", 1);
    let text = text.replacen(
        "[[pool]]",
        "[[virtual_service]]\nname = \"again\"\naddress = \"192.0.2.10\"\nport = 53\n\
         protocol = \"udp\"\npool = \"resolvers\"\n\n[[pool]]",
        1,
    );
    assert_eq!(parse(&text).unwrap_err().to_string(), GOLDEN);
}

#[test]
fn a_file_that_is_not_there_or_not_text_is_named() {
    let folder = std::env::temp_dir().join(format!("lb-config-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let path = folder.join("lb.toml");
    fs::write(&path, b"[instance]\nname = \"\xe9dge\"\n").unwrap();
    let problems = Config::load(&path).unwrap_err();
    assert_eq!((problems[0].message(), problems[0].position()), ("not UTF-8", Some((2, 9))));
    fs::write(&path, VALID).unwrap();
    fs::write(folder.join("by-client.lua"), "").unwrap();
    assert_eq!(Config::load(&path).unwrap().path, path);
    fs::remove_dir_all(&folder).unwrap();
    let problems = Config::load(&path).unwrap_err();
    assert!(problems[0].message().starts_with("the configuration cannot be read: "));
    assert_eq!((problems[0].path(), problems[0].position()), (path.as_path(), None));
}
