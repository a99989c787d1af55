//! Problems that entries have with each other.

use super::*;

#[test]
fn names_that_lead_nowhere_or_twice() {
    run(&[
        Case(
            "pool = \"resolvers\"",
            "pool = ‹\"resolver\"",
            &[("no pool is named \"resolver\"", "did you mean \"resolvers\"?")],
        ),
        Case(
            "pools = [\"resolvers\"]",
            "pools = [\"resolvers\", ‹\"web\"]",
            &[("no pool is named \"web\"", "add a [[pool]] with name = \"web\"")],
        ),
        Case(
            "datascripts = [\"by-client\"]",
            "datascripts = [‹\"by_client\"]",
            &[("no datascript is named \"by_client\"", "did you mean \"by-client\"?")],
        ),
        Case(
            "[[datascript]]",
            "[[pool]]\nname = ‹\"resolvers\"\nservers = [{ address = \"10.0.0.13\", port = 53 }]\n\
             [[datascript]]",
            &[("two entries of [[pool]] are named \"resolvers\"", "give each its own name")],
        ),
        Case(
            "[\"192.0.2.9\"]",
            "[\"192.0.2.9\", ‹\"192.0.2.9\"]",
            &[("`snat_addresses` holds 192.0.2.9 twice", "remove one of them")],
        ),
        Case(
            "{ address = \"10.0.0.12\", port = 53, ratio = 2 }",
            "‹{ address = \"10.0.0.11\", port = 53, ratio = 2 }",
            &[(
                "the pool holds 10.0.0.11:53 twice",
                "remove one; for a greater share raise its `ratio`",
            )],
        ),
        Case(
            "[[pool]]",
            "[[virtual_service]]\nname = \"other\"\naddress = \"192.0.2.10\"\nport = ‹53\n\
             protocol = \"udp\"\npool = \"resolvers\"\n[[pool]]",
            &[(
                "two virtual services listen on 192.0.2.10:53, udp",
                "a service has its own address, port or protocol",
            )],
        ),
        Case(
            "\"by-client.lua\"",
            "‹\"by-server.lua\"",
            &[(
                "script /etc/lb/by-server.lua cannot be read: no such file",
                "the path is relative to the configuration's folder",
            )],
        ),
        Case(
            "\"by-client.lua\"",
            "‹\"latin1.lua\"",
            &[(
                "script /etc/lb/latin1.lua cannot be read: not UTF-8",
                "scripts are UTF-8: save the file in that encoding",
            )],
        ),
        Case(
            "pool = \"resolvers\"\ndatascripts = [\"by-client\"]",
            "datascripts = [‹\"failing\"]\n[[datascript]]\nname = \"failing\"\n\
             l4_request = \"by-client.lua\"\non_error = \"default-pool\"",
            &[(
                "datascript \"failing\" falls back to the service's pool, and the service has none",
                "add `pool`, or set on_error = \"close\" there",
            )],
        ),
    ]);
}

/// [`VALID`]'s pool, with what is to stand before it.
const POOL: &str = "[[pool]]\nname = \"resolvers\"";

