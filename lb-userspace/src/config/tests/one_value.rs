//! Problems with one key or value.

use super::*;

#[test]
fn keys_that_are_missing_or_unknown() {
    run(&[
        Case(
            "[instance]\nname = \"edge\"\n",
            "‹[instance]\n",
            &[("[instance] needs `name`", "such as name = \"edge\"")],
        ),
        Case(
            "[instance]\nname = \"edge\"\ninterfaces = [\"eth0\"]\nsnat_addresses = [\"192.0.2.9\"]\n",
            "‹",
            &[(
                "the configuration needs [instance]",
                "with its name and interfaces, such as name = \"edge\", interfaces = [\"eth0\"]",
            )],
        ),
        Case(
            "[[virtual_service]]\nname = \"dns\"\naddress = \"192.0.2.10\"\nport = 53\nprotocol",
            "‹[[virtual_service]]\nname = \"dns\"\naddress = \"192.0.2.10\"\nport = 53\n‹protocoll",
            &[
                ("[[virtual_service]] needs `protocol`", "such as protocol = \"tcp\""),
                ("[[virtual_service]] has no key `protocoll`", "did you mean `protocol`?"),
            ],
        ),
        Case(
            "ratio = 2",
            "‹weight = 2",
            &[(
                "an entry of `servers` has no key `weight`",
                "its keys are address, port, ratio, enabled",
            )],
        ),
        Case(
            "[[datascript]]",
            "[‹pools]\n[[datascript]]",
            &[("the configuration has no key `pools`", "did you mean `pool`?")],
        ),
        Case(
            "{ address = \"10.0.0.11\", port = 53 }",
            "‹{ address = \"10.0.0.11\" }",
            &[("an entry of `servers` needs `port`", "such as port = 443")],
        ),
        Case(
            "interfaces = [\"eth0\"]",
            "‹interfaces = []",
            &[("[instance] needs `interfaces`", "such as interfaces = [\"eth0\"]")],
        ),
        Case(
            "[[datascript]]\nname = \"by-client\"\npools = [\"resolvers\"]\nl4_request = \"by-client.lua\"",
            "‹[[datascript]]\nname = \"by-client\"",
            &[("[[datascript]] has no script", "such as l4_request = \"by-client.lua\"")],
        ),
        Case(
            "[[pool]]",
            "‹[[virtual_service]]\nname = \"b\"\naddress = \"192.0.2.11\"\nport = 53\nprotocol = \"udp\"\n[[pool]]",
            &[(
                "[[virtual_service]] has neither `pool`, `pool_group` nor `datascripts`",
                "name the pool that its flows go to: pool = \"…\"",
            )],
        ),
    ]);
}

#[test]
fn values_of_the_wrong_type_or_out_of_bounds() {
    run(&[
        Case(
            "port = 53\n",
            "port = ‹\"53\"\n",
            &[("`port` must be an integer from 1 to 65_535, not \"53\"", "without the quotes: 53")],
        ),
        Case(
            "port = 53\n",
            "port = ‹0\n",
            &[("`port` must be an integer from 1 to 65_535, not 0", "")],
        ),
        Case(
            "\"udp\"",
            "‹\"upd\"",
            &[("`protocol` must be \"tcp\" or \"udp\", not \"upd\"", "did you mean \"udp\"?")],
        ),
        Case(
            "\"192.0.2.10\"",
            "‹\"192.0.2.10:53\"",
            &[(
                "`address` must be an IP address, not \"192.0.2.10:53\"",
                "the port has a key of its own: address = \"192.0.2.10\", port = 53",
            )],
        ),
        Case(
            "\"192.0.2.10\"",
            "‹\"dns.example\"",
            &[(
                "`address` must be an IP address, not \"dns.example\"",
                "only servers may be given by name: write the address itself",
            )],
        ),
        Case(
            "\"10.0.0.11\"",
            "‹\"127.0.0.1\"",
            &[(
                "`address` must be the address of one host, not \"127.0.0.1\"",
                "127.0.0.1 never leaves the machine, so it passes no interface",
            )],
        ),
        Case(
            "[\"192.0.2.9\"]",
            "‹\"192.0.2.9\"",
            &[(
                "`snat_addresses` must be an array, not \"192.0.2.9\"",
                "in brackets, even if there is one: snat_addresses = [ … ]",
            )],
        ),
        Case(
            "[\"192.0.2.9\"]",
            "[‹9, \"192.0.2.9\", ‹\"192.0.2.0/24\"]",
            &[
                (
                    "an entry of `snat_addresses` must be an IP address, not 9",
                    "in quotes, such as \"192.0.2.10\"",
                ),
                (
                    "an entry of `snat_addresses` must be an IP address, not \"192.0.2.0/24\"",
                    "without the length of the prefix: \"192.0.2.0\"",
                ),
            ],
        ),
        Case(
            "ratio = 2",
            "ratio = ‹1001",
            &[("`ratio` must be an integer from 1 to 1000, not 1001", "")],
        ),
        Case(
            "port = 53\n",
            "port = 53\nidle_timeout = ‹10\n",
            &[(
                "`idle_timeout` must be a duration from 1ms to 7days, not 10",
                "in quotes, such as \"10s\"",
            )],
        ),
        Case(
            "port = 53\n",
            "port = 53\nidle_timeout = ‹\"8 days\"\n",
            &[("`idle_timeout` must be a duration from 1ms to 7days, not \"8 days\"", "")],
        ),
        Case(
            "pool = \"resolvers\"",
            "pool = ‹5",
            &[("`pool` must be a name, not 5", "in quotes, such as \"web\"")],
        ),
        Case(
            "name = \"edge\"",
            "name = ‹\"the edge\"",
            &[(
                "`name` must be 1 to 32 letters, digits, - and _, not \"the edge\"",
                "the name is part of paths in /sys/fs/bpf/lb and /run/lb",
            )],
        ),
        Case(
            "interfaces",
            "flow_capacity = ‹32\nsnat_ports = ‹\"2000-1000\"\nserver_time_wait = ‹60\ninterfaces",
            &[
                ("`flow_capacity` must be an integer from 64 to 16_777_216, not 32", ""),
                (
                    "`snat_ports` must be a range of ports, not \"2000-1000\"",
                    "lowest and highest port, from 1 to 65535, such as \"1024-65535\"",
                ),
                (
                    "`server_time_wait` must be a duration from 0s to 7days, not 60",
                    "in quotes, such as \"10s\"",
                ),
            ],
        ),
        Case(
            "[[virtual_service]]",
            "[instance.script]\nmemory = ‹\"32MB\"\n[[virtual_service]]",
            &[(
                "`memory` must be a size from 1MiB to 16GiB, not \"32MB\"",
                "bytes as an integer, or with a unit: \"64KiB\", \"32MiB\", \"1GiB\"",
            )],
        ),
        Case(
            "[[pool]]",
            "‹[pool]",
            &[(
                "`pool` must be an array of tables, not a table",
                "write [[pool]], in double brackets",
            )],
        ),
    ]);
}

