//! What the functions that scripts call know about the run they are called in.

use std::{
    any::Any,
    cell::{Cell, RefCell},
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    time::{Duration, SystemTime},
};

use lb_common::address::Protocol;

use super::{
    Close, Event, Flow, LOG_CHARACTERS, More, Outcome, Persist, Place, Selection, TableAccess,
    Wait, World,
    errors::Raise,
    limits::Meter,
    names::{Names, SetNames},
    parsers::{Modules, Parsers},
    vm::Vm,
};
use crate::{
    config::{Config, Destination, PoolIndex, ServerIndex, SetIndex},
    table::{Tables, Transaction},
};

/// Shared between a runtime and the functions in its Lua state, which they reach it by.
#[derive(Debug)]
pub(super) struct Context {
    pub(super) vm: Rc<Vm>,
    pub(super) meter: Meter,
    pub(super) memory: usize,
    pub(super) tables: Arc<Tables>,
    pub(super) config: RefCell<Option<Arc<Config>>>,
    pub(super) parsers: RefCell<Parsers>,
    /// The run has ended by `persist` or `collect`: no `pcall` may keep it alive.
    pub(super) ended: Cell<bool>,
    /// What a function of ours has raised, until Lua has it.
    pub(super) raised: RefCell<Raise>,
    /// Lua's stack at the last error that no script has caught.
    pub(super) traceback: RefCell<String>,
    /// What a function of ours has panicked with: it goes on when Lua has been left.
    pub(super) panic: RefCell<Option<Box<dyn Any + Send>>>,
    pub(super) run: RefCell<Run>,
}

impl Context {
    /// Whether the script must not execute another statement.
    pub(super) fn stopped(&self) -> bool {
        self.ended.get() || self.meter.is_exhausted() || self.panic.borrow().is_some()
    }
}

/// One run of one script. Its buffers are kept from run to run.
pub(super) struct Run {
    pub(super) event: Event,
    pub(super) set: SetIndex,
    /// The script's name as Lua shows it.
    pub(super) script: Rc<str>,
    pub(super) names: Rc<SetNames>,
    pub(super) service: Arc<str>,
    pub(super) destination: Option<Destination>,
    pub(super) protocol: Protocol,
    pub(super) client: SocketAddr,
    pub(super) vip: SocketAddr,
    pub(super) server: Option<SocketAddr>,
    pub(super) payload: Vec<u8>,
    /// Whether more payload may come; `None`: it is one packet's.
    pub(super) more: Option<More>,
    /// The run has ended by `collect`, and left nothing behind.
    pub(super) wait: Option<Wait>,
    pub(super) world: Rc<dyn World>,
    pub(super) wall: SystemTime,
    /// What `math.random` is at; `None` before it is asked for.
    random: Option<u64>,
    pub(super) tables: Transaction,
    pub(super) effects: Effects,
    /// What was done to tables, if somebody wants to know.
    pub(super) accesses: Option<Vec<TableAccess>>,
    pub(super) modules: Modules,
}

impl std::fmt::Debug for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Run")
            .field("event", &self.event)
            .field("set", &self.set)
            .finish_non_exhaustive()
    }
}

/// What a run did, apart from tables.
#[derive(Debug, Default)]
pub(super) struct Effects {
    pub(super) selection: Option<Selection>,
    pub(super) persist: Option<Persist>,
    pub(super) close: Option<Close>,
    pub(super) chash: Option<Vec<u8>>,
    pub(super) log: String,
}

impl Effects {
    /// Adds to what the scripts before did.
    pub(super) fn merge_into(&mut self, outcome: &mut Outcome) {
        if self.selection.is_some() {
            outcome.selection = self.selection.take();
        }
        outcome.persist = self.persist.take();
        if outcome.persist.is_some() {
            outcome.selection = None;
        }
        outcome.close = self.close.take();
        if self.chash.is_some() {
            outcome.chash = self.chash.take();
        }
        append_log(&mut outcome.log, &self.log);
    }