#[test]
fn groups_and_policies_that_lead_nowhere() {
    run(&[
        Case(
            "pool = \"resolvers\"\ndatascripts",
            "pool_group = ‹\"all\"\ndatascripts",
            &[("no pool_group is named \"all\"", "add a [[pool_group]] with name = \"all\"")],
        ),
        Case(
            "pools = [\"resolvers\"]",
            "pools = [\"resolvers\"]\npool_groups = [‹\"all\"]",
            &[("no pool_group is named \"all\"", "add a [[pool_group]] with name = \"all\"")],
        ),
        Case(
            "datascripts = [\"by-client\"]",
            "l4_policies = [‹\"offices\"]",
            &[("no l4_policy is named \"offices\"", "add a [[l4_policy]] with name = \"offices\"")],
        ),
        Case(
            "pool = \"resolvers\"\ndatascripts",
            "pool = \"resolvers\"\npool_group = ‹\"all\"\ndatascripts",
            &[(
                "both `pool` and `pool_group` are given",
                "remove one: a group may have a single member",
            )],
        ),
        Case(
            POOL,
            "[[pool_group]]\nname = \"all\"\nmembers = [{ pool = \"resolvers\" }, \
             ‹{ pool = \"resolvers\", priority = 2 }, { pool = ‹\"reslovers\" }]\n\
             [[pool]]\nname = \"resolvers\"",
            &[
                (
                    "the group holds pool \"resolvers\" twice",
                    "remove one; for a greater share raise its `ratio`",
                ),
                ("no pool is named \"reslovers\"", "did you mean \"resolvers\"?"),
            ],
        ),
        Case(
            POOL,
            "[[pool_group]]\nname = \"all\"\n‹members = []\n[[pool]]\nname = \"resolvers\"",
            &[(
                "[[pool_group]] needs `members`",
                "such as members = [{ pool = \"blue\", priority = 2 }, { pool = \"green\" }]",
            )],
        ),
        Case(
            POOL,
            "[[l4_policy]]\nname = \"offices\"\nrules = [{ name = \"a\", pool = ‹\"reslovers\" }, \
             ‹{ name = ‹\"a\", clients = [‹\"10.1.2.0/16\"], ports = [‹0] }]\n\
             [[pool]]\nname = \"resolvers\"",
            &[
                ("no pool is named \"reslovers\"", "did you mean \"resolvers\"?"),
                (
                    "an entry of `rules` needs `pool`",
                    "such as pool = \"web\", or pool_group = \"…\"",
                ),
                ("two entries of [[l4_policy.rules]] are named \"a\"", "give each its own name"),
                (
                    "an entry of `clients` must be a prefix, not \"10.1.2.0/16\"",
                    "the bits behind the length are zero: \"10.1.0.0/16\"",
                ),
                (
                    "an entry of `ports` must be an integer from 1 to 65_535, not 0",
                    "a port such as 53, or a range in quotes such as \"8000-8099\"",
                ),
            ],
        ),
    ]);
}

#[test]
fn policies_of_who_may_begin_flows_that_contradict_themselves() {
    run(&[
        Case(
            "datascripts = [\"by-client\"]",
            "persistence_profile = ‹\"net\"\nnetwork_security_policy = ‹\"inside\"\n\
             connection_rate_limit = ‹-1",
            &[
                (
                    "no persistence_profile is named \"net\"",
                    "add a [[persistence_profile]] with name = \"net\"",
                ),
                (
                    "no network_security_policy is named \"inside\"",
                    "add a [[network_security_policy]] with name = \"inside\"",
                ),
                ("`connection_rate_limit` must be an integer from 0 to 100_000_000, not -1", ""),
            ],
        ),
        Case(
            POOL,
            "‹[[network_security_policy]]\nname = \"a\"\n[[pool]]\nname = \"resolvers\"",
            &[(
                "[[network_security_policy]] has neither `allow` nor `deny`",
                "such as allow = [\"10.0.0.0/8\"]",
            )],
        ),
        Case(
            POOL,
            "[[network_security_policy]]\nname = \"a\"\nallow = [\"10.0.0.0/8\", ‹\"10.0.0.0/8\"]\n\
             deny = [\"10.0.0.1\", ‹\"10.0.0.0/8\"]\n[[pool]]\nname = \"resolvers\"",
            &[
                ("`allow` holds 10.0.0.0/8 twice", "remove one of them"),
                (
                    "10.0.0.0/8 is both allowed and denied",
                    "remove one; of prefixes that differ, the longer decides",
                ),
            ],
        ),
    ]);
}

