//! A client of the admin API.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use http_body_util::BodyExt as _;
use hyper::{
    Method, Request,
    client::conn::http1,
    header::{CONTENT_TYPE, HOST},
};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

/// What the daemon said.
pub struct Answer {
    status: hyper::StatusCode,
    /// Its text.
    pub body: String,
}

impl Answer {
    /// Whether it did what was asked.
    pub fn is_success(&self) -> bool {
        self.status.is_success()
    }

    /// Whether there is no such thing.
    pub fn is_not_found(&self) -> bool {
        self.status == hyper::StatusCode::NOT_FOUND
    }

    /// Its text if it did what was asked, else what it said instead as an error.
    pub fn success(self) -> Result<String> {
        match self.body.trim() {
            _ if self.is_success() => Ok(self.body),
            "" => bail!("the daemon answers {}", self.status),
            why => bail!("{why}"),
        }
    }
}

/// `GET`, and the JSON that comes back.
pub fn get<T: DeserializeOwned>(socket: &Path, path: &str) -> Result<T> {
    let body = request(socket, Method::GET, path, None)?.success()?;
    serde_json::from_str(&body).context("the daemon's answer cannot be read")
}

/// `POST`, without a body.
pub fn post(socket: &Path, path: &str) -> Result<Answer> {
    request(socket, Method::POST, path, None)
}

/// Any request, with JSON in its body if there is one.
pub fn request(socket: &Path, method: Method, path: &str, body: Option<String>) -> Result<Answer> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut request = Request::builder().method(method).uri(path).header(HOST, "lb");
    if body.is_some() {
        request = request.header(CONTENT_TYPE, "application/json");
    }
    runtime.block_on(send(socket, request.body(body.unwrap_or_default())?))
}

async fn send(socket: &Path, request: Request<String>) -> Result<Answer> {
    let stream = UnixStream::connect(socket).await.with_context(|| {
        format!("no daemon listens on {} (is `lb run` running?)", socket.display())
    })?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let response = sender.send_request(request).await?;
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    Ok(Answer { status, body: String::from_utf8_lossy(&body).into_owned() })
}
