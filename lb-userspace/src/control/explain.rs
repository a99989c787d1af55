//! What is said about one flow: what was decided, or what would be.

use std::{
    net::SocketAddr,
    time::{Duration, SystemTime},
};

use axum::{
    Json,
    extract::{Query, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use lb_common::address::Protocol;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::api::{Api, Request};
use crate::{
    config::Config,
    engine::{Explanation, FirstPacket, Found, Shared, log},
    worker,
};

/// How long an answer may take: a worker may be busy with a script.
const PATIENCE: Duration = Duration::from_secs(10);

/// The flow that is asked about, as query parameters.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Asked {
    /// `tcp` or `udp`.
    pub protocol: String,
    /// Who begins it.
    pub client: SocketAddr,
    /// Where to.
    pub vip: SocketAddr,
    /// Its first payload, in hexadecimal digits.
    #[serde(default)]
    pub payload: String,
    /// The worker that would get it.
    #[serde(default)]
    pub worker: u16,
}

/// What there is to say.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Said {
    /// The flow exists: this was decided.
    Existing {
        /// When, RFC 3339.
        decided: String,
        /// The flow, as `lb flows` lists it.
        flow: Box<Value>,
    },
    /// It does not: this would be decided.
    Would(Box<Explanation>),
}

impl TryFrom<&Asked> for FirstPacket {
    type Error = String;

    fn try_from(asked: &Asked) -> Result<Self, String> {
        let protocol = [Protocol::Tcp, Protocol::Udp]
            .into_iter()
            .find(|protocol| protocol.name() == asked.protocol)
            .ok_or_else(|| format!("the protocol is tcp or udp, not {:?}", asked.protocol))?;
        let payload = from_hex(&asked.payload)
            .ok_or("the payload is given in pairs of hexadecimal digits, such as \"16 03 01\"")?;
        Ok(Self { protocol, client: asked.client, vip: asked.vip, payload })
    }
}

/// Bytes from pairs of hexadecimal digits, with spaces and colons between them at will.
fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> = text
        .chars()
        .filter(|c| !c.is_whitespace() && *c != ':')
        .map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
        .collect();
    let digits = digits.filter(|digits| digits.len().is_multiple_of(2))?;
    Some(digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

/// What is known of a flow that exists.
pub fn existing(shared: &Shared, flow: &FirstPacket) -> Option<Said> {
    let found = Found::of(&shared.flows, flow.protocol, flow.client, flow.vip)?;
    let now = worker::now();
    let view = found.view(&shared.catalog, shared.notes.get(found.id), now.monotonic);
    let age = now.monotonic.saturating_sub(Duration::from_nanos(found.record.created));
    let decided = now.wall.checked_sub(age).unwrap_or(SystemTime::UNIX_EPOCH);
    let flow = serde_json::to_value(view).ok()?;
    Some(Said::Existing { decided: log::timestamp(decided), flow: Box::new(flow) })
}

/// That nothing listens there, and what does listen.
pub fn nobody_listens(config: &Config, flow: &FirstPacket) -> String {
    let services = config.virtual_services.iter().map(|service| {
        let (protocol, address) = (service.protocol().name(), service.address);
        format!("\n  {} ({protocol} {address})", service.name)
    });
    let (protocol, vip) = (flow.protocol.name(), flow.vip);
    let list: String = services.collect();
    format!("no virtual service listens on {protocol} {vip}; there are:{list}")
}

/// `GET /v1/explain`.
pub(super) async fn handle(State(api): State<Api>, Query(asked): Query<Asked>) -> Response {
    let flow = match FirstPacket::try_from(&asked) {
        Ok(flow) => flow,
        Err(wrong) => return (StatusCode::BAD_REQUEST, wrong).into_response(),
    };
    if let Some(said) = existing(&api.shared, &flow) {
        return Json(said).into_response();
    }
    let (answer, explained) = tokio::sync::oneshot::channel();
    let request = Request::Explain { flow, worker: asked.worker, answer };
    let _ = api.requests.send(request).await;
    match tokio::time::timeout(PATIENCE, explained).await {
        Ok(Ok(Ok(explanation))) => Json(Said::Would(Box::new(explanation))).into_response(),
        Ok(Ok(Err(why))) => (StatusCode::NOT_FOUND, why).into_response(),
        Ok(Err(_)) => (StatusCode::SERVICE_UNAVAILABLE, "the daemon is stopping").into_response(),
        Err(_) => {
            let late = format!("worker {} did not answer in time", asked.worker);
            (StatusCode::GATEWAY_TIMEOUT, late).into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_is_given_in_hexadecimal_digits() {
        assert_eq!(from_hex(""), Some(vec![]));
        assert_eq!(from_hex("16 03:01fF"), Some(vec![0x16, 3, 1, 0xff]));
        for text in ["1", "1g", "é0", "16 03 0"] {
            assert_eq!(from_hex(text), None, "{text}");
        }
    }
}
