//! Scripts' tables in the admin API.
//!
//! Keys, values and names may be any bytes; [`notation`](crate::table::notation) says how they are text.

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    extract::{Query, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};

use super::api::{Api, Request, ask, in_background, unavailable};
use crate::{
    config::Config,
    engine::Shared,
    table::{
        DEFAULT_LIFETIME, Found, Listed, Table, Value,
        notation::{BadEscape, bytes, printable},
    },
    worker,
};

/// Which tables and entries are wanted.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, clap::Args)]
pub struct TableFilter {
    /// Only of this virtual service
    #[arg(long, value_name = "NAME")]
    #[serde(rename = "virtual_service", skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// Only of the table of this name; '' is the default table
    #[arg(long, value_name = "NAME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub table: Option<String>,
    /// Only keys that begin so
    #[arg(long, value_name = "TEXT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// At most this many entries
    #[arg(long, value_name = "COUNT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

/// A script's table.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct TableView {
    /// The virtual service that it belongs to.
    pub virtual_service: String,
    /// Its name; empty for the default table.
    pub table: String,
    /// Inserts that found it full.
    pub refused_inserts: u64,
    /// Its entries, in the order of their keys.
    pub entries: Vec<EntryView>,
}

/// An entry of a table.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct EntryView {
    /// The key.
    pub key: String,
    /// A string or a number; null for a number that JSON has none for: infinite, or not a number.
    pub value: serde_json::Value,
    /// Seconds until it expires, rounded up.
    pub remaining_seconds: u64,
}

/// Where an entry is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Place {
    /// The virtual service that the table belongs to.
    pub virtual_service: String,
    /// The table's name; empty for the default table.
    #[serde(default)]
    pub table: String,
    /// The key.
    pub key: String,
}

/// What is to be stored.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewEntry {
    /// A string or a number.
    pub value: NewValue,
    /// Seconds until it expires.
    #[serde(default = "default_lifetime")]
    pub lifetime: u32,
}

/// A value to store.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub enum NewValue {
    /// A Lua number.
    Number(f64),
    /// A string.
    Text(String),
}

fn default_lifetime() -> u32 {
    u32::try_from(DEFAULT_LIFETIME.as_secs()).unwrap_or(u32::MAX)
}

/// Why a request cannot be granted.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("{0}")]
    BadEscape(#[from] BadEscape),
    #[error("the daemon is stopping")]
    Stopping,
    #[error("there is no virtual service {wanted:?}; there are: {known}")]
    NoService { wanted: String, known: String },
    #[error("{service} has no {table}; scripts have made: {known}")]
    NoTable { service: String, table: String, known: String },
    #[error("{table} of {service} has no key {key:?}")]
    NoKey { service: String, table: String, key: String },
    #[error("the {what} has {length} bytes, {setting} of [instance.tables] allows {limit}")]
    TooLong { what: &'static str, length: usize, setting: &'static str, limit: usize },
    #[error("a lifetime is a second at least")]
    NoLifetime,
    #[error(
        "{table} of {service} is full: it has {limit} entries, as many as `entries` of \
         [instance.tables] allows, and what lives is not evicted"
    )]
    Full { service: String, table: String, limit: usize },
    #[error("no more tables can be made: there are {} already", crate::table::MAX_TABLES)]
    TooManyTables,
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = match self {
            Self::BadEscape(_) => StatusCode::BAD_REQUEST,
            Self::Stopping => return unavailable(),
            Self::NoService { .. } | Self::NoTable { .. } | Self::NoKey { .. } => {
                StatusCode::NOT_FOUND
            }
            Self::TooLong { .. } | Self::NoLifetime => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Full { .. } | Self::TooManyTables => StatusCode::INSUFFICIENT_STORAGE,
        };
        (status, self.to_string()).into_response()
    }
}

