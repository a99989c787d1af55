//! The functions, as users read of them: what [`GROUPS`] says, in Markdown.

use super::{
    Event,
    api::functions::{Function, GROUPS, Group, Kind, Parameter},
};

/// The reference of events and functions, for docs/datascript.md.
pub fn reference() -> String {
    let groups = GROUPS.iter().filter(|group| !group.title.is_empty());
    events() + &groups.map(group).collect::<String>()
}

fn events() -> String {
    let mut text = "## Events\n\n| event | key of the set | runs |\n|---|---|---|\n".to_owned();
    for event in Event::ALL {
        let (key, runs) = describe(event);
        text += &format!("| `{}` (`{}`) | `{key}` | {runs} |\n", event.name(), event.api_name());
    }
    text + "\nWhat may be called in which:\n\n" + &allowed()
}

/// Where its script is configured, and when it runs.
fn describe(event: Event) -> (&'static str, &'static str) {
    match event {
        Event::L4Request => (
            "l4_request",
            "once a flow, before a server is chosen: on its first packet, a UDP datagram or a TCP SYN, which has no \
             payload; with `tcp_mode = \"inspect\"` on the client's first payload",
        ),
        Event::L4Response => (
            "l4_response",
            "once a flow, on the first packet that its server sends back; with `tcp_mode = \"inspect\"` on its first \
             payload, and not if there is none: the log says so",
        ),
    }
}

/// A table of functions and events. What is allowed everywhere is told in a sentence.
fn allowed() -> String {
    let names = Event::ALL.map(Event::name);
    let mut text =
        format!("| function | {} |\n|---|{}\n", names.join(" | "), "---|".repeat(names.len()));
    let of_avi = GROUPS.iter().filter(|group| group.title.starts_with("avi."));
    for function in of_avi.flat_map(|group| group.functions) {
        let marks =
            Event::ALL.map(|event| if function.events.contains(&event) { "yes" } else { "–" });
        text += &format!("| `{}` | {} |\n", function.name, marks.join(" | "));
    }
    text + "\nA call where it is not allowed is an error that names the function and the event. `require` and Lua's own \
            libraries are there in every event.\n"
}

fn group(group: &Group) -> String {
    let functions: String = group.functions.iter().map(function).collect();
    format!("\n## {}\n\n{}\n{functions}", group.title, group.about)
}

fn function(function: &Function) -> String {
    let mut text = format!("\n### `{}`\n\n{}\n\n", function.signature(), function.about);
    if function.events.len() < Event::ALL.len() {
        let events: Vec<_> = function.events.iter().map(|event| event.name()).collect();
        text += &format!("- Only in {}.\n", events.join(", "));
    }
    text.extend(function.parameters.iter().map(parameter));
    if !function.returns.is_empty() {
        text += &format!("- Returns: {}.\n", function.returns);
    }
    if !function.fails.is_empty() {
        text += &format!("- Fails: {}\n", function.fails);
    }
    if !function.example.is_empty() {
        text += &format!("\n```lua\n{}\n```\n", function.example);
    }
    text.trim_end().to_owned() + "\n"
}

fn parameter(parameter: &Parameter) -> String {
    let name = parameter.name.replace(' ', "_");
    let may = if parameter.optional { ", may be left out" } else { "" };
    format!("- `{name}`: {}{may}.\n", describe_kind(parameter.kind))
}

fn describe_kind(kind: Kind) -> String {
    match kind {
        Kind::Text => "a string; a number is taken as its text".to_owned(),
        Kind::Number => "a number".to_owned(),
        Kind::Whole(least, u32::MAX) => {
            format!("a whole number, {least} or more, or a string that is one")
        }
        Kind::Whole(least, most) => {
            format!("a whole number from {least} to {most}, or a string that is one")
        }
        Kind::Boolean => "`true` or `false`".to_owned(),
        Kind::Value => "a string or a number; it comes back as what it was".to_owned(),
        Kind::Loggable => "strings, numbers, booleans, nil, as many as you like".to_owned(),
        Kind::Pool => "the name of a pool that the set references".to_owned(),
        Kind::Server => "a server's address, as `\"10.0.0.11\"`".to_owned(),
        Kind::PoolGroup => "the name of a pool group that the set references".to_owned(),
        Kind::Parser => "the name of a protocol parser that the set references".to_owned(),
        Kind::Time => {
            "a table with `year`, `month`, `day`, and perhaps `hour` (12), `min`, `sec`".to_owned()
        }
        Kind::Truth => {
            "anything but `false` and nil for a plain search, without patterns".to_owned()
        }
    }
}
