//! Avi's functions.

use super::{
    super::{l4, pool, table, vs},
    ANY, Function,
    Kind::{self, *},
    REQUEST, RESPONSE, function, optional, required,
};

pub(super) const ABOUT_L4: &str = "The payload: what follows the UDP header of the first datagram, or, on a virtual service \
    with `tcp_mode = \"inspect\"`, what the client has sent over TCP so far. In `L4_RESPONSE` it is the server's.";

pub(super) const L4: &[Function] = &[
    function("avi.l4.read", ANY, l4::read)
        .takes(&[optional("bytes", Kind::BYTES)])
        .returns("string: the first `bytes` bytes of the payload, all of it without the argument or with 0")
        .about("Reads the payload; it can be read again. Binary-safe: the string has the bytes as they came. It never waits: \
                `avi.l4.collect` does.")
        .fails("Fewer bytes than asked for are buffered.")
        .example("local payload = avi.l4.read()\nlocal id = payload:byte(1) * 256 + payload:byte(2)"),
    function("avi.l4.collect", ANY, l4::collect)
        .takes(&[required("bytes", Kind::BYTES)])
        .returns("number: how many bytes are buffered, at least `bytes`")
        .about("Makes sure that so much of the payload is there. With `tcp_mode = \"inspect\"` it waits for it: the run \
                ends here, not even `pcall` goes on, and leaves nothing behind; once there is as much, the scripts run \
                again, all of them, from the first line of the first. So a payload that was read before is longer then. \
                A client for which that takes too long is closed by `collect_timeout` or `idle_timeout`. Where nothing \
                can come, it fails: a UDP datagram is all there is, a fast-path service decides at the SYN, which has no \
                payload.")
        .fails("So much is not there and cannot come; also when the sender has closed its side, or `inspect_timeout` \
                has run out.")
        .example("if not pcall(avi.l4.collect, 12) then\n  avi.vs.close_conn() -- shorter than a DNS header\nend"),
    function("avi.l4.ds_done", ANY, l4::ds_done)
        .about("Says that the script needs no more of this flow's payload. The run goes on. Payload that comes after the \
                decision is shown to no script in any case, so there is nothing that it saves."),
];

pub(super) const ABOUT_VS: &str = "The flow, its virtual service, and what is to become of it.";

pub(super) const VS: &[Function] = &[
    function("avi.vs.client_ip", REQUEST, vs::client_ip)
        .returns("string: `\"192.0.2.7\"`, or IPv6 in its canonical form, `\"2001:db8::7\"`")
        .about("The client's address: the source of the packet."),
    function("avi.vs.client_port", REQUEST, vs::client_port)
        .returns("string: `\"49152\"`")
        .about("The client's port. A string, as in Avi: `tonumber` makes a number of it."),
    function("avi.vs.ip", REQUEST, vs::ip)
        .returns("string")
        .about("The virtual service's address that the packet was sent to."),
    function("avi.vs.port", REQUEST, vs::port)
        .returns("string: `\"443\"`")
        .about("The virtual service's port that the packet was sent to."),
    function("avi.vs.name", REQUEST, vs::name)
        .returns("string")
        .about("The virtual service's name in the configuration."),
    function("avi.vs.log", ANY, vs::log)
        .takes_any_number_of(&[required("value", Loggable)])
        .about("Adds its arguments to `ds_log` of the flow's connection log, one after another without anything \
                between them. All calls of all scripts together make 256 characters at most; what is more is cut. Bytes \
                that are no UTF-8 are shown as the replacement character.")
        .example("avi.vs.log(\"client \", avi.vs.client_ip(), \" known: \", found ~= nil)"),
    function("avi.vs.close_conn", REQUEST, vs::close_conn)
        .takes(&[optional("reset", Boolean)])
        .about("Closes the connection. A TCP client that was decided at the SYN gets a reset, whatever `reset` says, for \
                its handshake is not complete; one that was inspected gets a reset if `reset` is true, else a FIN. A UDP \
                datagram is dropped, and so is what follows of that flow. The script goes on to its end; the scripts \
                after it are not run."),
    function("avi.vs.persist", REQUEST, vs::persist)
        .takes(&[required("key", Text), optional("lifetime", Kind::LIFETIME), optional("pool", Pool)])
        .about("Sends the flow to the server that is stored under `key` in the default table and renews the entry's \
                lifetime (seconds; 300 if not given). If there is none, or its server is down or gone, the pool's \
                algorithm chooses, and the choice is stored as `\"ip-port\"`. Without `pool`, in the virtual service's. \
                **Ends the run**: no statement after it is executed, not even behind `pcall`, and no script after this \
                one; the pool chosen by an earlier `select` does not count.")
        .fails("Neither the call nor the virtual service names a pool; the key is longer than `key_size`.")
        .example("avi.vs.persist(avi.vs.client_ip(), 600, \"web\")"),
    function("avi.vs.ds_done", REQUEST, l4::ds_done)
        .about("The same as `avi.l4.ds_done`."),
];

