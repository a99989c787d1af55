//! A flow as a test sees it: the fields of its explanation, and what has become of it since.

use std::{cell::RefCell, rc::Rc};

use mlua::{LuaString, MetaMethod, UserData, UserDataMethods, Value};

use super::{
    failure::{Told, raise},
    options::Options,
    rig::{Ends, Rig},
    session::Session,
    values,
};
use crate::{config::nearest, engine::Explanation, engine::log::FlowLog};

/// The connection log's record of a flow that has ended.
const RECORD: &str = "record";
/// Field names that are methods.
const METHODS: [&str; 3] = ["answer", "send", "close"];

/// A flow that a test has begun.
pub(super) struct Flow {
    rig: Rc<RefCell<Rig>>,
    ends: Ends,
    /// Which of the rig's decisions is about it.
    decision: usize,
    /// Records of the log before it began.
    before: usize,
}

impl Flow {
    /// One that begins now.
    pub fn begin(rig: &Rc<RefCell<Rig>>, ends: Ends, pieces: &[Vec<u8>]) -> Told<Self> {
        let before = rig.borrow().records().len();
        let decision = rig.borrow_mut().begin(ends, pieces)?;
        Ok(Self { rig: Rc::clone(rig), ends, decision, before })
    }

    /// Its explanation, with what scripts have said since.
    pub fn explanation(&self) -> Option<Explanation> {
        let mut explanation = self.rig.borrow().decision(self.decision)?.clone();
        let note = self.rig.borrow().note(self.ends);
        let ended = || self.record().map(|record| (record.ds_log, record.error));
        let said = note.map(|note| (note.log, note.failure.map(|failure| *failure))).or_else(ended);
        if let Some((log, failure)) = said {
            explanation.log = log;
            explanation.error = failure.as_ref().map(ToString::to_string);
            explanation.traceback = failure.map(|failure| failure.traceback);
        }
        Some(explanation)
    }

    /// The connection log's record, if the flow has ended.
    fn record(&self) -> Option<FlowLog> {
        let rig = self.rig.borrow();
        let Ends { protocol, client, vip } = self.ends;
        let ends = (protocol.name(), client, vip);
        let mut since = rig.records().iter().skip(self.before);
        since.find(|record| (record.protocol, record.client, record.vip) == ends).cloned()
    }

    fn field(&self, name: &str) -> Told<serde_json::Value> {
        if name == RECORD {
            return json(&self.record());
        }
        let fields = json(&self.explanation())?;
        let names =
            || fields.as_object().into_iter().flat_map(|all| all.keys().map(String::as_str));
        fields.get(name).cloned().ok_or_else(|| {
            let known = names().chain([RECORD]).chain(METHODS);
            match nearest(name, known) {
                Some(nearest) => format!("a flow has no `{name}`; did you mean `{nearest}`?"),
                None => {
                    let all: Vec<_> = names().chain([RECORD]).collect();
                    format!("a flow has no `{name}`; there are {}", all.join(", "))
                }
            }
        })
    }
}

fn json(value: &impl serde::Serialize) -> Told<serde_json::Value> {
    serde_json::to_value(value).map_err(|error| error.to_string())
}

/// A flow in Lua.
pub(super) struct Handle {
    pub flow: Rc<Flow>,
    pub session: Rc<Session>,
}

impl UserData for Handle {
    fn add_methods<M: UserDataMethods<Self>>(methods: &mut M) {
        methods.add_method("answer", |lua, this, payload: Option<LuaString>| {
            let payload = payload.map(|text| text.as_bytes().to_vec()).unwrap_or_default();
            let flow = &this.flow;
            let answered = flow.rig.borrow_mut().answer(flow.ends, &payload);
            raise(lua, answered)
        });
        methods.add_method("send", |lua, this, payload: Value| {
            let options = lua.create_table()?;
            options.raw_set("payload", payload)?;
            let flow = &this.flow;
            let sent = Options::new("send", &Value::Table(options), &["payload"])
                .and_then(|options| options.pieces("payload"))
                .and_then(|pieces| flow.rig.borrow_mut().send(flow.ends, &pieces));
            raise(lua, sent)
        });
        methods.add_method("close", |lua, this, ()| {
            let flow = &this.flow;
            raise(lua, flow.rig.borrow_mut().close(flow.ends))
        });
        methods.add_meta_method(MetaMethod::Index, |lua, this, name: Value| {
            let name = name.to_string()?;
            let field = raise(lua, this.flow.field(&name))?;
            this.session.read(&this.flow);
            values::to_lua(lua, &field)
        });
        methods.add_meta_method(MetaMethod::ToString, |_, this, ()| {
            let Ends { protocol, client, vip } = this.flow.ends;
            Ok(format!("flow {} {client} to {vip}", protocol.name()))
        });
    }
}
