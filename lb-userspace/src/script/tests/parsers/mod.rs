//! Protocol parsers: `require`, and those that are built in on packets of real clients, on
//! malformed ones, on ones cut anywhere and on ones made at random.

mod dhcp;
mod documentation;
mod radius;
mod random;
mod require;
mod tls;
mod tls_stream;

use super::*;
use crate::config::{BuiltInParser, ParserIndex, ParserReference, ProtocolParser};

/// What a real client has sent: see `packets/README.md`.
macro_rules! packet {
    ($name:literal) => {
        include_bytes!(concat!("../packets/", $name, ".bin")).as_slice()
    };
}
use packet;

/// More than any payload may cost.
const ENOUGH: u64 = 1_000_000;

/// Sets of which each references these parsers; the configured ones are of these names and texts.
fn config_with(
    requests: &[&str],
    references: &[ParserReference],
    files: &[(&str, &str)],
) -> Config {
    let mut config = config(requests, None);
    config.protocol_parsers = files
        .iter()
        .map(|(name, source)| ProtocolParser {
            name: (*name).to_owned(),
            script: Arc::new(Script {
                path: format!("parsers/{}.lua", name.to_lowercase()).into(),
                source: (*source).to_owned(),
            }),
        })
        .collect();
    for set in &mut config.datascripts {
        set.protocol_parsers = references.to_vec();
    }
    config
}

/// All of ours.
fn built_in() -> Vec<ParserReference> {
    BuiltInParser::ALL.into_iter().map(ParserReference::BuiltIn).collect()
}

/// A script that has `parser` and `payload`.
fn on_payload(parser: BuiltInParser, body: &str) -> Bench {
    let name = parser.name();
    let source = format!("local parser = require '{name}' local payload = avi.l4.read()\n{body}");
    Bench::with(config_with(&[&source], &built_in(), &[]), ENOUGH)
}

impl Bench {
    /// What the script logs about a payload.
    fn log_about(&mut self, payload: &[u8]) -> String {
        self.payload = payload.to_vec();
        self.log()
    }
}
