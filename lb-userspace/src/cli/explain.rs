//! `lb explain`: what would happen to a flow, and why; or what was decided about it.

use std::{net::SocketAddr, os::unix::net::UnixStream, path::PathBuf, sync::Arc, time::SystemTime};

use anyhow::{Context as _, Result, anyhow, bail};
use clap::{Args, ValueEnum};
use serde_json::Value;

use super::{client, columns::Columns, query::query, target::Target};
use crate::{
    control::{
        self,
        explain::{Asked, Said, nobody_listens},
    },
    engine::{
        Explanation, FirstPacket, Ruling,
        explanation::{Candidate, Step},
    },
    script::TableAccess,
    simulation::Simulation,
};

/// The flow that is asked about, and whom to ask.
#[derive(Args)]
pub struct Explain {
    #[command(flatten)]
    target: Target,
    /// Decide by the file given with --config alone, even if a daemon runs
    #[arg(long, requires = "config")]
    offline: bool,
    /// The first packet's payload, in hexadecimal digits
    #[arg(long, value_name = "HEX", conflicts_with = "payload_file")]
    payload: Option<String>,
    /// A file with the first packet's payload
    #[arg(long, value_name = "FILE")]
    payload_file: Option<PathBuf>,
    /// The worker that would decide: each takes turns by itself
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    worker: u16,
    /// As JSON
    #[arg(long)]
    json: bool,
    /// The transport
    #[arg(value_name = "PROTO")]
    protocol: Transport,
    /// Who begins the flow
    #[arg(value_name = "CLIENT:PORT")]
    client: SocketAddr,
    /// Where the client sends to
    #[arg(value_name = "VIP:PORT")]
    vip: SocketAddr,
}

#[derive(Clone, Copy, ValueEnum)]
enum Transport {
    Tcp,
    Udp,
}

/// Says what there is to say.
pub fn show(explain: &Explain) -> Result<()> {
    let asked = explain.asked()?;
    let said = match explain.target.config() {
        Some(config) if explain.offline || !explain.has_daemon() => {
            let explanation = decide(config, &asked)?;
            if !explain.offline {
                eprintln!("no daemon runs: decided by {} alone", config.display());
            }
            Said::Would(Box::new(explanation))
        }
        _ => {
            let query = query(&asked)?;
            client::get(&explain.target.socket()?, &format!("/v1/explain{query}"))?
        }
    };
    if explain.json {
        println!("{}", serde_json::to_string_pretty(&said)?);
        return Ok(());
    }
    match &said {
        Said::Existing { decided, flow } => print!("{}", existing(decided, flow)),
        Said::Would(explanation) => {
            print!("{}", would(explanation));
            if let Some(hint) = payload_hint(explanation, asked.payload.is_empty()) {
                println!("\n{hint}");
            }
        }
    }
    Ok(())
}

impl Explain {
    fn asked(&self) -> Result<Asked> {
        let payload = match (&self.payload, &self.payload_file) {
            (Some(payload), _) => payload.clone(),
            (None, Some(file)) => {
                let bytes = std::fs::read(file).with_context(|| file.display().to_string())?;
                bytes.iter().map(|byte| format!("{byte:02x}")).collect()
            }
            (None, None) => String::new(),
        };
        let protocol = match self.protocol {
            Transport::Tcp => "tcp",
            Transport::Udp => "udp",
        };
        let (client, vip, worker) = (self.client, self.vip, self.worker);
        Ok(Asked { protocol: protocol.to_owned(), client, vip, payload, worker })
    }

    fn has_daemon(&self) -> bool {
        self.target.socket().is_ok_and(|socket| UnixStream::connect(socket).is_ok())
    }
}

/// The decision of a balancer that has just been started.
fn decide(config: &std::path::Path, asked: &Asked) -> Result<Explanation> {
    let flow = FirstPacket::try_from(asked).map_err(|wrong| anyhow!(wrong))?;
    let config = Arc::new(control::load(config)?);
    super::tell_of_names(&config);
    let mut simulation = Simulation::new(Arc::clone(&config), SystemTime::now(), 1)?;
    let now = simulation.at(SystemTime::now());
    match simulation.explain(now, flow.query()) {
        Some(explanation) => Ok(explanation),
        None => bail!(nobody_listens(&config, &flow)),
    }
}

