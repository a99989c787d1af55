//! TCP: a connection, and what is said on it.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{Answer, Fault, Stage, connect, fault, search::Search};
use crate::config::Exchange;

pub(super) async fn check(address: SocketAddr, exchange: &Exchange, stage: &Stage) -> Answer {
    let mut stream = connect(address, stage).await?;
    let failed = |error| fault("cannot talk to it", &error);
    stage.set("while sending");
    stream.write_all(&exchange.send).await.map_err(failed)?;
    if exchange.expect.is_empty() {
        return Ok("connected".to_owned());
    }
    stage.set("waiting for an answer");
    let mut search = Search::new(&exchange.expect);
    let mut piece = [0; 4096];
    loop {
        let length = stream.read(&mut piece).await.map_err(failed)?;
        if search.push(&piece[..length]) {
            return Ok("answered as expected".to_owned());
        }
        if length == 0 && search.len() == 0 {
            return Err(Fault::server("closed the connection without an answer"));
        }
        if length == 0 || search.is_full() {
            return Err(search.failure());
        }
        stage.set(format!("{} bytes into an answer that is not yet as expected", search.len()));
    }
}