#[test]
fn keys_of_tcp_where_they_mean_nothing() {
    run(&[
        Case(
            "protocol = \"udp\"",
            "protocol = \"udp\"\ntcp_mode = ‹\"fast-path\"\nsyn_protection = ‹\"off\"\n\
             inspect_timeout = ‹\"1s\"\ncollect_timeout = ‹\"5s\"",
            &[
                ("`tcp_mode` is for services over TCP", "leave it out"),
                ("`syn_protection` is for services over TCP", "leave it out"),
                ("`inspect_timeout` is for services over TCP", "leave it out"),
                ("`collect_timeout` is for services over TCP", "leave it out"),
            ],
        ),
        Case(
            "protocol = \"udp\"",
            "protocol = \"tcp\"\ninspect_timeout = ‹\"1s\"\ncollect_timeout = ‹\"5s\"",
            &[
                (
                    "`inspect_timeout` is for services that wait for payload",
                    "set tcp_mode = \"inspect\", or leave it out",
                ),
                (
                    "`collect_timeout` is for services that wait for payload",
                    "set tcp_mode = \"inspect\", or leave it out",
                ),
            ],
        ),
        Case(
            "protocol = \"udp\"",
            "protocol = \"tcp\"\ntcp_mode = \"inspect\"\nsyn_protection = ‹\"always\"",
            &[(
                "`syn_protection` is for tcp_mode \"fast-path\"",
                "leave it out: \"inspect\" answers every SYN by a cookie",
            )],
        ),
        Case(
            "protocol = \"udp\"",
            "protocol = \"tcp\"\ntcp_mode = ‹\"inspekt\"\nsyn_protection = \"off\"\n\
             inspect_timeout = \"1s\"",
            &[(
                "`tcp_mode` must be \"fast-path\" or \"inspect\", not \"inspekt\"",
                "did you mean \"inspect\"?",
            )],
        ),
        Case(
            "protocol = \"udp\"",
            "protocol = \"tcp\"\nsyn_protection = ‹true",
            &[("`syn_protection` must be \"auto\" or \"always\" or \"off\", not true", "")],
        ),
    ]);
    let empty = VALID.replace("l4_request", "pool_groups = []\nl4_request");
    assert_eq!(parse(&empty), parse(VALID));
}

#[test]
fn timeouts_of_an_inspection_that_cannot_be() {
    run(&[
        Case(
            "protocol = \"udp\"",
            "protocol = \"tcp\"\ntcp_mode = \"inspect\"\ncollect_timeout = ‹\"999ms\"",
            &[("`collect_timeout` must be a duration from 1s to 7days, not \"999ms\"", "")],
        ),
        Case(
            "protocol = \"udp\"",
            "protocol = \"tcp\"\ntcp_mode = \"inspect\"\ninspect_timeout = ‹0",
            &[(
                "`inspect_timeout` must be a duration from 1ms to 7days, not 0",
                "in quotes, such as \"10s\"",
            )],
        ),
        Case(
            "protocol = \"udp\"",
            "protocol = \"tcp\"\ntcp_mode = \"inspect\"\ninspect_timeout = ‹\"10s\"",
            &[(
                "`inspect_timeout` must be shorter than `collect_timeout`, which is 10s",
                "after it the scripts run without payload; such as inspect_timeout = \"300ms\"",
            )],
        ),
        Case(
            "protocol = \"udp\"",
            "protocol = \"tcp\"\ntcp_mode = \"inspect\"\ncollect_timeout = \"3s\"\n\
             inspect_timeout = ‹\"1m\"",
            &[(
                "`inspect_timeout` must be shorter than `collect_timeout`, which is 3s",
                "after it the scripts run without payload; such as inspect_timeout = \"300ms\"",
            )],
        ),
    ]);
}

#[test]
fn errors_in_the_syntax_are_all_reported() {
    run(&[
        Case(
            "port = 53\n",
            "port = ‹five\n",
            &[("TOML syntax: invalid boolean", "text stands in quotes: \"five\"")],
        ),
        Case(
            "port = 53\n",
            "port = 53\n‹port = 54\n",
            &[(
                "TOML syntax: duplicate key",
                "a key or table is written once: join the two, or remove one",
            )],
        ),
    ]);
    let problems = parse("[instance]\nname = edge\ninterfaces = [eth0]\n").unwrap_err();
    assert_eq!(problems.len(), 2, "{problems}");
}