fn existing(decided: &str, flow: &Value) -> String {
    let text = |key: &str| match &flow[key] {
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        other => other.to_string(),
    };
    let by = match (&flow["script"], &flow["rule"]) {
        (Value::String(script), _) => format!("script {script}, line {}", text("line")),
        (_, Value::String(rule)) => format!("rule {rule}"),
        _ => "no rule and no script".to_owned(),
    };
    let is_undecided = flow["state"] == "inspected" && flow["server"].is_null();
    let outcome = if is_undecided {
        vec!["server           none yet: its scripts wait for payload".to_owned()]
    } else {
        let server = format!("server           {} of pool {}", text("server"), text("pool"));
        vec![server, format!("decided by       {} ({by})", text("decided_by"))]
    };
    let began = if is_undecided { "began  " } else { "decided" };
    let mut lines = vec![
        format!("{} {} → {}: the flow exists", text("protocol"), text("client"), text("vip")),
        String::new(),
        format!("virtual service  {}", text("virtual_service")),
    ];
    lines.extend(outcome);
    lines.extend([
        format!("{began}          {decided}, {} s ago", text("age_seconds")),
        format!("by generation    {}, worker {}", text("generation"), text("worker")),
        format!("scripts logged   {}", text("ds_log")),
        format!("state            {}, idle for {} s", text("state"), text("idle_seconds")),
    ]);
    lines.join("\n") + "\n"
}

/// The decision first, then the way to it.
fn would(explanation: &Explanation) -> String {
    let Explanation { protocol, client, vip, virtual_service, .. } = explanation;
    let mut text = format!("{protocol} {client} → {vip}, virtual service {virtual_service:?}\n");
    text.push_str(&format!("{}\n\n", decision(explanation)));
    text.push_str(&steps(&explanation.steps));
    let parts = [
        ("scripts log", quoted(&explanation.log)),
        ("error", explanation.error.clone().unwrap_or_default()),
        ("", explanation.traceback.clone().unwrap_or_default().replace('\n', "\n  ")),
    ];
    for (heading, part) in parts.iter().filter(|(_, part)| !part.is_empty()) {
        let heading = if heading.is_empty() { "stack" } else { heading };
        text.push_str(&format!("\n{heading}:\n  {part}\n"));
    }
    text.push_str(&tables(&explanation.tables));
    text.push_str(&candidates("members of the pool group", &explanation.members));
    text.push_str(&candidates("servers of the pool", &explanation.candidates));
    let Explanation { generation, worker, .. } = explanation;
    text.push_str(&format!("\ngeneration {generation}, worker {worker}\n"));
    text
}

/// What more payload would tell.
fn payload_hint(explanation: &Explanation, is_empty: bool) -> Option<&'static str> {
    let runs_scripts = explanation.steps.iter().any(|step| step.number == 6);
    match explanation.decision {
        Ruling::Waits if is_empty => Some(
            "No --payload was given. With what the client sends first, a decision can be told.",
        ),
        Ruling::Waits => Some("The --payload is not enough for the script to decide."),
        _ if is_empty && runs_scripts => Some("No --payload was given: scripts read an empty one."),
        _ => None,
    }
}

fn quoted(log: &str) -> String {
    if log.is_empty() { String::new() } else { format!("{log:?}") }
}

fn decision(explanation: &Explanation) -> String {
    let by = match (&explanation.script, &explanation.rule) {
        (Some(script), _) => {
            format!("script {script}, line {}", explanation.line.unwrap_or_default())
        }
        (None, Some(rule)) => format!("rule {rule}"),
        (None, None) => "the virtual service's own pool".to_owned(),
    };
    match (explanation.decision, &explanation.server) {
        (Ruling::Server, Some(server)) => {
            let pool = explanation.pool.as_deref().unwrap_or_default();
            format!("would go to {server} of pool {pool:?}: {by}")
        }
        (Ruling::Closed, _) => format!("would be closed: {by}"),
        (Ruling::Waits, _) => {
            let bytes = explanation.waits_for.unwrap_or_default();
            format!("would wait until the client has sent {bytes} bytes: {by}")
        }
        _ => {
            let reason = explanation.reason.as_deref().unwrap_or_default();
            format!("would be refused: {reason}")
        }
    }
}

fn steps(steps: &[Step]) -> String {
    let mut columns = Columns::new(["STEP", "", "RESULT"]);
    let own = Step { number: 4, what: "flow table".into(), result: "no entry".into() };
    let (before, after) = steps.split_at(steps.partition_point(|step| step.number < own.number));
    for Step { number, what, result } in before.iter().chain([&own]).chain(after) {
        columns.push([number.to_string(), what.clone(), result.clone()]);
    }
    columns.to_string()
}

