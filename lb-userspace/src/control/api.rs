//! The admin API: HTTP over a Unix socket, JSON in and out.
//!
//! | request | answer |
//! |---|---|
//! | `GET /v1/status` | [`Status`] |
//! | `GET /v1/flows` | flows; filters and `limit` as query parameters, see [`FlowFilter`] |
//! | `GET /v1/server` | one server, see [`OneServer`]; which one as query parameters, see [`Which`] |
//! | `PUT /v1/server/order` | drains, disables or enables it: a [`NewOrder`]; shows it, and whether anything has changed |
//! | `GET /v1/tables` | scripts' tables, see [`TableView`]; filters as query parameters, see [`TableFilter`] |
//! | `GET /v1/tables/entry` | the [`EntryView`] at a [`Place`], given as query parameters; its lifetime stays |
//! | `PUT /v1/tables/entry` | stores a [`NewEntry`] there, whatever was there, and shows it |
//! | `DELETE /v1/tables/entry` | takes it out: 204 |
//! | `GET /v1/explain` | what was or would be decided about a flow, see [`explain::Asked`] and [`explain::Said`] |
//! | `GET /metrics` | counters and gauges, OpenMetrics text |
//! | `POST /v1/reload` | reads the configuration anew; 422 and the problems if it is refused |
//! | `POST /v1/stop?detach=true` | stops the daemon, with or without the data path |
//!
//! Tables answer 404 if there is no such service, table or key, 400 if text has a bad escape, 422
//! if key or value are longer than configured, 507 if a table is full. Every refusal says why, as
//! text for a person.
//!
//! Servers answer 404 if there is no such pool or server, 409 if it is not in the configuration any
//! more, 422 if the address alone does not tell which is meant. An order outlives reloads and the
//! daemon, until the configuration's own word on the server changes.
//!
//! [`OneServer`]: super::servers::orders::OneServer
//! [`Which`]: super::servers::orders::Which
//! [`NewOrder`]: super::servers::orders::NewOrder
//! [`TableView`]: super::tables::TableView
//! [`TableFilter`]: super::tables::TableFilter
//! [`EntryView`]: super::tables::EntryView
//! [`Place`]: super::tables::Place
//! [`NewEntry`]: super::tables::NewEntry

use std::{net::SocketAddr, sync::Arc};

use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, Query, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post, put},
};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

use super::{
    explain, metrics,
    servers::orders::{self, Asked},
    status::Status,
    tables,
};
use crate::{
    config::Config,
    engine::{Explanation, FirstPacket, FlowView, Found, Shared},
    worker,
};

/// What the API asks of the control loop.
pub enum Request {
    /// How things are.
    Status(oneshot::Sender<Status>),
    /// What would become of a flow; if nothing listens there, what does.
    Explain {
        /// Its first packet.
        flow: FirstPacket,
        /// The worker that would get it.
        worker: u16,
        /// Where the answer goes.
        answer: oneshot::Sender<Result<Explanation, String>>,
    },
    /// The configuration in force.
    Config(oneshot::Sender<Arc<Config>>),
    /// How a server is, or an order about it.
    Server(Asked),
    /// Read the configuration anew.
    Reload(oneshot::Sender<Result<u32, String>>),
    /// Stop.
    Stop {
        /// Also take the data path down.
        detach: bool,
        /// Answered before the daemon ends.
        answer: oneshot::Sender<()>,
    },
}

/// What handlers work with.
#[derive(Clone)]
pub struct Api {
    /// Read at will: flows and tables.
    pub shared: Arc<Shared>,
    /// Everything else is the control loop's.
    pub requests: mpsc::Sender<Request>,
}

/// Which flows are wanted.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, clap::Args)]
pub struct FlowFilter {
    /// Only of this client: an address, or address:port
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// Only to this server: an address, or address:port
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// Only of this virtual service
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// Only of this pool
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
    /// Only `tcp` or only `udp`
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    /// At most this many
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

/// The routes.
pub fn router(api: Api) -> Router {
    Router::new()
        .route("/v1/status", get(status))
        .route("/v1/flows", get(flows))
        .route("/v1/server", get(orders::get))
        .route("/v1/server/order", put(orders::put))
        .route("/v1/tables", get(tables::list))
        .route("/v1/tables/entry", get(tables::get).put(tables::put).delete(tables::delete))
        .route("/v1/explain", get(explain::handle))
        .route("/v1/reload", post(reload))
        .route("/v1/stop", post(stop))
        .route("/metrics", get(open_metrics))
        // Values may be large, and nobody but root sends any.
        .layer(DefaultBodyLimit::disable())
        .with_state(api)
}

/// The control loop is gone or going.
pub(super) fn unavailable() -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, "the daemon is stopping").into_response()
}