pub(super) const ABOUT_TABLES: &str = "See [Tables](#tables). Where `table` may be left out, two arguments are \
    (key, lifetime) when the second is a number, and (table, key) when it is a string. A key that is a number is \
    taken as its text: `1` and `\"1\"` are one key.";

pub(super) const TABLES: &[Function] = &[
    function("avi.vs.table_insert", ANY, table::insert)
        .takes(&[optional("table", Text), required("key", Text), required("value", Value), optional("lifetime", Kind::LIFETIME)])
        .returns("boolean: `false` when the table is full")
        .about("Stores a value under a key that is not there. **A key that is there keeps its value**; only its \
                lifetime starts anew. To replace a value, remove the key first. The lifetime is in seconds, 300 if not \
                given. Three arguments are (key, value, lifetime) when the third is a number, else (table, key, value): \
                to store a number in a named table, give the lifetime too.")
        .fails("Key or value is longer than `key_size` or `value_size`.")
        .example("avi.vs.table_insert(avi.vs.client_ip(), \"10.0.0.11\")       -- for 300 seconds\n\
                  avi.vs.table_insert(\"seen\", avi.vs.client_ip(), 1, 3600) -- in the table \"seen\""),
    function("avi.vs.table_lookup", ANY, table::lookup)
        .takes(&[optional("table", Text), required("key", Text), optional("lifetime", Kind::EXTENSION)])
        .returns("the value, and a number: the seconds it has left; nil if the key is not there or has expired")
        .about("Looks a key up. **That extends its lifetime** by `lifetime` seconds, by 300 if not given; 0 leaves it as it is.")
        .fails("The key is longer than `key_size`.")
        .example("local server, left = avi.vs.table_lookup(avi.vs.client_ip(), 0)\nif server then avi.pool.select(\"web\", server) end"),
    function("avi.vs.table_refresh", ANY, table::refresh)
        .takes(&[optional("table", Text), required("key", Text), optional("lifetime", Kind::EXTENSION)])
        .returns("boolean: `false` when the key is not there")
        .about("Lets a key live for another `lifetime` seconds from now, 300 if not given.")
        .fails("The key is longer than `key_size`."),
    function("avi.vs.table_remove", ANY, table::remove)
        .takes(&[optional("table", Text), required("key", Text)])
        .about("Takes a key out. One that is not there is no error.")
        .fails("The key is longer than `key_size`."),
];

pub(super) const ABOUT_POOL: &str = "Pools, pool groups and servers by name. A set may name the pools and pool groups \
    that its configuration lists, and no others.";

pub(super) const POOL: &[Function] = &[
    function("avi.pool.select", REQUEST, pool::select)
        .takes(&[required("pool", Pool), optional("server", Server), optional("port", Kind::PORT)])
        .about("Sends the flow to a pool, whose algorithm chooses the server, or to one server of it, at `port` if that is \
                given. The last `select` of all scripts counts. If the server is down, the pool's algorithm chooses \
                another, and `ds_log` says so.")
        .fails("The set references no such pool; the pool has no such server.")
        .example("avi.pool.select(\"web\")\navi.pool.select(\"web\", \"10.0.0.11\", 8081)"),
    function("avi.pool.get_server_status", REQUEST, pool::get_server_status)
        .takes(&[required("pool", Pool), required("server", Server), required("port", Kind::PORT)])
        .returns("number: 1 if the server is up, 0 if it is down")
        .about("Asks whether a server takes new flows now. All three arguments are needed.")
        .fails("The set references no such pool; the pool has no such server at this port."),
    function("avi.pool.get_servers", REQUEST, pool::get_servers)
        .takes(&[optional("pool", Pool)])
        .returns("two numbers: servers that are up, and all servers")
        .about("Counts a pool's servers: those of the named pool, else of the one that this script has selected, else of \
                the virtual service's.")
        .fails("The set references no such pool; no pool is named and the virtual service has none.")
        .example("local up, all = avi.pool.get_servers(\"web\")\nif up * 2 < all then avi.pool.select(\"overflow\") end"),
    function("avi.pool.chash", REQUEST, pool::chash)
        .takes(&[required("key", Text)])
        .about("Gives the key that a consistent-hash pool hashes for this flow, in place of the client's address. Pools \
                with another algorithm ignore it."),
    function("avi.pool.server_ip", RESPONSE, pool::server_ip)
        .returns("string")
        .about("The address of the flow's server."),
    function("avi.pool.get_server_ip", RESPONSE, pool::server_ip)
        .returns("string")
        .about("The same as `avi.pool.server_ip`."),
    function("avi.pool.get_server_info", RESPONSE, pool::get_server_info)
        .returns("two strings: address and port of the flow's server")
        .about("The flow's server."),
    function("avi.poolgroup.select", REQUEST, pool::select_group)
        .takes(&[required("pool group", PoolGroup)])
        .about("Sends the flow to the highest-priority member pool that has a server up, then by ratio.")
        .fails("The set references no such pool group."),
];
