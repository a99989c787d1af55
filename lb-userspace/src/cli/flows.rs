//! `lb flows`.

use std::time::Duration;

use anyhow::Result;
use serde_json::Value;

use super::{client, columns::Columns, target::Target};
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
    let query = serde_json::to_value(filter)?;
    let flows: Vec<Value> =
        match client::get(&socket, &format!("/v1/flows{}", query_string(&query))) {
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

/// A query string of an object's fields.
pub fn query_string(query: &Value) -> String {
    let pairs = query.as_object().into_iter().flatten();
    let pairs = pairs.map(|(key, value)| match value {
        Value::String(text) => format!("{key}={}", escaped(text)),
        other => format!("{key}={other}"),
    });
    let joined = pairs.collect::<Vec<_>>().join("&");
    if joined.is_empty() { joined } else { format!("?{joined}") }
}

/// Percent-encoding of a query parameter (RFC 3986 §2.1).
fn escaped(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
            char::from(byte).to_string()
        }
        other => format!("%{other:02X}"),
    };
    text.bytes().map(byte).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_becomes_a_query() {
        let filter = FlowFilter {
            client: Some("10.0.0.1:80".to_owned()),
            limit: Some(3),
            ..FlowFilter::default()
        };
        let query = query_string(&serde_json::to_value(&filter).unwrap());
        assert_eq!(query, "?client=10.0.0.1%3A80&limit=3");
        assert_eq!(query_string(&serde_json::to_value(FlowFilter::default()).unwrap()), "");
    }
}
