//! `lb drain`, `lb disable`, `lb enable`.

use std::{path::Path, thread, time::Duration};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use hyper::Method;

use super::{client, query::query, target::Target};
use crate::control::servers::{
    orders::{Action, NewOrder, OneServer, Patience, Which},
    view::{ServerState, ServerStatus},
};

/// How often `--wait` looks.
const LOOK: Duration = Duration::from_millis(500);

/// Which server.
#[derive(Args)]
pub struct Server {
    /// The pool
    pool: String,
    /// address:port, or the address if the pool has it once
    server: String,
    #[command(flatten)]
    target: Target,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// What becomes of its clients.
#[derive(Args)]
pub struct Clients {
    /// Still take new flows of clients whom persistence leads there
    #[arg(long)]
    persistent: bool,
}

/// What `lb drain` takes.
#[derive(Args)]
pub struct Drain {
    #[command(flatten)]
    server: Server,
    /// End the flows that are left after this time, such as 5m; 0 at once, -1 never
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true, default_value = "-1")]
    timeout: Patience,
    #[command(flatten)]
    clients: Clients,
    /// Return when no flow is left
    #[arg(long)]
    wait: bool,
}

/// What `lb disable` takes.
#[derive(Args)]
pub struct Disable {
    #[command(flatten)]
    server: Server,
    /// End the flows that are left after this time, such as 5m; 0 at once, -1 never. Without it,
    /// after the pool's `graceful_disable_timeout`
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true)]
    timeout: Option<Patience>,
    #[command(flatten)]
    clients: Clients,
}

/// What `lb enable` takes.
#[derive(Args)]
pub struct Enable {
    #[command(flatten)]
    server: Server,
}

impl Drain {
    /// Has the server take no new flows, and waits for the end of the old ones if that is wanted.
    pub fn run(self) -> Result<()> {
        let Self { server, timeout, clients, wait } = self;
        let persistent = clients.persistent;
        let order = NewOrder { order: Action::Drain, timeout: Some(timeout), persistent };
        let now = server.order(&order)?;
        if wait { server.wait(now) } else { Ok(()) }
    }
}

impl Disable {
    /// Has the server take no new flows.
    pub fn run(self) -> Result<()> {
        let Self { server, timeout, clients } = self;
        let persistent = clients.persistent;
        server.order(&NewOrder { order: Action::Disable, timeout, persistent }).map(drop)
    }
}

impl Enable {
    /// Has the server take flows.
    pub fn run(self) -> Result<()> {
        let order = NewOrder { order: Action::Enable, timeout: None, persistent: false };
        self.server.order(&order).map(drop)
    }
}

impl Server {
    fn which(&self) -> Which {
        Which { pool: self.pool.clone(), server: self.server.clone() }
    }

    /// Gives an order, and prints what has come of it.
    fn order(&self, order: &NewOrder) -> Result<OneServer> {
        let path = format!("/v1/server/order{}", query(&self.which())?);
        let body = serde_json::to_string(order)?;
        let socket = self.target.socket()?;
        let answer = client::request(&socket, Method::PUT, &path, Some(body))?.success()?;
        let server: OneServer =
            serde_json::from_str(&answer).context("the daemon's answer cannot be read")?;
        if self.json {
            println!("{}", serde_json::to_string_pretty(&server)?);
        } else {
            println!("{}", told(&server));
        }
        Ok(server)
    }

    /// Returns when the server has no flows.
    fn wait(&self, mut now: OneServer) -> Result<()> {
        let socket = self.target.socket()?;
        let name = format!("{} {}", now.pool, now.server.address);
        let mut shown = None;
        loop {
            let flows = now.server.connections;
            if now.server.state.is_up() || now.server.state == ServerState::Down && flows > 0 {
                bail!("{name} was enabled again, with {flows} flows left");
            }
            if flows == 0 {
                self.say(&format!("{name}: no flow is left"));
                return Ok(());
            }
            if shown.replace(flows) != Some(flows) {
                self.say(&format!("{name}: {flows} flows left"));
            }
            thread::sleep(LOOK);
            match self.look(&socket).with_context(|| format!("{name} had {flows} flows left"))? {
                Some(next) => now = next,
                None => {
                    self.say(&format!(
                        "{name}: not in the configuration any more, no flow is left"
                    ));
                    return Ok(());
                }
            }
        }
    }

    /// `None` if it has left the configuration, and its flows have ended.
    fn look(&self, socket: &Path) -> Result<Option<OneServer>> {
        let path = format!("/v1/server{}", query(&self.which())?);
        let answer = client::request(socket, Method::GET, &path, None)?;
        if answer.is_not_found() {
            return Ok(None);
        }
        serde_json::from_str(&answer.success()?).context("the daemon's answer cannot be read")
    }

    /// Progress is for people.
    fn say(&self, text: &str) {
        if !self.json {
            println!("{text}");
        }
    }
}

/// What has become of a server.
fn told(one: &OneServer) -> String {
    let OneServer { pool, changed, server } = one;
    let already = if *changed { "" } else { " already" };
    let state = match server.state {
        state if state.is_up() || state == ServerState::Down => "enabled",
        state => state.name(),
    };
    let mut told = format!("{pool} {}: {state}{already}", server.address);
    if server.state.is_up() && server.share < 100 {
        told += &format!("; it ramps up, and gets {} % of its share now", server.share);
    } else if server.state == ServerState::Down {
        told += ", and down: it takes flows when its monitors hold it to be up";
    } else if server.state == ServerState::Draining {
        told += &format!("; {}", flows(server));
    } else if server.state == ServerState::Disabled && *changed {
        told += "; it has no flows";
    }
    told
}

fn flows(server: &ServerStatus) -> String {
    let flows = match server.connections {
        1 => "its 1 flow goes on".to_owned(),
        many => format!("its {many} flows go on"),
    };
    match &server.until {
        None => format!("{flows} as long as they last"),
        Some(until) => format!("{flows} until {until} at the latest"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(state: ServerState, connections: u32, until: Option<&str>) -> OneServer {
        let server = ServerStatus {
            address: ([10, 0, 0, 11], 80).into(),
            ratio: 1,
            state,
            since: "2026-01-01T00:00:00Z".to_owned(),
            why: String::new(),
            share: 100,
            full: false,
            until: until.map(str::to_owned),
            health: None,
            connections,
            rate: 0.0,
            flows_total: 0,
            response_us: None,
            check_us: None,
            next_hop: String::new(),
        };
        OneServer { pool: "web".to_owned(), changed: true, server }
    }

    #[test]
    fn what_has_become_of_a_server_is_said_in_a_sentence() {
        let end = Some("2026-01-01T00:05:00Z");
        let cases = [
            (server(ServerState::Up, 3, None), "web 10.0.0.11:80: enabled"),
            (
                server(ServerState::Draining, 3, None),
                "web 10.0.0.11:80: draining; its 3 flows go on as long as they last",
            ),
            (
                server(ServerState::Draining, 1, end),
                "web 10.0.0.11:80: draining; its 1 flow goes on until 2026-01-01T00:05:00Z at the latest",
            ),
            (
                OneServer { changed: false, ..server(ServerState::Disabled, 0, end) },
                "web 10.0.0.11:80: disabled already",
            ),
        ];
        for (server, expected) in cases {
            assert_eq!(told(&server), expected);
        }
    }
}
