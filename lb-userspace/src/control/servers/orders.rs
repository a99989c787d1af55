//! What operators order of servers, and how the admin API takes it.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use axum::{
    Json,
    extract::{Query, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use tracing::info;

use super::{
    Known, Servers,
    tenure::Ordered,
    view::{ServerStatus, Sources},
};
use crate::{
    config::nearest,
    control::api::{Api, Request, ask, unavailable},
};

/// Which server.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Which {
    /// Its pool.
    pub pool: String,
    /// `address:port`, or the address if the pool has it once.
    pub server: String,
}

/// An order.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewOrder {
    /// What is to become of the server.
    pub order: Action,
    /// How long its flows go on: `"5m"`, `0` for not at all, `-1` for as long as they last. Without
    /// it, `drain` lets them last, and `disable` does as the pool says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Patience>,
    /// New flows of clients whom persistence leads there are still taken.
    #[serde(default)]
    pub persistent: bool,
}

/// What may be ordered.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// It takes flows.
    Enable,
    /// It takes none, as if the configuration disabled it.
    Disable,
    /// It takes none, and those that it has go on.
    Drain,
}

/// How long flows go on; `None` for as long as they last.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "String")]
pub struct Patience(pub Option<Duration>);

/// As it is written.
#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Number(i64),
    Text(String),
}

impl std::str::FromStr for Patience {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "0" => Ok(Self(Some(Duration::ZERO))),
            "-1" => Ok(Self(None)),
            _ => humantime::parse_duration(text).map(|duration| Self(Some(duration))).map_err(
                |error| format!("{error}; write \"30s\" or \"5m\", 0 for at once, -1 for ever"),
            ),
        }
    }
}

impl TryFrom<Written> for Patience {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        match written {
            Written::Number(number) => number.to_string().parse(),
            Written::Text(text) => text.parse(),
        }
    }
}

impl From<Patience> for String {
    fn from(Patience(patience): Patience) -> Self {
        match patience {
            None => "-1".to_owned(),
            Some(Duration::ZERO) => "0".to_owned(),
            Some(duration) => humantime::format_duration(duration).to_string(),
        }
    }
}

/// A server, after an order or without one.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct OneServer {
    /// Its pool.
    pub pool: String,
    /// Whether the order has changed anything.
    pub changed: bool,
    /// How it is now.
    pub server: ServerStatus,
}

/// Why an order is not carried out.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refusal {
    /// There is no such pool.
    #[error("there is no pool {wanted:?}; {help}")]
    NoPool {
        /// That was named.
        wanted: String,
        /// What there is.
        help: String,
    },
    /// There is no such server.
    #[error("pool {pool:?} has no server {wanted:?}; it has {there}")]
    NoServer {
        /// The pool.
        pool: String,
        /// That was named.
        wanted: String,
        /// What it has.
        there: String,
    },
    /// The address does not tell.
    #[error("pool {pool:?} has several servers at {wanted}: say which of {there}")]
    Several {
        /// The pool.
        pool: String,
        /// The address.
        wanted: String,
        /// Where.
        there: String,
    },
    /// It cannot be ordered about.
    #[error(
        "server {server} is not in the configuration any more; its flows go on as \
         graceful_disable_timeout says"
    )]
    Removed {
        /// The server.
        server: SocketAddr,
    },
    /// Contradictory.
    #[error("{0}")]
    Senseless(&'static str),
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = match self {
            Self::NoPool { .. } | Self::NoServer { .. } => StatusCode::NOT_FOUND,
            Self::Several { .. } | Self::Senseless(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Removed { .. } => StatusCode::CONFLICT,
        };
        (status, self.to_string()).into_response()
    }
}

/// What the control loop is asked.
#[derive(Debug)]
pub struct Asked {
    /// Which server.
    pub which: Which,
    /// An order, if there is one.
    pub order: Option<NewOrder>,
    /// Where the answer goes.
    pub answer: oneshot::Sender<Result<OneServer, Refusal>>,
}

/// `GET /v1/server`.
pub async fn get(State(api): State<Api>, Query(which): Query<Which>) -> Response {
    answer(&api, which, None).await
}

/// `PUT /v1/server/order`.
pub async fn put(
    State(api): State<Api>,
    Query(which): Query<Which>,
    Json(order): Json<NewOrder>,
) -> Response {
    answer(&api, which, Some(order)).await
}

async fn answer(api: &Api, which: Which, order: Option<NewOrder>) -> Response {
    match ask(api, |answer| Request::Server(Asked { which, order, answer })).await {
        Some(Ok(server)) => Json(server).into_response(),
        Some(Err(refusal)) => refusal.into_response(),
        None => unavailable(),
    }
}

impl Servers {
    /// Does what an operator wants, and says how the server is then.
    pub fn answer(&mut self, asked: Asked, sources: &Sources<'_>) {
        let result = self.obey(&asked.which, asked.order.as_ref(), sources);
        let _ = asked.answer.send(result);
    }

