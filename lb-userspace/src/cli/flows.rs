//! `lb flows`.

use std::time::Duration;

use anyhow::Result;
use serde_json::Value;

use super::{client, columns::Columns, query::query, target::Target};
use crate::{
    control::api::FlowFilter,
    datapath::{Pins, open_pinned},
    engine::{Found, log::Note},
    flow_table::{Catalog, FlowTable},
    worker,
};

/// Prints the flows that the filter admits.
pub fn show(target: &Target, filter: &FlowFilter, json: bool) -> Result<()> {
    let socket = target.socket()?;
    let flows: Vec<Value> = match client::get(&socket, &format!("/v1/flows{}", query(filter)?)) {
        Ok(flows) => flows,
        // The daemon may be gone while its flows go on: they are in pinned memory.
        Err(no_daemon) => pinned(&target.instance()?, filter).map_err(|error| {
            no_daemon.context(format!("and the pinned maps cannot be read: {error}"))
        })?,
    };
    if json {
        println!("{}", serde_json::to_string_pretty(&flows)?);
    } else {
        print!("{}", columns(&flows));
    }
    Ok(())
}

/// Reads the pinned table of an instance without a daemon. What scripts logged is not in it.
fn pinned(instance: &str, filter: &FlowFilter) -> Result<Vec<Value>> {
    let (geometry, table, names) = open_pinned(&Pins::new(instance))?;
    let table = FlowTable::new(geometry, Box::new(table));
    let catalog = Catalog::new(names.read()?, Box::new(()));
    let now: Duration = worker::now().monotonic;
    let found = table.slots().filter_map(|id| Found::at(&table, id));
    let views = found.map(|found| found.view(&catalog, Note::default(), now));
    let views = views.filter(|view| filter.admits(view));
    let views = views.take(filter.limit.unwrap_or(usize::MAX));
    Ok(views.map(serde_json::to_value).collect::<Result<_, _>>()?)
}

fn columns(flows: &[Value]) -> Columns {
    let mut columns = Columns::new([
        "PROTO",
        "CLIENT",
        "VIP",
        "SERVER",
        "POOL",
        "STATE",
        "DECIDED BY",
        "PACKETS",
        "REPLIES",
        "BYTES",
        "REPLY BYTES",
        "IDLE",
        "BUCKET",
    ]);
    for flow in flows {
        let text = |key: &str| match &flow[key] {
            Value::String(text) => text.clone(),
            Value::Null => "-".to_owned(),
            other => other.to_string(),
        };
        let decided_by = match (&flow["script"], &flow["line"]) {
            (Value::String(script), line) => format!("{} ({script}:{line})", text("decided_by")),
            _ => text("decided_by"),
        };
        columns.push([
            text("protocol"),
            text("client"),
            text("vip"),
            text("server"),
            text("pool"),
            text("state"),
            decided_by,
            text("packets"),
            text("reply_packets"),
            text("bytes"),
            text("reply_bytes"),
            format!("{} s", text("idle_seconds")),
            format!("{}/{}", text("bucket"), text("slot")),
        ]);
    }
    columns
}
