//! An engine under a configuration of some size, and packets for it.

use std::{fmt::Write as _, net::Ipv4Addr, path::Path, sync::Arc, time::SystemTime};

use anyhow::{Result, anyhow, ensure};
use lb_tests::check_stopped;
use lb_userspace::{
    config::Config,
    engine::{Effects, Engine, Now, Position, Shared},
};

use crate::script::{NOW, Net, frame, shared, worker};

/// Where the first virtual service listens; each other one at an address more.
const SERVICES: [u8; 4] = [10, 64, 0, 0];
/// And servers.
const SERVERS: [u8; 4] = [10, 0, 0, 1];

/// What a configuration is made of.
#[derive(Clone, Copy)]
pub struct Plan<'a> {
    pub flow_capacity: u32,
    pub services: u32,
    pub servers: u32,
    /// Whether servers' ratios differ.
    pub ratios: bool,
    /// Of the pool, beside its servers.
    pub pool: &'a str,
    /// How often each service runs it.
    pub sets: u32,
    pub script: &'a str,
}

impl Plan<'_> {
    /// One service, two servers, no script.
    pub const SMALL: Self = Self {
        flow_capacity: 1 << 15,
        services: 1,
        servers: 2,
        ratios: false,
        pool: "",
        sets: 0,
        script: "",
    };

    /// The configuration, as a user would write it.
    pub fn text(&self) -> String {
        let mut text = format!(
            "[instance]\nname = \"bench\"\ninterfaces = [\"eth0\"]\nflow_capacity = {}\n\
             snat_addresses = [\"192.0.2.8\", \"192.0.2.9\"]\nhalf_open_share = 100\n\
             udp_one_way_timeout = \"1h\"\n",
            self.flow_capacity
        );
        let sets: Vec<_> = (0..self.sets).map(|set| format!("\"set-{set}\"")).collect();
        for number in 0..self.services {
            let _ = write!(
                text,
                "[[virtual_service]]\nname = \"dns-{number}\"\naddress = \"{}\"\nport = 53\n\
                 protocol = \"udp\"\npool = \"web\"\nidle_timeout = \"1h\"\ndatascripts = [{}]\n",
                nth(SERVICES, number),
                sets.join(", ")
            );
        }
        let _ = write!(text, "[[pool]]\nname = \"web\"\n{}\nservers = [\n", self.pool);
        for number in 0..self.servers {
            let ratio = if self.ratios { 1 + number % 4 } else { 1 };
            let address = nth(SERVERS, number);
            let _ = writeln!(text, "{{ address = \"{address}\", port = 53, ratio = {ratio} }},");
        }
        text.push_str("]\n");
        for set in sets {
            let _ = write!(text, "[[datascript]]\nname = {set}\nl4_request = \"request.lua\"\n");
        }
        text
    }

    /// Read and checked.
    pub fn config(&self) -> Result<Config> {
        parse(&self.text(), self.script)
    }
}

/// Reads and checks a configuration that is in memory.
pub fn parse(text: &str, script: &str) -> Result<Config> {
    let read = |_: &Path| Ok(script.to_owned());
    Config::parse(Path::new("/bench/lb.toml"), text, read).map_err(|problems| anyhow!("{problems}"))
}

fn nth(first: [u8; 4], number: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(u32::from_be_bytes(first) + number)
}

/// A worker's engine, and the clients that it has had.
pub struct Site {
    pub engine: Engine,
    pub shared: Arc<Shared>,
    pub now: Now,
    pub effects: Effects,
    services: u32,
    frame: Vec<u8>,
    /// The next client's number, and how far the one after it is.
    client: u32,
    step: u32,
}

impl Site {
    /// The only worker.
    pub fn new(plan: &Plan<'_>) -> Result<Self> {
        let config = Arc::new(plan.config()?);
        let shared = Arc::new(shared(&config));
        Self::beside(plan, &config, &shared, Position { worker: 0, workers: 1 })
    }

    /// One of the workers that share a table. Their clients are different ones.
    pub fn beside(
        plan: &Plan<'_>,
        config: &Arc<Config>,
        shared: &Arc<Shared>,
        position: Position,
    ) -> Result<Self> {
        Ok(Self {
            engine: worker(config, shared, position)?,
            shared: Arc::clone(shared),
            now: Now { monotonic: NOW, wall: SystemTime::UNIX_EPOCH },
            effects: Effects::default(),
            services: plan.services,
            frame: frame(),
            client: position.worker.into(),
            step: position.workers.into(),
        })
    }

    /// Takes so many first packets, each of another client, to one service after the other.
    pub fn begin(&mut self, flows: u32) -> Result<()> {
        for _ in 0..flows {
            let service = nth(SERVICES, self.client % self.services);
            self.frame[30..34].copy_from_slice(&service.octets());
            self.frame[26..30].copy_from_slice(&nth([11, 0, 0, 0], self.client).octets());
            self.client += self.step;
            self.effects.clear();
            self.engine.receive(self.now, 1, &self.frame, &Net, &mut self.effects);
            let sent = self.effects.frames().len();
            ensure!(sent == 1, "a first packet was not sent on: {:?}", self.effects.log);
        }
        Ok(())
    }

    /// The same with an answer to each: the flows are established.
    pub fn establish(&mut self, flows: u32) -> Result<()> {
        for number in 0..flows {
            if number.is_multiple_of(4096) {
                check_stopped()?;
            }
            self.begin(1)?;
            let sent = self.effects.frames().next().map(|sent| sent.frame.to_vec());
            let answer = answer(sent.unwrap_or_default());
            self.engine.receive(self.now, 2, &answer, &Net, &mut self.effects);
            ensure!(self.effects.frames().len() == 2, "an answer was not sent on");
        }
        Ok(())
    }
}

/// The packet with both ends exchanged.
fn answer(mut packet: Vec<u8>) -> Vec<u8> {
    packet[26..34].rotate_left(4);
    packet[34..38].rotate_left(2);
    packet
}
