//! `lb status`.

use std::time::SystemTime;

use anyhow::Result;

use super::{client, columns::Columns, target::Target};
use crate::control::{
    names::NameStatus,
    servers::view::{ServerState, ServerStatus},
    status::{SnatPorts, Status},
};

/// Prints the state of an instance.
pub fn show(target: &Target, json: bool) -> Result<()> {
    let status: Status = client::get(&target.socket()?, "/v1/status")?;
    if json {
        println!("{}", serde_json::to_string_pretty(&status)?);
    } else {
        print(&status);
    }
    Ok(())
}

fn print(status: &Status) {
    println!(
        "{} (lb {}, process {}, since {})",
        status.instance, status.version, status.pid, status.started
    );
    println!("configuration  {}, generation {}", status.config, status.generation);
    let interfaces = status.interfaces.iter().map(|interface| {
        format!("{} ({}, {} queues)", interface.name, interface.mode, interface.queues)
    });
    println!("interfaces     {}", interfaces.collect::<Vec<_>>().join(", "));
    println!("workers        {}", status.workers);
    let flows = &status.flows;
    println!(
        "flows          {} of {}, {} not established; {} adopted at the start, {} logged",
        flows.now, flows.capacity, flows.half_open, status.adopted_flows, status.logged_flows
    );
    if flows.pressure {
        println!("pressure       so many are not established that new ones may get cookies first");
    }
    print!("{}", snat_ports(&status.snat_ports));
    print!("{}", losses(status));
    println!();
    print!("{}", services(status));
    println!();
    print!("{}", pools(status));
    print!("{}", names(status));
    println!();
    print!("{}", servers(status));
    println!();
    print!("{}", events(status));
}

/// Empty without SNAT addresses.
fn snat_ports(ports: &SnatPorts) -> String {
    if ports.addresses.is_empty() {
        return String::new();
    }
    let SnatPorts { in_use, resting, reused_early, exhausted, .. } = ports;
    format!(
        "snat ports     {in_use} in use, {resting} resting; {reused_early} reused early, \
         {exhausted} flows refused for want of one\n"
    )
}

/// What ought not to happen and is no packet's fate; empty if it never did.
fn losses(status: &Status) -> String {
    let records = "records of the connection log: the disk is too slow, or refuses them";
    let losses = [
        ("lost", status.lost_log_records, records),
        ("refused", status.refused_table_inserts, "inserts into tables that were full"),
    ];
    let refused = status.refused_addresses.iter();
    let refused = refused.map(|why| format!("{:<15}new addresses of names: {why}\n", "refused"));
    let lines = losses.iter().filter(|(_, count, _)| *count > 0);
    let lines = lines.map(|(label, count, what)| format!("{label:<15}{count} {what}\n"));
    lines.chain(refused).collect()
}

fn services(status: &Status) -> Columns {
    let headings = ["VIRTUAL SERVICE", "ADDRESS", "", "POOL", "FLOWS", "NEW/S", "DATASCRIPTS"];
    let mut columns = Columns::new(headings);
    for service in &status.virtual_services {
        columns.push([
            service.name.clone(),
            service.address.to_string(),
            service.protocol.clone(),
            service.pool.clone().unwrap_or_else(|| "-".to_owned()),
            service.connections.to_string(),
            service.rate.to_string(),
            service.datascripts.join(", "),
        ]);
    }
    columns
}

fn pools(status: &Status) -> Columns {
    let mut columns = Columns::new(["POOL", "ALGORITHM", "MODE", "UP", "FLOWS", "NEW/S"]);
    for pool in &status.pools {
        let up = pool.servers.iter().filter(|server| server.state.is_up()).count();
        let is_there = |server: &&ServerStatus| server.state != ServerState::Removed;
        let configured = pool.servers.iter().filter(is_there).count();
        let flows: u64 = pool.servers.iter().map(|server| u64::from(server.connections)).sum();
        let rate: f64 = pool.servers.iter().map(|server| server.rate).sum();
        columns.push([
            pool.name.clone(),
            pool.algorithm.clone(),
            pool.forwarding.clone(),
            format!("{up} of {configured}"),
            flows.to_string(),
            format!("{}", (rate * 10.0).round() / 10.0),
        ]);
    }
    columns
}

