//! Real sockets through real balancers, everything on one core: short connections, requests over
//! standing connections, and much data over one, beside the kernel's plain forwarding.

mod client;
mod server;
mod site;

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context as _, Result};
use lb_tests::{
    mount_bpffs,
    report::{Measured, Report, quantile},
};
use lb_userspace::datapath::check_environment;

use self::site::{Site, WAYS};

const ROUNDS: usize = 7;
/// How long a measurement lasts.
const TIME: Duration = Duration::from_millis(300);
/// What is sent over one connection.
const BULK: usize = 64 << 20;
/// Connections at once, where there are many.
const MANY: usize = 32;

/// What is measured of each way.
const METRICS: [(&str, &str, &str); 6] = [
    ("short", "short connections a second, 32 at once", "connections/s"),
    ("one, p50", "us a request over one connection, half of all", "us"),
    ("one, p99", "us a request over one connection, all but 1 %", "us"),
    ("32, p50", "us a request over 32 connections, half of all", "us"),
    ("32, p99", "us a request over 32 connections, all but 1 %", "us"),
    ("bulk", "Mbit/s over one connection", "Mbit/s"),
];

/// A way to the servers, and what was measured of it, one a [`METRICS`].
struct Subject {
    site: Site,
    measured: Vec<Measured>,
}

/// Measures it.
pub fn measure() -> Result<()> {
    mount_bpffs()?;
    check_environment()?;
    let mut subjects = Vec::new();
    for way in &WAYS {
        match Subject::new(way) {
            Ok(subject) => subjects.push(subject),
            Err(error) => println!("left out: {}: {error:#}", way.name),
        }
    }
    let control = subjects.first().filter(|subject| subject.site.way.name == WAYS[0].name);
    control.context("what the others are compared with is missing")?;
    for _ in 0..ROUNDS {
        subjects.iter_mut().try_for_each(Subject::measure)?;
    }
    let mut report = Report::new("tcp");
    for (index, (_, title, _)) in METRICS.iter().enumerate() {
        Report::heading(title);
        for subject in &subjects {
            report.add(&subject.measured[index], &subjects[0].measured[index]);
        }
    }
    report.write()
}

impl Subject {
    fn new(way: &'static site::Way) -> Result<Self> {
        let site = Site::new(way)?;
        let measured = METRICS
            .iter()
            .map(|(metric, _, unit)| Measured::new(format!("{metric}: {}", way.name), unit))
            .collect();
        Ok(Self { site, measured })
    }

    fn measure(&mut self) -> Result<()> {
        let values = self.values().with_context(|| self.site.way.name.to_owned())?;
        for (measured, value) in self.measured.iter_mut().zip(values) {
            measured.values.push(value);
        }
        Ok(())
    }

    fn values(&self) -> Result<[f64; METRICS.len()]> {
        let site = &self.site;
        let (web, bulk) = (SocketAddr::new(site.target, 80), SocketAddr::new(site.target, 81));
        let short = site.run(|| client::short(web, MANY, TIME))?;
        let one = site.run(|| client::requests(web, 1, TIME))?;
        let many = site.run(|| client::requests(web, MANY, TIME))?;
        let seconds = site.run(|| client::bulk(bulk, BULK))?.as_secs_f64();
        let micros = |nanos: &[f64], share| quantile(nanos, share) / 1e3;
        Ok([
            short,
            micros(&one, 0.5),
            micros(&one, 0.99),
            micros(&many, 0.5),
            micros(&many, 0.99),
            BULK as f64 * 8.0 / 1e6 / seconds,
        ])
    }
}
