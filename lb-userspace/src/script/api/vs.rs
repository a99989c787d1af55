//! `avi.vs`: the flow and its virtual service.

use std::net::{IpAddr, SocketAddr};

use mlua::{Error, MultiValue, Result, Value};

use super::call::{Call, nothing};
use crate::{
    config::Destination,
    script::{Close, Persist, context::append_log},
};

/// Seconds that `persist` keeps a key if not told otherwise.
const PERSIST_LIFETIME: u32 = 300;

pub(super) fn log(call: &mut Call<'_>) -> Result<MultiValue> {
    for index in 0..call.arguments.len() {
        log_one(call, index)?;
    }
    nothing()
}

fn log_one(call: &mut Call<'_>, index: usize) -> Result<()> {
    match &call.arguments[index] {
        Value::Nil => append_log(&mut call.run.effects.log, "nil"),
        Value::Boolean(true) => append_log(&mut call.run.effects.log, "true"),
        Value::Boolean(false) => append_log(&mut call.run.effects.log, "false"),
        Value::String(_) | Value::Integer(_) | Value::Number(_) => {
            let text = call.string(index, "value")?;
            let bytes = text.as_bytes();
            append_log(&mut call.run.effects.log, &String::from_utf8_lossy(&bytes));
        }
        _ => return Err(call.bad(index, "value", "string, number, boolean or nil")),
    }
    Ok(())
}

pub(super) fn close_conn(call: &mut Call<'_>) -> Result<MultiValue> {
    let reset = match call.arguments.front() {
        None | Some(Value::Nil) => false,
        Some(Value::Boolean(reset)) => *reset,
        Some(_) => return Err(call.bad(0, "reset", "boolean")),
    };
    let by = call.place();
    call.run.effects.close = Some(Close { reset, by });
    nothing()
}

pub(super) fn client_ip(call: &mut Call<'_>) -> Result<MultiValue> {
    call.reply(ip_text(call.run.client))
}

pub(super) fn client_port(call: &mut Call<'_>) -> Result<MultiValue> {
    call.reply(call.run.client.port().to_string())
}

pub(super) fn ip(call: &mut Call<'_>) -> Result<MultiValue> {
    call.reply(ip_text(call.run.vip))
}

pub(super) fn port(call: &mut Call<'_>) -> Result<MultiValue> {
    call.reply(call.run.vip.port().to_string())
}

pub(super) fn name(call: &mut Call<'_>) -> Result<MultiValue> {
    call.reply(&*call.run.service)
}

/// An address as scripts see it: an IPv4-mapped one as IPv4.
///
/// Of IPv4 written by hand: nearly every script asks for it, and the standard library's way,
/// which knows of padding, took a tenth of such a script's whole time.
pub(super) fn ip_text(address: SocketAddr) -> String {
    let IpAddr::V4(v4) = address.ip().to_canonical() else { return address.ip().to_string() };
    let mut text = String::with_capacity("255.255.255.255".len());
    for (place, octet) in v4.octets().into_iter().enumerate() {
        if place > 0 {
            text.push('.');
        }
        push_decimal(&mut text, octet);
    }
    text
}

fn push_decimal(text: &mut String, octet: u8) {
    let digits = [octet / 100, octet / 10 % 10, octet % 10].map(|digit| char::from(b'0' + digit));
    let leading = usize::from(octet < 100) + usize::from(octet < 10);
    text.extend(digits.into_iter().skip(leading));
}

pub(super) fn persist(call: &mut Call<'_>) -> Result<MultiValue> {
    let key = call.string(0, "key")?.as_bytes().to_vec();
    let limit = call.context.tables.limits().key_size;
    if key.len() > limit {
        return Err(call.bad(0, "key", format!("at most {limit} bytes")));
    }
    let lifetime = match call.arguments.get(1) {
        None | Some(Value::Nil) => PERSIST_LIFETIME,
        Some(_) => call.whole(1, "lifetime", 1..=u32::MAX)?,
    };
    let destination = match call.arguments.get(2) {
        None | Some(Value::Nil) => call.run.destination,
        Some(_) => Some(Destination::Pool(call.pool(2)?.index)),
    };
    let Some(destination) = destination else {
        let service = &call.run.service;
        return Err(call.error(format!(
            "virtual service \"{service}\" has no pool: name one as the third argument"
        )));
    };
    let by = call.place();
    call.run.effects.persist = Some(Persist { key, lifetime, destination, by });
    call.context.ended.set(true);
    // Only an error leaves the script at once; that it is none is known by `ended`.
    Err(Error::RuntimeError("avi.vs.persist ends the run".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_written_as_everybody_writes_them() {
        for octet in 0..=255u8 {
            let v4 = IpAddr::from([octet, 0, 255 - octet, octet / 2]);
            assert_eq!(ip_text(SocketAddr::new(v4, 1)), v4.to_string());
        }
        for (address, text) in [("::ffff:192.0.2.1", "192.0.2.1"), ("2001:db8::1", "2001:db8::1")] {
            assert_eq!(ip_text(SocketAddr::new(address.parse().unwrap(), 1)), text);
        }
    }
}