fn servers(status: &Status) -> Columns {
    let headings = ["POOL", "SERVER", "STATE", "SINCE", "FLOWS", "NEW/S", "WHY"];
    let mut columns = Columns::new(headings);
    let now = SystemTime::now();
    for pool in &status.pools {
        if pool.servers.is_empty() {
            let row = [&pool.name, "-", "no servers", "-", "-", "-", ""];
            columns.push(row.map(str::to_owned));
        }
        for server in &pool.servers {
            columns.push([
                pool.name.clone(),
                server.address.to_string(),
                state(server),
                ago(&server.since, now),
                server.connections.to_string(),
                server.rate.to_string(),
                why(server),
            ]);
        }
    }
    columns
}

/// The names among the servers, with an empty line before them; empty if there are none.
fn names(status: &Status) -> String {
    let mut columns = Columns::new(["NAME", "POOL", "ADDRESSES", "RESOLVED", "ASKED NEXT", ""]);
    let mut any = false;
    for pool in &status.pools {
        for name in &pool.names {
            any = true;
            let or_dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
            columns.push([
                format!("{}:{}", name.host, name.port),
                pool.name.clone(),
                addresses(name),
                or_dash(&name.resolved),
                or_dash(&name.next),
                remarks(name),
            ]);
        }
    }
    if any { format!("\n{columns}") } else { String::new() }
}

fn addresses(name: &NameStatus) -> String {
    /// More than that would make the column too wide; JSON has them all.
    const SHOWN: usize = 4;
    let shown = name.addresses.iter().take(SHOWN).map(ToString::to_string);
    let mut shown: Vec<_> = shown.collect();
    match name.addresses.len() {
        0 => shown.push("-".to_owned()),
        many if many > SHOWN => shown.push(format!("and {} more", many - SHOWN)),
        _ => {}
    }
    shown.join(", ")
}

/// Why a name cannot be resolved, and which of its addresses are no servers.
fn remarks(name: &NameStatus) -> String {
    let kept = if name.addresses.is_empty() { "" } else { "; the last addresses stay" };
    let error = name.error.as_ref().map(|error| {
        let since = name.failing_since.as_deref().unwrap_or("-");
        format!("{error} ({} times since {since}{kept})", name.failures)
    });
    let left_out = name.left_out.iter().map(|why| format!("no server: {why}"));
    error.into_iter().chain(left_out).collect::<Vec<_>>().join("; ")
}

/// Why its state is as it is, and what keeps packets from it.
fn why(server: &ServerStatus) -> String {
    // A MAC is no news.
    match server.next_hop.as_str() {
        mac if mac.split(':').count() == 6 => server.why.clone(),
        trouble => format!("{}; next hop {trouble}", server.why),
    }
}

fn state(server: &ServerStatus) -> String {
    let share = match server.share {
        less if less < 100 && server.state.is_up() => format!(" {less} %"),
        _ => String::new(),
    };
    let full = if server.full { ", full" } else { "" };
    format!("{}{share}{full}", server.state.name())
}

/// How long ago something began, in its largest unit and the next.
fn ago(since: &str, now: SystemTime) -> String {
    let Ok(since) = humantime::parse_rfc3339(since) else { return since.to_owned() };
    let seconds = now.duration_since(since).unwrap_or_default().as_secs();
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m {}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h {}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d {}h", seconds / 86_400, seconds / 3600 % 24),
    }
}

/// What never happened is not worth a line.
fn events(status: &Status) -> Columns {
    let mut columns = Columns::new(["PACKETS", "COUNT"]);
    for (event, count) in status.events.iter().filter(|(_, count)| **count > 0) {
        columns.push([event.clone(), count.to_string()]);
    }
    columns
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn spans_are_told_in_two_units() {
        let now = humantime::parse_rfc3339("2026-01-10T00:00:00Z").unwrap();
        let cases = [(0, "0s"), (59, "59s"), (61, "1m 1s"), (7260, "2h 1m"), (180_000, "2d 2h")];
        for (seconds, expected) in cases {
            let since = humantime::format_rfc3339(now - Duration::from_secs(seconds)).to_string();
            assert_eq!(ago(&since, now), expected);
        }
        assert_eq!(ago("2027-01-01T00:00:00Z", now), "0s");
    }
}
