//! HTTP: a request, its status and its body. Redirects are not followed: their status counts.

use std::{error::Error, net::SocketAddr};

use http_body_util::BodyExt as _;
use hyper::{
    Request, Response,
    body::Incoming,
    client::conn::http1,
    header::{CONTENT_LENGTH, HOST, HeaderValue},
};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{Answer, Fault, MOST_READ, Stage, connect, search::Search, tls};
use crate::config::{HttpCheck, HttpRequest, TlsCheck};

pub(super) async fn check(address: SocketAddr, check: &HttpCheck, stage: &Stage) -> Answer {
    let stream = connect(address, stage).await?;
    exchange(stream, &address.to_string(), check, stage).await
}

pub(super) async fn check_within_tls(
    address: SocketAddr,
    check: &HttpCheck,
    tls: &TlsCheck,
    stage: &Stage,
) -> Answer {
    let stream = connect(address, stage).await?;
    let stream = tls::handshake(stream, address.ip(), tls, stage).await?;
    let host = tls.server_name.clone().unwrap_or_else(|| address.to_string());
    exchange(stream, &host, check, stage).await
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    host: &str,
    check: &HttpCheck,
    stage: &Stage,
) -> Answer {
    let request = request(&check.request, host);
    let http = http1::Builder::new().max_buf_size(MOST_READ).handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = http.map_err(|error| failure(&error))?;
    let answer = async {
        stage.set("waiting for an answer");
        let response = sender.send_request(request).await.map_err(|error| failure(&error))?;
        judge(response, check, stage).await
    };
    // How the connection ends is seen by the answer as well, which comes first.
    tokio::select! {
        biased;
        answer = answer => answer,
        never = async { let _ = connection.await; std::future::pending().await } => never,
    }
}

fn request(request: &HttpRequest, host: &str) -> Request<String> {
    let mut built = Request::new(request.body.clone());
    *built.method_mut() = request.method.clone();
    // It was checked to be a path when the configuration was read.
    *built.uri_mut() = request.path.parse().unwrap_or_default();
    *built.version_mut() = request.version;
    *built.headers_mut() = request.headers.clone();
    if let (false, Ok(host)) = (request.headers.contains_key(HOST), HeaderValue::from_str(host)) {
        built.headers_mut().insert(HOST, host);
    }
    if !request.body.is_empty() {
        built.headers_mut().insert(CONTENT_LENGTH, request.body.len().into());
    }
    built
}

async fn judge(response: Response<Incoming>, check: &HttpCheck, stage: &Stage) -> Answer {
    let status = response.status().as_u16();
    if !check.statuses.iter().any(|statuses| statuses.contains(&status)) {
        return Err(Fault::Server(format!("status {status}")));
    }
    if check.body.is_empty() {
        return Ok(format!("status {status}"));
    }
    let mut search = Search::new(&check.body);
    let mut body = response.into_body();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| failure(&error))?;
        if frame.data_ref().is_some_and(|piece| search.push(piece)) {
            return Ok(format!("status {status}, body as expected"));
        }
        if search.is_full() {
            break;
        }
        stage.set(format!("{} bytes into a body that is not yet as expected", search.len()));
    }
    Err(search.failure())
}

fn failure(error: &hyper::Error) -> Fault {
    if error.is_incomplete_message() || error.is_canceled() || error.is_closed() {
        return Fault::server("closed the connection before the answer was complete");
    }
    if error.is_parse() {
        return Fault::server("the answer is not HTTP");
    }
    let source = error.source().map(|source| format!(": {source}")).unwrap_or_default();
    Fault::Server(format!("{error}{source}"))
}
