//! What `lb flows --json` prints, as far as the demo shows it.

use std::collections::BTreeSet;

use serde_json::Value;

/// A field of a flow as text; a dash when it has none.
pub fn text(flow: &Value, field: &str) -> String {
    match &flow[field] {
        Value::String(text) => text.clone(),
        Value::Null => "–".to_owned(),
        other => other.to_string(),
    }
}

/// A field of a flow as a number; 0 when it has none.
pub fn number(flow: &Value, field: &str) -> u64 {
    flow[field].as_u64().unwrap_or_default()
}

/// The flows that came from an address to a virtual service.
pub fn of<'a>(
    flows: &'a [Value],
    service: &'a str,
    client: &'a str,
) -> impl Iterator<Item = &'a Value> {
    flows.iter().filter(move |flow| {
        let source = text(flow, "client");
        let address = source.rsplit_once(':').map_or(source.as_str(), |(address, _port)| address);
        text(flow, "virtual_service") == service && address == client
    })
}

/// Why flows went where they went: each reason once.
pub fn reasons<'a>(flows: impl Iterator<Item = &'a Value>) -> String {
    let reasons: BTreeSet<_> = flows.map(reason).collect();
    reasons.into_iter().collect::<Vec<_>>().join(", ")
}

fn reason(flow: &Value) -> String {
    match flow["script"].as_str() {
        Some(script) => {
            let file = script.rsplit('/').next().unwrap_or(script);
            format!("{file}, line {}", text(flow, "line"))
        }
        None => text(flow, "decided_by"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn flows_are_told_apart_by_client_and_service() {
        let flow = |client, service, line| {
            json!({
                "client": client, "virtual_service": service, "script": "/folder/a.lua", "line": line,
            })
        };
        let flows = [
            flow("192.0.2.1:4000", "web", 3),
            flow("192.0.2.1:4001", "web", 3),
            flow("192.0.2.1:4002", "dns", 7),
            flow("192.0.2.10:4000", "web", 9),
        ];
        assert_eq!(reasons(of(&flows, "web", "192.0.2.1")), "a.lua, line 3");
        assert_eq!(of(&flows, "web", "192.0.2.10").count(), 1);
    }

    #[test]
    fn without_a_script_the_reason_is_what_decided() {
        let flow = json!({ "decided_by": "algorithm", "script": null });
        assert_eq!(reasons([flow].iter()), "algorithm");
    }
}
