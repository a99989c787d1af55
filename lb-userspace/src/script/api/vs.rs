//! `avi.vs`: the flow and its virtual service.

use std::{
    net::{IpAddr, SocketAddr},
    ops::Deref,
};

use super::call::{Answer, Call};
use crate::{
    config::Destination,
    script::{Close, Persist, context::append_log, errors::Raise, vm::Argument},
};

/// Seconds that `persist` keeps a key if not told otherwise.
const PERSIST_LIFETIME: u32 = 300;

pub(super) fn log(call: &mut Call<'_>) -> Answer {
    (0..call.stack.len()).try_for_each(|index| log_one(call, index))
}

fn log_one(call: &mut Call<'_>, index: usize) -> Answer {
    let argument = call.get(index);
    let log = &mut call.run.effects.log;
    match argument {
        Argument::Nil => append_log(log, "nil"),
        Argument::Boolean(true) => append_log(log, "true"),
        Argument::Boolean(false) => append_log(log, "false"),
        Argument::Text(_) | Argument::Number(_) => {
            let text = call.string(index, "value")?;
            append_log(&mut call.run.effects.log, &String::from_utf8_lossy(&text));
        }
        _ => return Err(call.bad(index, "value", "string, number, boolean or nil")),
    }
    Ok(())
}

pub(super) fn close_conn(call: &mut Call<'_>) -> Answer {
    let reset = match call.get(0) {
        Argument::Missing | Argument::Nil => false,
        Argument::Boolean(reset) => reset,
        _ => return Err(call.bad(0, "reset", "boolean")),
    };
    let by = call.place();
    call.run.effects.close = Some(Close { reset, by });
    Ok(())
}

pub(super) fn client_ip(call: &mut Call<'_>) -> Answer {
    call.reply(&*IpText::new(call.run.client))
}

pub(super) fn client_port(call: &mut Call<'_>) -> Answer {
    call.reply(call.run.client.port().to_string().as_str())
}

pub(super) fn ip(call: &mut Call<'_>) -> Answer {
    call.reply(&*IpText::new(call.run.vip))
}

pub(super) fn port(call: &mut Call<'_>) -> Answer {
    call.reply(call.run.vip.port().to_string().as_str())
}

pub(super) fn name(call: &mut Call<'_>) -> Answer {
    call.reply(&*call.run.service)
}

/// An address as scripts see it: an IPv4-mapped one as IPv4.
///
/// Of IPv4 put together from what is written already: nearly every script asks for it, and the
/// standard library's way, which knows of padding, took a tenth of such a script's whole time.
pub(super) enum IpText {
    V4([u8; "255.255.255.255.".len()], usize),
    V6(String),
}

impl IpText {
    pub(super) fn new(address: SocketAddr) -> Self {
        let IpAddr::V4(v4) = address.ip().to_canonical() else {
            return Self::V6(address.ip().to_string());
        };
        let (mut text, mut length) = ([0; _], 0);
        for octet in v4.octets() {
            let [characters @ .., digits] = OCTETS[usize::from(octet)];
            // The next octet overwrites what this one is too long by.
            if let Some(place) = text[length..].first_chunk_mut() {
                *place = characters;
            }
            length += usize::from(digits) + 1;
        }
        Self::V4(text, length - 1)
    }
}

/// Each octet in decimal digits with a dot behind it, and how many digits these are.
static OCTETS: [[u8; 5]; 256] = {
    let mut octets = [[0; 5]; 256];
    let mut octet = 0;
    while octet < 256 {
        let digits = [octet / 100, octet / 10 % 10, octet % 10];
        let count = 1 + (octet >= 10) as usize + (octet >= 100) as usize;
        let mut place = 0;
        while place < count {
            octets[octet][place] = b'0' + digits[3 - count + place] as u8;
            place += 1;
        }
        octets[octet][count] = b'.';
        octets[octet][4] = count as u8;
        octet += 1;
    }
    octets
};

impl Deref for IpText {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::V4(text, length) => &text[..*length],
            Self::V6(text) => text.as_bytes(),
        }
    }
}

pub(super) fn persist(call: &mut Call<'_>) -> Answer {
    let key = call.string(0, "key")?.to_vec();
    let limit = call.context.tables.limits().key_size;
    if key.len() > limit {
        return Err(call.bad(0, "key", format!("at most {limit} bytes")));
    }
    let lifetime = match call.stack.is_nil(1) {
        true => PERSIST_LIFETIME,
        false => call.whole(1, "lifetime", 1..=u32::MAX)?,
    };
    let destination = match call.stack.is_nil(2) {
        true => call.run.destination,
        false => Some(Destination::Pool(call.pool(2)?.index)),
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
    Err(Raise::End)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_written_as_everybody_writes_them() {
        for octet in 0..=255u8 {
            let v4 = IpAddr::from([octet, 0, 255 - octet, octet / 2]);
            assert_eq!(&*IpText::new(SocketAddr::new(v4, 1)), v4.to_string().as_bytes());
        }
        for (address, text) in [("::ffff:192.0.2.1", "192.0.2.1"), ("2001:db8::1", "2001:db8::1")] {
            let address = SocketAddr::new(address.parse().unwrap(), 1);
            assert_eq!(&*IpText::new(address), text.as_bytes());
        }
    }
}