#[test]
fn addresses_that_do_not_go_together() {
    const LATER: &str = "the packet path is IPv4 only so far";
    run(&[
        Case(
            "\"10.0.0.12\"",
            "‹‹\"2001:db8::12\"",
            &[
                ("2001:db8::12 is an IPv6 address", LATER),
                ("the pool mixes IPv4 and IPv6 servers", "make two pools, one for each family"),
            ],
        ),
        Case(
            "\"192.0.2.10\"\nport = 53\nprotocol = \"udp\"\npool = ",
            "‹\"2001:db8::10\"\nport = 53\nprotocol = \"udp\"\npool = ‹",
            &[
                ("2001:db8::10 is an IPv6 address", LATER),
                (
                    "the service is IPv6, and the servers of pool \"resolvers\" are IPv4",
                    "a service and its pools are of one family",
                ),
            ],
        ),
        Case(
            "\"10.0.0.12\"",
            "‹\"192.0.2.10\"",
            &[("server 192.0.2.10 is the balancer itself", "a server has an address of its own")],
        ),
        Case(
            "\"10.0.0.12\"",
            "‹\"192.0.2.9\"",
            &[("server 192.0.2.9 is the balancer itself", "a server has an address of its own")],
        ),
    ]);
}

#[test]
fn source_addresses_are_needed_once_a_pool_in_use_has_snat() {
    let without = VALID.replace("snat_addresses = [\"192.0.2.9\"]\n", "");
    let problems = parse(&without).unwrap_err();
    let [problem] = &problems[..] else { panic!("{problems}") };
    assert_eq!(
        problem.message(),
        "pool \"resolvers\" forwards with \"snat\", and [instance] has no `snat_addresses`"
    );
    assert_eq!((problem.position(), problem.related().next()), (Some((14, 8)), Some((1, 1))));
    assert!(parse(&without.replace("servers =", "forwarding = \"dnat\"\nservers =")).is_ok());
}

#[test]
fn protocol_parsers_that_lead_nowhere_or_twice() {
    run(&[
        Case(
            "pools = [\"resolvers\"]",
            "pools = [\"resolvers\"]\nprotocol_parsers = [‹\"Default-Tls\", ‹\"Mine\"]",
            &[
                ("no protocol_parser is named \"Default-Tls\"", "did you mean \"Default-TLS\"?"),
                (
                    "no protocol_parser is named \"Mine\"",
                    "add a [[protocol_parser]] with name = \"Mine\"",
                ),
            ],
        ),
        Case(
            "pools = [\"resolvers\"]",
            "pools = [\"resolvers\"]\nprotocol_parsers = [\"Default-TLS\", ‹\"Default-TLS\"]",
            &[("`protocol_parsers` holds Default-TLS twice", "remove one of them")],
        ),
        Case(
            "[[datascript]]",
            "[[protocol_parser]]\nname = ‹\"Default-DHCP\"\nfile = \"by-client.lua\"\n\
             [[datascript]]",
            &[(
                "protocol parser \"Default-DHCP\" is built in",
                "a set may reference it as it is; give a parser of your own another name",
            )],
        ),
        Case(
            "[[datascript]]",
            "[[protocol_parser]]\nname = \"Mine\"\nfile = \"by-client.lua\"\n\
             [[protocol_parser]]\nname = ‹\"Mine\"\nfile = \"by-client.lua\"\n[[datascript]]",
            &[("two entries of [[protocol_parser]] are named \"Mine\"", "give each its own name")],
        ),
        Case(
            "[[datascript]]",
            "[[protocol_parser]]\nname = \"Mine\"\nfile = ‹\"mine.lua\"\n[[datascript]]",
            &[(
                "script /etc/lb/mine.lua cannot be read: no such file",
                "the path is relative to the configuration's folder",
            )],
        ),
        Case(
            "[[datascript]]",
            "‹[[protocol_parser]]\nname = \"Mine\"\n[[datascript]]",
            &[("[[protocol_parser]] needs `file`", "such as file = \"my-parser.lua\"")],
        ),
    ]);
}
