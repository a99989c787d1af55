//! Query parameters of the admin API.

use anyhow::Result;
use serde::Serialize;
use serde_json::Value;

/// A structure's fields as a query, with its `?`; empty if there are none.
pub fn query(fields: &impl Serialize) -> Result<String> {
    let fields = serde_json::to_value(fields)?;
    let pairs = fields.as_object().into_iter().flatten();
    let pairs = pairs.map(|(key, value)| match value {
        Value::String(text) => format!("{key}={}", escaped(text)),
        other => format!("{key}={other}"),
    });
    let joined = pairs.collect::<Vec<_>>().join("&");
    Ok(if joined.is_empty() { joined } else { format!("?{joined}") })
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::api::FlowFilter;

    #[test]
    fn a_filter_becomes_a_query() {
        let filter = FlowFilter {
            client: Some("10.0.0.1:80".to_owned()),
            limit: Some(3),
            ..FlowFilter::default()
        };
        assert_eq!(query(&filter).unwrap(), "?client=10.0.0.1%3A80&limit=3");
        assert_eq!(query(&FlowFilter::default()).unwrap(), "");
    }
}