/// `GET /v1/tables`.
pub(super) async fn list(State(api): State<Api>, Query(filter): Query<TableFilter>) -> Response {
    let selection = match Selection::new(&api, filter).await {
        Ok(selection) => selection,
        Err(refusal) => return refusal.into_response(),
    };
    in_background(move || selection.views(&api.shared)).await
}

/// A filter, read.
struct Selection {
    service: Option<String>,
    table: Option<Vec<u8>>,
    prefix: Vec<u8>,
    limit: usize,
}

impl Selection {
    async fn new(api: &Api, filter: TableFilter) -> Result<Self, Refusal> {
        let table = filter.table.as_deref().map(bytes).transpose()?;
        let prefix = filter.prefix.as_deref().map(bytes).transpose()?.unwrap_or_default();
        if let Some(service) = &filter.service {
            check_service(api, service, true).await?;
        }
        let limit = filter.limit.unwrap_or(usize::MAX);
        Ok(Self { service: filter.service, table, prefix, limit })
    }

    fn views(&self, shared: &Shared) -> Vec<TableView> {
        let mut limit = self.limit;
        let now = worker::now().monotonic;
        let tables = shared.tables.list().into_iter().filter(|(name, _)| {
            self.service.as_deref().is_none_or(|service| *name.service == *service)
                && self.table.as_deref().is_none_or(|table| *name.table == *table)
        });
        let view = |(name, table): (crate::table::Name, Arc<Table>)| {
            let entries = table.entries(&self.prefix, limit, now);
            limit -= entries.len();
            TableView {
                virtual_service: name.service.to_string(),
                table: printable(&name.table),
                refused_inserts: table.refused(),
                entries: entries.into_iter().map(EntryView::from).collect(),
            }
        };
        tables.map(view).collect()
    }
}

/// `GET /v1/tables/entry`. Does not extend the lifetime.
pub(super) async fn get(State(api): State<Api>, Query(place): Query<Place>) -> Response {
    let found = async {
        let (table, key) = existing(&api, &place).await?;
        let now = worker::now().monotonic;
        let found = table.lookup(&key, Duration::ZERO, now).ok_or_else(|| place.no_key())?;
        Ok::<_, Refusal>(EntryView::new(&key, &found, now))
    };
    found.await.map_or_else(IntoResponse::into_response, |view| Json(view).into_response())
}

/// `DELETE /v1/tables/entry`.
pub(super) async fn delete(State(api): State<Api>, Query(place): Query<Place>) -> Response {
    let removed = async {
        let (table, key) = existing(&api, &place).await?;
        let removed = table.remove(&key, worker::now().monotonic);
        removed.then_some(StatusCode::NO_CONTENT).ok_or_else(|| place.no_key())
    };
    removed.await.into_response()
}

/// `PUT /v1/tables/entry`. Unlike a script's insert it replaces the value.
pub(super) async fn put(
    State(api): State<Api>,
    Query(place): Query<Place>,
    Json(entry): Json<NewEntry>,
) -> Response {
    let stored = async {
        check_service(&api, &place.virtual_service, false).await?;
        let (name, key) = place.read(&api.shared)?;
        let value = entry.value(&api.shared)?;
        let tables = &api.shared.tables;
        let table = tables.table_or_create(&place.virtual_service, &name);
        let table = table.ok_or(Refusal::TooManyTables)?;
        let (now, lifetime) = (worker::now().monotonic, Duration::from_secs(entry.lifetime.into()));
        if !table.put(&key, value.clone(), lifetime, now) {
            return Err(place.full(tables.limits().entries));
        }
        let found = Found { value, deadline: now.saturating_add(lifetime) };
        Ok(EntryView::new(&key, &found, now))
    };
    stored.await.map_or_else(IntoResponse::into_response, |view| Json(view).into_response())
}