fn tables(accesses: &[TableAccess]) -> String {
    if accesses.is_empty() {
        return String::new();
    }
    let mut columns = Columns::new(["LINE", "FUNCTION", "TABLE", "KEY", "RESULT"]);
    for access in accesses {
        let result = match (&access.value, access.remaining_seconds, access.success) {
            (Some(value), Some(seconds), _) => format!("{value}, for another {seconds} s"),
            (_, _, true) => "done".to_owned(),
            (_, _, false) if access.action == "table_insert" => "the table is full".to_owned(),
            (_, _, false) => "not there".to_owned(),
        };
        let table = if access.table.is_empty() { "(default)" } else { &access.table };
        columns.push([
            access.line.to_string(),
            access.action.to_string(),
            table.to_owned(),
            access.key.clone(),
            result,
        ]);
    }
    format!("\ntables:\n{columns}")
}

fn candidates(heading: &str, candidates: &[Candidate]) -> String {
    if candidates.is_empty() {
        return String::new();
    }
    let mut columns = Columns::new(["", "NAME", "RATIO", "WHY"]);
    for candidate in candidates {
        let mark = if candidate.chosen { "*" } else { "" };
        columns.push([
            mark.to_owned(),
            candidate.name.clone(),
            candidate.ratio.to_string(),
            candidate.why.to_string(),
        ]);
    }
    format!("\n{heading}:\n{columns}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_existing_flow_whose_scripts_wait_is_said_to_have_no_server_yet() {
        let flow = |state, server| serde_json::json!({ "state": state, "server": server, "decided_by": "algorithm" });
        let waits = existing("2026-01-01T00:00:00Z", &flow("inspected", Value::Null));
        assert!(waits.contains("server           none yet: its scripts wait"), "{waits}");
        assert!(waits.contains("began            2026-") && !waits.contains("decided"), "{waits}");
        for flow in [flow("inspected", "10.0.0.11:80".into()), flow("closed", Value::Null)] {
            let decided = existing("2026-01-01T00:00:00Z", &flow);
            assert!(decided.contains("decided by       algorithm"), "{decided}");
        }
    }

    #[test]
    fn what_more_payload_would_tell_is_said_where_it_would() {
        let hints = [
            ("waits", 6, true, Some("No --payload was given. With what")),
            ("waits", 6, false, Some("The --payload is not enough")),
            ("server", 6, true, Some("No --payload was given: scripts read")),
            ("server", 6, false, None),
            ("server", 8, true, None),
        ];
        for (decision, step, is_empty, hint) in hints {
            let explanation = explanation(decision, step);
            let told = payload_hint(&explanation, is_empty);
            assert_eq!(told.is_some(), hint.is_some(), "{decision} {step} {is_empty}");
            let (told, hint) = (told.unwrap_or_default(), hint.unwrap_or_default());
            assert!(told.starts_with(hint), "{decision} {step} {is_empty}: {told}");
        }
        let waits = would(&explanation("waits", 6));
        let said = "would wait until the client has sent 20 bytes: script sni.lua, line 14";
        assert_eq!(waits.lines().nth(1), Some(said), "{waits}");
    }

    fn explanation(decision: &str, step: u8) -> Explanation {
        let fields = serde_json::json!({
            "protocol": "tcp", "client": "192.0.2.1:9", "vip": "192.0.2.10:443",
            "virtual_service": "tls", "decision": decision, "waits_for": 20,
            "script": "sni.lua", "line": 14, "log": "", "generation": 1, "worker": 0,
            "steps": [{ "number": step, "what": "asked", "result": "answered" }], "tables": [],
        });
        serde_json::from_value(fields).unwrap()
    }

    #[test]
    fn the_flow_table_is_asked_between_limits_and_rules() {
        let step = |number| Step { number, what: "asked".into(), result: "answered".into() };
        let shown = steps(&[step(1), step(2), step(5), step(8)]);
        let numbers: Vec<_> =
            shown.lines().skip(1).filter_map(|line| line.chars().next()).collect();
        assert_eq!(numbers, ['1', '2', '4', '5', '8'], "{shown}");
        assert_eq!(steps(&[]).lines().count(), 2);
    }
}
