//! Configurations with monitors, for tests.

use std::{net::SocketAddr, path::Path, sync::Arc};

use super::Target;
use crate::config::{Config, HealthMonitor};

/// A pool `web` with these monitors, which are `[[health_monitor]]` entries, and servers 10.0.0.1
/// and so on at port 80. Any file that is named holds `file`.
pub fn config(pool: &str, servers: u16, monitors: &str, file: &str) -> Arc<Config> {
    let server = |number: u16| {
        let [high, low] = number.to_be_bytes();
        format!("{{ address = \"10.0.{high}.{low}\", port = 80 }}")
    };
    let servers: Vec<_> = (1..=servers).map(server).collect();
    let text = format!(
        "[instance]\nname = \"test\"\ninterfaces = [\"eth0\"]\nsnat_addresses = [\"192.0.2.9\"]\n\
         [[pool]]\nname = \"web\"\n{pool}\nservers = [{}]\n{monitors}",
        servers.join(", ")
    );
    let config = Config::parse(Path::new("/etc/lb/lb.toml"), &text, |_| Ok(file.to_owned()));
    Arc::new(config.unwrap_or_else(|problems| panic!("{problems}")))
}

/// One monitor, named `it`.
pub fn monitor(keys: &str, file: &str) -> Arc<HealthMonitor> {
    let monitors = format!("[[health_monitor]]\nname = \"it\"\n{keys}\n");
    Arc::clone(&config("", 1, &monitors, file).health_monitors[0])
}

/// A server that it asks.
pub fn target(server: SocketAddr, monitor: &Arc<HealthMonitor>) -> Arc<Target> {
    Arc::new(Target { number: 1, pool: "web".to_owned(), server, monitor: Arc::clone(monitor) })
}
