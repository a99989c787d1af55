//! `lb replay`.

use std::{
    io::{self, Write},
    path::PathBuf,
    sync::Arc,
};

use anyhow::{Result, bail};
use clap::Args;
use serde::Serialize;

use super::columns::Columns;
use crate::{
    control,
    engine::Ruling,
    replay::{FlowReport, replay},
    script::TableAccess,
};

/// What is asked for.
#[derive(Args)]
pub struct Options {
    /// Configuration file
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Capture, pcap or pcapng
    capture: PathBuf,
    /// As JSON, an object a line for each flow
    #[arg(long)]
    json: bool,
    /// Show how each decision was come by, and Lua's stack where a script failed
    #[arg(long, short, conflicts_with = "json")]
    verbose: bool,
    /// Write the packets that leave the balancer to this capture
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,
}

/// Replays a capture and prints its flows; what became of its packets goes to standard error.
pub fn show(options: &Options) -> Result<()> {
    let Options { config, capture, json, verbose, write } = options;
    if let Some(write) = write
        && let (Ok(from), Ok(to)) = (capture.canonicalize(), write.canonicalize())
        && from == to
    {
        bail!("--write would replace the capture that is replayed: name another file");
    }
    let config = control::load(config)?;
    super::tell_of_names(&config);
    let replayed = replay(Arc::new(config), capture, write.as_deref())?;
    let mut output = io::BufWriter::new(io::stdout().lock());
    let printed = match json {
        true => print_json(&mut output, &replayed.flows),
        false => write!(output, "{}", columns(&replayed.flows, *verbose)),
    };
    match printed.and_then(|()| output.flush()) {
        // As when `head` has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        printed => printed?,
    }
    eprint!("{}: {}", capture.display(), replayed.summary);
    Ok(())
}

fn print_json(output: &mut impl Write, flows: &[FlowReport]) -> io::Result<()> {
    for flow in flows {
        serde_json::to_writer(&mut *output, flow)?;
        output.write_all(b"\n")?;
    }
    Ok(())
}

fn columns(flows: &[FlowReport], verbose: bool) -> Columns {
    let mut columns = Columns::new([
        "TIME",
        "PROTO",
        "CLIENT",
        "VIP",
        "SERVICE",
        "DECISION",
        "POOL",
        "SERVER",
        "DECIDED BY",
        "PACKETS",
        "REPLIES",
        "END",
    ]);
    for flow in flows {
        columns.push(cells(flow));
        for line in details(flow, verbose) {
            columns.push_text(format!("    {line}"));
        }
    }
    columns
}

fn cells(flow: &FlowReport) -> [String; 12] {
    let decided = &flow.explanation;
    let end = match (flow.end, flow.state) {
        (Some(end), _) => word(&end),
        (None, Some(state)) => format!("open: {}", word(&state)),
        (None, None) => "-".to_owned(),
    };
    [
        format!("{:.6}", flow.offset.as_secs_f64()),
        decided.protocol.to_string(),
        decided.client.to_string(),
        decided.vip.to_string(),
        decided.virtual_service.clone(),
        word(&decided.decision),
        or_dash(decided.pool.as_ref()),
        or_dash(decided.server),
        decided_by(flow),
        flow.packets.to_string(),
        flow.reply_packets.to_string(),
        end,
    ]
}

/// What decided, and where it says so.
fn decided_by(flow: &FlowReport) -> String {
    let decided = &flow.explanation;
    let by = decided.decided_by.map(|by| word(&by));
    let place = match (&decided.script, decided.line, &decided.rule) {
        (Some(script), Some(line), _) => Some(format!("{script}:{line}")),
        (_, _, rule) => rule.clone(),
    };
    match (by, place) {
        (Some(by), Some(place)) => format!("{by} ({place})"),
        (by, place) => or_dash(by.or(place)),
    }
}

/// What stands beneath a flow's line.
fn details(flow: &FlowReport, verbose: bool) -> Vec<String> {
    let decided = &flow.explanation;
    let mut lines = Vec::new();
    if verbose {
        let steps = decided.steps.iter();
        lines.extend(
            steps.map(|step| format!("step {}: {}: {}", step.number, step.what, step.result)),
        );
    }
    if let (Some(reason), Ruling::Refused) = (&decided.reason, decided.decision) {
        lines.push(format!("reason: {reason}"));
    }
    lines.extend(decided.tables.iter().map(access));
    if !decided.log.is_empty() {
        lines.push(format!("log: {}", decided.log));
    }
    lines.extend(decided.error.iter().map(|error| format!("error: {error}")));
    if verbose {
        let traceback = decided.traceback.iter().flat_map(|traceback| traceback.lines());
        lines.extend(traceback.map(|line| format!("  {}", line.trim())));
    }
    lines.iter().map(|line| printable(line)).collect()
}

/// What a script did to a table.
fn access(access: &TableAccess) -> String {
    let table =
        if access.table.is_empty() { String::new() } else { format!(" {:?}", access.table) };
    let value = access.value.as_ref().map(|value| format!(" = {value}")).unwrap_or_default();
    let left = access.remaining_seconds.map(|left| format!(", {left} s left")).unwrap_or_default();
    let failed = match (access.success, &*access.action) {
        (true, _) => "",
        (false, "table_insert") => ": no room",
        (false, _) => ": not there",
    };
    let line = if access.line > 0 { format!(" (line {})", access.line) } else { String::new() };
    format!("{}{table} {:?}{value}{left}{failed}{line}", access.action, access.key)
}

/// An enum's name, as it is in JSON.
fn word(value: &impl Serialize) -> String {
    let value = serde_json::to_value(value).ok();
    value.as_ref().and_then(|value| value.as_str()).unwrap_or("-").to_owned()
}

fn or_dash(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// Without what would move a terminal's cursor: scripts log what clients send.
fn printable(line: &str) -> String {
    let mut shown = String::with_capacity(line.len());
    for letter in line.chars() {
        if letter.is_control() {
            shown.extend(letter.escape_default());
        } else {
            shown.push(letter);
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replay::tests::{SCRIPTS, STORY, config, replayed, similar, story};

    #[test]
    fn flows_are_shown_with_what_scripts_did() {
        let told = replayed(&config(STORY, &SCRIPTS), &story()).unwrap();
        similar(&columns(&told.flows, false).to_string(), include_str!("replay.txt"));
    }

    #[test]
    fn every_step_is_shown_on_wish() {
        let told = replayed(&config(STORY, &SCRIPTS), &story()).unwrap();
        let faulty = told.flows.iter().find(|flow| flow.explanation.error.is_some()).unwrap();
        let shown = details(faulty, true).join("\n");
        for part in ["step 6: script faulty.lua: failed at line 1", "faulty.lua:3: in main chunk"] {
            assert!(shown.contains(part), "{shown}");
        }
    }
    #[test]
    fn the_capture_is_not_written_over() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let same = file.path().to_owned();
        let config = "no-such.toml".into();
        let (capture, write) = (same.clone(), Some(same));
        let options = Options { config, capture, json: false, verbose: false, write };
        let error = show(&options).unwrap_err().to_string();
        assert!(error.contains("name another file"), "{error}");
    }
}
