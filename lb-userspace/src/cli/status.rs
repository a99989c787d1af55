//! `lb status`.

use anyhow::Result;

use super::{client, columns::Columns, target::Target};
use crate::{
    control::{
        names::NameStatus,
        status::{SnatPorts, Status},
    },
    health::{MonitorStatus, ServerHealth},
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
    print!("{}", snat_ports(&status.snat_ports));
    print!("{}", losses(status));
    println!();
    print!("{}", services(status));
    println!();
    print!("{}", pools(status));
    print!("{}", names(status));
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
    let mut columns = Columns::new(["VIRTUAL SERVICE", "ADDRESS", "", "POOL", "DATASCRIPTS"]);
    for service in &status.virtual_services {
        columns.push([
            service.name.clone(),
            service.address.to_string(),
            service.protocol.clone(),
            service.pool.clone().unwrap_or_else(|| "-".to_owned()),
            service.datascripts.join(", "),
        ]);
    }
    columns
}

fn pools(status: &Status) -> Columns {
    let mut columns = Columns::new([
        "POOL",
        "ALGORITHM",
        "MODE",
        "SERVER",
        "RATIO",
        "STATE",
        "FLOWS",
        "NEXT HOP",
        "HEALTH",
    ]);
    for pool in &status.pools {
        if pool.servers.is_empty() {
            let [name, algorithm, mode] =
                [&pool.name, &pool.algorithm, &pool.forwarding].map(Clone::clone);
            let nothing = || "-".to_owned();
            columns.push([
                name,
                algorithm,
                mode,
                "no servers".to_owned(),
                nothing(),
                nothing(),
                nothing(),
                nothing(),
                String::new(),
            ]);
        }
        for server in &pool.servers {
            columns.push([
                pool.name.clone(),
                pool.algorithm.clone(),
                pool.forwarding.clone(),
                server.address.to_string(),
                server.ratio.to_string(),
                server.state.name().to_owned(),
                server.connections.to_string(),
                server.next_hop.clone(),
                server.health.as_ref().map(health).unwrap_or_default(),
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

/// What each monitor says, and since when they say together what the state is.
fn health(health: &ServerHealth) -> String {
    let monitor = |monitor: &MonitorStatus| {
        let answer = monitor.answer.as_deref().unwrap_or("not checked yet");
        format!("{}: {answer}", monitor.name)
    };
    let monitors: Vec<_> = health.monitors.iter().map(monitor).collect();
    format!("{} (since {})", monitors.join("; "), health.since)
}

/// What never happened is not worth a line.
fn events(status: &Status) -> Columns {
    let mut columns = Columns::new(["PACKETS", "COUNT"]);
    for (event, count) in status.events.iter().filter(|(_, count)| **count > 0) {
        columns.push([event.clone(), count.to_string()]);
    }
    columns
}
