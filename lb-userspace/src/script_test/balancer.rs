//! `balancer("lb.toml")`, and what a test does with one.

use std::{
    cell::{Cell, RefCell},
    path::Path,
    rc::Rc,
    time::{Duration, SystemTime},
};

use mlua::{Lua, LuaString, Table, UserData, UserDataMethods, Value};

use super::{
    ends,
    failure::{Failure, Told, raise},
    flow::{Flow, Handle},
    options::{Options, number},
    rig::{Ends, Rig},
    session::Session,
    values,
};
use crate::{
    config::Config,
    control,
    table::{self, DEFAULT_LIFETIME, Listed},
};

/// When every balancer begins that is not told when: seconds after 1970, the beginning of 2026.
const BEGINNING: Duration = Duration::from_secs(1_767_225_600);
/// Who begins a flow that nobody is named for.
const CLIENT: &str = "198.51.100.1";
/// The first of the ports that flows get which name none.
const FIRST_PORT: u16 = 40_000;
/// As far as a test looks ahead: a year.
const LONGEST: f64 = 366.0 * 86_400.0;

/// A balancer in Lua.
pub(super) struct Balancer {
    rig: Rc<RefCell<Rig>>,
    session: Rc<Session>,
    next_port: Cell<u16>,
}

impl Balancer {
    /// `balancer("lb.toml")` or `balancer { config = "lb.toml", … }`.
    pub fn open(lua: &Lua, session: &Rc<Session>, given: &Value) -> mlua::Result<Self> {
        let setup = raise(lua, Setup::read(given))?;
        let path = session.beside(&setup.config);
        let mut config = load(lua, &path)?;
        if let Some(entries) = setup.table_entries {
            config.instance.tables.entries = entries;
        }
        let rig = Rig::new(config, setup.time);
        let rig = raise(lua, rig.map_err(|error| format!("{}: {error}", path.display())))?;
        let rig = Rc::new(RefCell::new(rig));
        Ok(Self { rig, session: Rc::clone(session), next_port: Cell::new(FIRST_PORT) })
    }

    /// A flow from its options.
    fn flow(&self, given: &Value) -> Told<Handle> {
        let known = ["service", "vip", "protocol", "client", "payload"];
        let options = Options::new("flow", given, &known)?;
        let ends = self.ends(&options)?;
        let pieces = options.pieces("payload")?;
        let flow = Rc::new(Flow::begin(&self.rig, ends, &pieces)?);
        Ok(Handle { flow, session: Rc::clone(&self.session) })
    }

    fn ends(&self, options: &Options) -> Told<Ends> {
        let client = options.text("client")?;
        let client = ends::client(client.as_deref().unwrap_or(CLIENT), self.next_port.get())?;
        if client.port() == self.next_port.get() {
            self.next_port.set(self.next_port.get().checked_add(1).unwrap_or(FIRST_PORT));
        }
        let vip = options.text("vip")?.map(|text| ends::vip(&text)).transpose()?;
        let protocol = options.text("protocol")?.map(|text| ends::protocol(&text)).transpose()?;
        let rig = self.rig.borrow();
        let service = match options.text("service")? {
            Some(_) if vip.is_some() || protocol.is_some() => {
                return Err("flow: `service` says where to; leave `vip` and `protocol` out".into());
            }
            Some(name) => rig.service(&name)?,
            None => rig.only_service(vip, protocol)?,
        };
        Ok(Ends { protocol: service.protocol(), client, vip: service.address })
    }

    /// A table from its options.
    fn put(&self, given: &Value) -> Told<()> {
        let known = ["service", "table", "key", "value", "lifetime"];
        let options = Options::new("put", given, &known)?;
        let service = match options.text("service")? {
            Some(name) => name,
            None => self.rig.borrow().only_service(None, None)?.name.clone(),
        };
        let table = options.bytes("table")?.unwrap_or_default();
        let key = options.required("key", "key = \"198.51.100.7\"")?;
        let value = match options.get("value") {
            Some(Value::String(text)) => table::Value::string(text.as_bytes()),
            Some(other) => table::Value::Number(
                number(other)
                    .ok_or_else(|| options.wrong("value", "a string or a number", other))?,
            ),
            None => return Err("put needs `value`, a string or a number".to_owned()),
        };
        let lifetime = options.number("lifetime")?.map(seconds).transpose()?;
        let place = (service.as_str(), &table[..]);
        self.rig.borrow().put(place, (&key, value), lifetime.unwrap_or(DEFAULT_LIFETIME))
    }