/// The table of an entry, and the key.
async fn existing(api: &Api, place: &Place) -> Result<(Arc<Table>, Vec<u8>), Refusal> {
    check_service(api, &place.virtual_service, true).await?;
    let (name, key) = place.read(&api.shared)?;
    let table = api.shared.tables.table(&place.virtual_service, &name);
    Ok((table.ok_or_else(|| place.no_table(&api.shared))?, key))
}

/// Names are mistyped, and an empty answer would not tell. A service that a reload has taken away
/// may still have tables to look at.
async fn check_service(api: &Api, wanted: &str, may_be_gone: bool) -> Result<(), Refusal> {
    let config: Arc<Config> = ask(api, Request::Config).await.ok_or(Refusal::Stopping)?;
    let known = config.virtual_services.iter().map(|service| service.name.as_str());
    let known: Vec<_> = known.collect();
    let had_tables = || api.shared.tables.list().iter().any(|(name, _)| *name.service == *wanted);
    if known.contains(&wanted) || may_be_gone && had_tables() {
        return Ok(());
    }
    Err(Refusal::NoService { wanted: wanted.to_owned(), known: known.join(", ") })
}

impl Place {
    /// The table's name and the key.
    fn read(&self, shared: &Shared) -> Result<(Vec<u8>, Vec<u8>), Refusal> {
        let (name, key) = (bytes(&self.table)?, bytes(&self.key)?);
        let limit = shared.tables.limits().key_size;
        if key.len() > limit {
            let (length, setting) = (key.len(), "key_size");
            return Err(Refusal::TooLong { what: "key", length, setting, limit });
        }
        Ok((name, key))
    }

    fn service(&self) -> String {
        self.virtual_service.clone()
    }

    fn no_key(&self) -> Refusal {
        let (service, table) = (self.service(), described(&self.table));
        Refusal::NoKey { service, table, key: self.key.clone() }
    }

    fn full(&self, limit: usize) -> Refusal {
        Refusal::Full { service: self.service(), table: described(&self.table), limit }
    }

    fn no_table(&self, shared: &Shared) -> Refusal {
        let tables = shared.tables.list().into_iter();
        let own = tables.filter(|(name, _)| *name.service == *self.virtual_service);
        let own: Vec<_> = own.map(|(name, _)| described(&printable(&name.table))).collect();
        let known = if own.is_empty() { "none yet".to_owned() } else { own.join(", ") };
        Refusal::NoTable { service: self.service(), table: described(&self.table), known }
    }
}

fn described(table: &str) -> String {
    if table.is_empty() { "the default table".to_owned() } else { format!("table {table:?}") }
}

impl NewEntry {
    fn value(&self, shared: &Shared) -> Result<Value, Refusal> {
        if self.lifetime == 0 {
            return Err(Refusal::NoLifetime);
        }
        let text = match &self.value {
            NewValue::Number(number) => return Ok(Value::Number(*number)),
            NewValue::Text(text) => bytes(text)?,
        };
        let limit = shared.tables.limits().value_size;
        if text.len() > limit {
            let (length, setting) = (text.len(), "value_size");
            return Err(Refusal::TooLong { what: "value", length, setting, limit });
        }
        Ok(Value::string(text))
    }
}

impl EntryView {
    fn new(key: &[u8], found: &Found, now: Duration) -> Self {
        let remaining_seconds = found.remaining(now);
        Self { key: printable(key), value: json(&found.value), remaining_seconds }
    }
}

impl From<Listed> for EntryView {
    fn from(entry: Listed) -> Self {
        let Listed { key, value, remaining } = entry;
        Self { key: printable(&key), value: json(&value), remaining_seconds: remaining }
    }
}

/// Numbers as Lua prints them: whole ones without a point.
fn json(value: &Value) -> serde_json::Value {
    const EXACT: f64 = (1u64 << 53) as f64;
    match value {
        Value::String(bytes) => printable(bytes).into(),
        Value::Number(number) if number.fract() == 0.0 && number.abs() < EXACT => {
            (*number as i64).into()
        }
        Value::Number(number) => (*number).into(),
    }
}
