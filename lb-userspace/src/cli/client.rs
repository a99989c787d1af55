//! A client of the admin API.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use http_body_util::{BodyExt as _, Empty};
use hyper::{Method, Request, body::Bytes, client::conn::http1, header::HOST};
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
}

/// `GET`, and the JSON that comes back.
pub fn get<T: DeserializeOwned>(socket: &Path, path: &str) -> Result<T> {
    let answer = request(socket, Method::GET, path)?;
    if !answer.is_success() {
        bail!("the daemon answers {}: {}", answer.status, answer.body);
    }
    serde_json::from_str(&answer.body).context("the daemon's answer cannot be read")
}

/// `POST`, without a body.
pub fn post(socket: &Path, path: &str) -> Result<Answer> {
    request(socket, Method::POST, path)
}

fn request(socket: &Path, method: Method, path: &str) -> Result<Answer> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(send(socket, method, path))
}

async fn send(socket: &Path, method: Method, path: &str) -> Result<Answer> {
    let stream = UnixStream::connect(socket).await.with_context(|| {
        format!("no daemon listens on {} (is `lb run` running?)", socket.display())
    })?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(HOST, "lb")
        .body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await?;
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    Ok(Answer { status, body: String::from_utf8_lossy(&body).into_owned() })
}