    fn obey(
        &mut self,
        which: &Which,
        order: Option<&NewOrder>,
        sources: &Sources<'_>,
    ) -> Result<OneServer, Refusal> {
        let number = self.find(which)?;
        let changed = match order {
            Some(order) => self.order(number, order, sources)?,
            None => false,
        };
        if changed {
            self.apply(sources.now.monotonic);
            self.save(sources.generation);
            // One that the configuration disables is watched from now on, or no longer.
            sources.health.follow(&sources.generation.config, sources.generation.server_numbers());
        }
        self.follow_states(sources);
        let server = self.view(number, sources);
        let server = server.ok_or_else(|| self.no_server(which))?;
        Ok(OneServer { pool: which.pool.clone(), changed, server })
    }

    fn order(
        &mut self,
        number: u32,
        order: &NewOrder,
        sources: &Sources<'_>,
    ) -> Result<bool, Refusal> {
        let Some(known) = self.known.get_mut(&number) else { return Ok(false) };
        if known.tenure.enabled().is_none() {
            return Err(Refusal::Removed { server: known.address });
        }
        let wanted = order.wanted(known)?;
        let changed = known.tenure.order(wanted, sources.now);
        if changed == Some(true) {
            self.states.rise(number);
        }
        if changed.is_some() {
            let (pool, server) = (&known.pool, known.address);
            info!(pool, %server, "{} by order", order.order.done());
        }
        Ok(changed.is_some())
    }

    /// The number of a server.
    pub(super) fn find(&self, which: &Which) -> Result<u32, Refusal> {
        if !self.known.values().any(|known| known.pool == which.pool) {
            return Err(self.no_pool(&which.pool));
        }
        let of_pool = self.known.iter().filter(|(_, known)| known.pool == which.pool);
        if let Ok(address) = which.server.parse::<SocketAddr>() {
            let found = of_pool.into_iter().find(|(_, known)| known.address == address);
            return found.map(|(number, _)| *number).ok_or_else(|| self.no_server(which));
        }
        let Ok(address) = which.server.parse::<IpAddr>() else { return Err(self.no_server(which)) };
        let found: Vec<_> = of_pool.filter(|(_, known)| known.address.ip() == address).collect();
        match found[..] {
            [(number, _)] => Ok(*number),
            [] => Err(self.no_server(which)),
            _ => Err(Refusal::Several {
                pool: which.pool.clone(),
                wanted: which.server.clone(),
                there: listed(found.iter().map(|(_, known)| known.address)),
            }),
        }
    }

    fn no_pool(&self, wanted: &str) -> Refusal {
        let mut names: Vec<_> = self.known.values().map(|known| known.pool.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        let help = match nearest(wanted, names.iter().copied()) {
            Some(name) => format!("did you mean {name:?}?"),
            None => format!("there are {}", names.join(", ")),
        };
        Refusal::NoPool { wanted: wanted.to_owned(), help }
    }

    fn no_server(&self, which: &Which) -> Refusal {
        let of_pool = self.known.values().filter(|known| known.pool == which.pool);
        let there = listed(of_pool.map(|known| known.address));
        Refusal::NoServer { pool: which.pool.clone(), wanted: which.server.clone(), there }
    }
}

/// As many as can be read.
fn listed(addresses: impl Iterator<Item = SocketAddr>) -> String {
    const MOST: usize = 20;
    let mut all: Vec<_> = addresses.collect();
    all.sort_unstable();
    let shown: Vec<_> = all.iter().take(MOST).map(ToString::to_string).collect();
    let more = all.len().saturating_sub(MOST);
    let shown = shown.join(", ");
    if more == 0 { shown } else { format!("{shown} and {more} more") }
}

impl NewOrder {
    pub(super) fn wanted(&self, known: &Known) -> Result<Ordered, Refusal> {
        let timeout = self.timeout.map(|Patience(patience)| patience);
        let disabled = known.tenure.disabled();
        match (self.order, disabled) {
            (Action::Enable, _) if self.timeout.is_some() || self.persistent => {
                Err(Refusal::Senseless("\"enable\" takes neither \"timeout\" nor \"persistent\""))
            }
            (Action::Disable, Ordered::Disable { persistent, patience }) => Ok(Ordered::Disable {
                persistent: persistent || self.persistent,
                patience: timeout.unwrap_or(patience),
            }),
            (Action::Drain, _) => Ok(Ordered::Disable {
                persistent: self.persistent,
                patience: timeout.unwrap_or_default(),
            }),
            (Action::Enable | Action::Disable, _) => Ok(Ordered::Enable),
        }
    }
}

impl Action {
    /// What has become of a server.
    fn done(self) -> &'static str {
        match self {
            Self::Enable => "enabled",
            Self::Disable => "disabled",
            Self::Drain => "drained",
        }
    }
}