    /// A table's entries, each by its key.
    fn entries(
        &self,
        lua: &Lua,
        service: &str,
        name: Option<&LuaString>,
        read: impl Fn(&Listed) -> mlua::Result<Value>,
    ) -> mlua::Result<Table> {
        let name = name.map(|name| name.as_bytes().to_vec()).unwrap_or_default();
        let listed = raise(lua, self.rig.borrow().table(service, &name))?;
        let entries = lua.create_table()?;
        for entry in &listed {
            entries.raw_set(lua.create_string(&entry.key)?, read(entry)?)?;
        }
        Ok(entries)
    }

    fn records(&self, lua: &Lua) -> mlua::Result<Value> {
        let records = serde_json::to_value(self.rig.borrow().records());
        values::to_lua(lua, &raise(lua, records.map_err(|error| error.to_string()))?)
    }
}

impl UserData for Balancer {
    fn add_methods<M: UserDataMethods<Self>>(methods: &mut M) {
        methods.add_method("flow", |lua, this, given: Value| raise(lua, this.flow(&given)));
        methods.add_method("put", |lua, this, given: Value| raise(lua, this.put(&given)));
        methods.add_method("advance", |lua, this, by: Value| {
            let by = number(&by).ok_or_else(|| "advance takes seconds, such as 30".to_owned());
            this.rig.borrow_mut().advance(raise(lua, by.and_then(seconds))?);
            Ok(())
        });
        type Name = (String, Option<LuaString>);
        methods.add_method("table", |lua, this, (service, name): Name| {
            this.entries(lua, &service, name.as_ref(), |entry| {
                values::from_table(lua, &entry.value)
            })
        });
        methods.add_method("lifetimes", |lua, this, (service, name): Name| {
            let remaining = |entry: &Listed| Ok(Value::Number(entry.remaining as f64));
            this.entries(lua, &service, name.as_ref(), remaining)
        });
        methods.add_method("records", |lua, this, ()| this.records(lua));
        methods.add_method("time", |_, this, ()| {
            let since = this.rig.borrow().now().duration_since(SystemTime::UNIX_EPOCH);
            Ok(since.map_or(0.0, |since| since.as_secs_f64()))
        });
        type Server = (String, Option<String>);
        methods.add_method("disable", |lua, this, (pool, server): Server| {
            raise(lua, this.rig.borrow_mut().enable(&pool, server.as_deref(), false))
        });
        methods.add_method("enable", |lua, this, (pool, server): Server| {
            raise(lua, this.rig.borrow_mut().enable(&pool, server.as_deref(), true))
        });
    }
}

/// The options of `balancer`.
struct Setup {
    config: String,
    time: SystemTime,
    table_entries: Option<usize>,
}

impl Setup {
    fn read(given: &Value) -> Told<Self> {
        let beginning = SystemTime::UNIX_EPOCH + BEGINNING;
        if let Value::String(config) = given {
            let config = config.to_string_lossy();
            return Ok(Self { config, time: beginning, table_entries: None });
        }
        let options = Options::new("balancer", given, &["config", "time", "table_entries"])?;
        let config = options.required("config", "config = \"lb.toml\"")?;
        let time = match options.text("time")? {
            Some(text) => humantime::parse_rfc3339(&text).map_err(|_| {
                format!("balancer: `time` is written \"2026-01-31T12:00:00Z\", not {text:?}")
            })?,
            None => beginning,
        };
        let entries = options.number("table_entries")?.map(|entries| entries as usize);
        let config = String::from_utf8_lossy(&config).into_owned();
        Ok(Self { config, time, table_entries: entries })
    }
}

fn load(lua: &Lua, path: &Path) -> mlua::Result<Config> {
    control::load(path).map_err(|problems| {
        let message = format!("{} is not right\n{problems}", path.display());
        Failure { unreadable: true, ..Failure::here(lua, message) }.raise()
    })
}

fn seconds(seconds: f64) -> Told<Duration> {
    if (0.0..=LONGEST).contains(&seconds) {
        return Ok(Duration::from_secs_f64(seconds));
    }
    Err(format!("{seconds} seconds are not from 0 to a year"))
}