    fn clear(&mut self) {
        let mut log = std::mem::take(&mut self.log);
        log.clear();
        *self = Self { log, ..Self::default() };
    }
}

/// Appends what still fits into a log.
pub(super) fn append_log(log: &mut String, text: &str) {
    // Bytes bound characters from above: most logs need no counting.
    if log.len() + text.len() <= LOG_CHARACTERS {
        log.push_str(text);
    } else {
        let room = LOG_CHARACTERS.saturating_sub(log.chars().count());
        log.extend(text.chars().take(room));
    }
}

/// No server is up where there is no world.
struct Nowhere;

impl World for Nowhere {
    fn server_up(&self, _: PoolIndex, _: ServerIndex) -> bool {
        false
    }
}

impl Run {
    /// Before the first run.
    pub(super) fn idle(tables: Arc<Tables>, names: Rc<SetNames>) -> Self {
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        let name: Arc<str> = "".into();
        Self {
            event: Event::L4Request,
            set: SetIndex(0),
            script: "".into(),
            names,
            service: Arc::clone(&name),
            destination: None,
            protocol: Protocol::Tcp,
            client: nowhere,
            vip: nowhere,
            server: None,
            payload: Vec::new(),
            more: None,
            wait: None,
            world: Rc::new(Nowhere),
            wall: SystemTime::UNIX_EPOCH,
            random: None,
            tables: Transaction::new(tables, name, Duration::ZERO),
            effects: Effects::default(),
            accesses: None,
            modules: Modules::default(),
        }
    }

    /// What is the same for all scripts of an event.
    pub(super) fn begin_event(
        &mut self,
        event: Event,
        flow: &Flow<'_>,
        world: &Rc<dyn World>,
        names: &Names,
        wall: SystemTime,
    ) {
        self.event = event;
        if *self.service != *flow.virtual_service {
            self.service = names.service(flow.virtual_service);
        }
        self.destination = flow.destination;
        self.protocol = flow.protocol;
        self.client = flow.client;
        self.vip = flow.vip;
        self.server = flow.server;
        self.payload.clear();
        self.payload.extend_from_slice(flow.payload);
        self.more = flow.more;
        self.wait = None;
        if !Rc::ptr_eq(&self.world, world) {
            self.world = Rc::clone(world);
        }
        self.wall = wall;
    }

    /// What each script of an event begins with.
    pub(super) fn begin_script(&mut self, set: SetIndex, script: &Rc<str>, names: &Rc<SetNames>) {
        self.set = set;
        if !Rc::ptr_eq(&self.script, script) {
            self.script = Rc::clone(script);
        }
        if !Rc::ptr_eq(&self.names, names) {
            self.names = Rc::clone(names);
        }
        self.random = None;
        self.effects.clear();
    }

    /// What `math.random` is at.
    pub(super) fn random(&mut self) -> &mut u64 {
        self.random.get_or_insert_with(|| seed(self.wall, self.client))
    }

    /// The line that is being executed.
    pub(super) fn place(&self, line: u32) -> Place {
        Place { set: self.set, event: self.event, line }
    }
}

/// `math.random` begins with what the flow gives, so that a replay draws the same numbers.
fn seed(wall: SystemTime, client: SocketAddr) -> u64 {
    let since = wall.duration_since(SystemTime::UNIX_EPOCH);
    let time = since.map_or(0, |since| since.as_secs() ^ u64::from(since.subsec_nanos()));
    let mut low = [0; 8];
    match client.ip() {
        std::net::IpAddr::V4(ip) => low[..4].copy_from_slice(&ip.octets()),
        std::net::IpAddr::V6(ip) => low.copy_from_slice(&ip.octets()[8..]),
    }
    time ^ u64::from_be_bytes(low).rotate_left(16) ^ u64::from(client.port())
}