pub(super) async fn ask<T>(
    api: &Api,
    request: impl FnOnce(oneshot::Sender<T>) -> Request,
) -> Option<T> {
    let (sender, answer) = oneshot::channel();
    api.requests.send(request(sender)).await.ok()?;
    answer.await.ok()
}

async fn status(State(api): State<Api>) -> Response {
    ask(&api, Request::Status).await.map_or_else(unavailable, |status| Json(status).into_response())
}

async fn reload(State(api): State<Api>) -> Response {
    match ask(&api, Request::Reload).await {
        Some(Ok(generation)) => generation.to_string().into_response(),
        Some(Err(problems)) => (StatusCode::UNPROCESSABLE_ENTITY, problems).into_response(),
        None => unavailable(),
    }
}

#[derive(Deserialize)]
struct Stop {
    #[serde(default)]
    detach: bool,
}

async fn stop(State(api): State<Api>, Query(Stop { detach }): Query<Stop>) -> Response {
    let stopped = ask(&api, |answer| Request::Stop { detach, answer }).await;
    stopped.map_or_else(unavailable, |()| "stopping".into_response())
}

async fn flows(State(api): State<Api>, Query(filter): Query<FlowFilter>) -> Response {
    in_background(move || list_flows(&api.shared, &filter)).await
}

/// Answers with what may take a while to read and to write as text: neither is done on the control
/// loop's thread.
pub(super) async fn in_background<T: Serialize>(
    read: impl FnOnce() -> T + Send + 'static,
) -> Response {
    let text = tokio::task::spawn_blocking(move || serde_json::to_vec(&read())).await;
    match text {
        Ok(Ok(text)) => ([(header::CONTENT_TYPE, "application/json")], text).into_response(),
        _ => unavailable(),
    }
}

/// Reads the flow table.
pub fn list_flows(shared: &Shared, filter: &FlowFilter) -> Vec<FlowView> {
    let now = worker::now().monotonic;
    let found = shared.flows.slots().filter_map(|id| Found::at(&shared.flows, id));
    let views = found.map(|found| found.view(&shared.catalog, shared.notes.get(found.id), now));
    views.filter(|view| filter.admits(view)).take(filter.limit.unwrap_or(usize::MAX)).collect()
}

impl FlowFilter {
    /// Whether a flow is wanted.
    pub fn admits(&self, flow: &FlowView) -> bool {
        is_address(self.client.as_deref(), Some(flow.client))
            && is_address(self.server.as_deref(), flow.server)
            && is_name(self.service.as_deref(), flow.virtual_service.as_deref())
            && is_name(self.pool.as_deref(), flow.pool.as_deref())
            && is_name(self.protocol.as_deref(), Some(flow.protocol))
    }
}

fn is_address(wanted: Option<&str>, address: Option<SocketAddr>) -> bool {
    let Some(wanted) = wanted else { return true };
    address.is_some_and(|a| wanted == a.to_string() || wanted == a.ip().to_string())
}

fn is_name(wanted: Option<&str>, name: Option<&str>) -> bool {
    wanted.is_none() || wanted == name
}

async fn open_metrics(State(api): State<Api>) -> Response {
    let status = ask(&api, Request::Status).await;
    let text = status.and_then(|status| metrics::exposition(status).ok());
    let kind = [(header::CONTENT_TYPE, metrics::MEDIA_TYPE)];
    text.map_or_else(unavailable, |text| (kind, text).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_wanted_with_its_port_or_without() {
        let address = Some(SocketAddr::from(([10, 0, 0, 1], 80)));
        assert!(is_address(Some("10.0.0.1"), address));
        assert!(is_address(Some("10.0.0.1:80"), address));
        assert!(!is_address(Some("10.0.0.1:81"), address));
        assert!(!is_address(Some("10.0.0.1"), None));
        assert!(is_address(None, None));
    }
}
