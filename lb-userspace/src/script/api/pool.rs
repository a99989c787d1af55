//! `avi.pool` and `avi.poolgroup`.

use std::{net::SocketAddr, rc::Rc};

use super::{
    call::{Answer, Call},
    vs::IpText,
};
use crate::{
    config::{Destination, PoolIndex, ServerIndex},
    script::{Chosen, Selection, errors::Raise, names::PoolNames},
};

/// `(pool [, server [, port]])`.
pub(super) fn select(call: &mut Call<'_>) -> Answer {
    let pool = call.pool(0)?;
    let chosen = match call.count {
        1 => Chosen::Pool(pool.index),
        2 => {
            let (port, server) = server(call, &pool, None)?;
            Chosen::Server(pool.index, server, port)
        }
        _ => {
            let port = call.port(2)?;
            let (_, server) = server(call, &pool, Some(port))?;
            Chosen::Server(pool.index, server, port)
        }
    };
    choose(call, chosen)
}

/// `(group)`.
pub(super) fn select_group(call: &mut Call<'_>) -> Answer {
    let name = call.string(0, "pool group")?;
    let group = call.run.names.group(&name).ok_or_else(|| {
        let (set, name) = (&call.run.names.set, String::from_utf8_lossy(&name));
        call.error(format!("set \"{set}\" references no pool group \"{name}\""))
    })?;
    choose(call, Chosen::Group(group))
}

fn choose(call: &mut Call<'_>, chosen: Chosen) -> Answer {
    let by = call.place();
    call.run.effects.selection = Some(Selection { chosen, by });
    Ok(())
}

/// `(pool, server, port)`.
pub(super) fn get_server_status(call: &mut Call<'_>) -> Answer {
    let pool = call.pool(0)?;
    let port = call.port(2)?;
    let (found, server) = server(call, &pool, Some(port))?;
    if found != port {
        let address = call.string(1, "server")?;
        let server = String::from_utf8_lossy(&address);
        return Err(call.error(format!("server \"{server}\" has no port {port} in the pool")));
    }
    let up = call.run.world.server_up(pool.index, server);
    call.reply(f64::from(u8::from(up)))
}

/// `([pool])`: without it, of the pool that the flow goes to as things stand.
pub(super) fn get_servers(call: &mut Call<'_>) -> Answer {
    let (pool, total) = match call.count {
        0 => own_pool(call)?,
        _ => {
            let pool = call.pool(0)?;
            (pool.index, pool.servers)
        }
    };
    let up = |server: &usize| call.run.world.server_up(pool, ServerIndex(*server));
    let up = (0..total).filter(up).count();
    call.reply_two(up as f64, total as f64)
}

fn own_pool(call: &Call<'_>) -> Result<(PoolIndex, usize), Raise> {
    let selected = call.run.effects.selection.map(|selection| selection.chosen.destination());
    let pool = match selected.or(call.run.destination) {
        Some(Destination::Pool(pool)) => Some(pool),
        Some(Destination::Group(_)) => {
            return Err(call.error("the flow goes to a pool group: name one of its pools"));
        }
        None => None,
    };
    let config = call.context.config.borrow();
    let found =
        pool.and_then(|pool| Some((pool, config.as_ref()?.pools.get(pool.0)?.servers.len())));
    found.ok_or_else(|| {
        let service = &call.run.service;
        call.error(format!("virtual service \"{service}\" has no pool: name one"))
    })
}

/// `(key)`.
pub(super) fn chash(call: &mut Call<'_>) -> Answer {
    let key = call.string(0, "key")?;
    call.run.effects.chash = Some(key.to_vec());
    Ok(())
}

pub(super) fn server_ip(call: &mut Call<'_>) -> Answer {
    call.reply(&*IpText::new(own_server(call)?))
}

pub(super) fn get_server_info(call: &mut Call<'_>) -> Answer {
    let server = own_server(call)?;
    call.reply_two(&*IpText::new(server), &*server.port().to_string())
}

fn own_server(call: &Call<'_>) -> Result<SocketAddr, Raise> {
    let server = call.run.server;
    server.ok_or_else(|| call.error("the flow has no server"))
}

/// The second argument: a server's address.
fn server(
    call: &Call<'_>,
    pool: &Rc<PoolNames>,
    port: Option<u16>,
) -> Result<(u16, ServerIndex), Raise> {
    let address = call.string(1, "server")?;
    pool.server(&address, port).ok_or_else(|| {
        let (server, pool) = (String::from_utf8_lossy(&address), call.string(0, "pool"));
        let pool = pool.map(|pool| String::from_utf8_lossy(&pool).into_owned());
        call.error(format!("pool \"{}\" has no server \"{server}\"", pool.unwrap_or_default()))
    })
}
