//! Servers that are given by name.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use proptest::prelude::*;

use super::*;

const SERVER: &str = "{ address = \"10.0.0.11\", port = 53 }";
const INSTANCE: &str = "name = \"edge\"";

#[test]
fn names_that_are_wrong_or_there_twice() {
    run(&[
        Case(
            SERVER,
            "{ address = ‹\"app_1.internal\", port = 53 }",
            &[(
                "`address` must be an IP address or a DNS name, not \"app_1.internal\"",
                "label \"app_1\": letters, digits, and hyphens between them",
            )],
        ),
        Case(
            SERVER,
            "{ address = ‹\"10.0.0.256\", port = 53 }",
            &[("`address` must be an IP address, not \"10.0.0.256\"", "")],
        ),
        Case(
            SERVER,
            "‹{ address = \"app.internal\" }",
            &[("an entry of `servers` needs `port`", "such as port = 443")],
        ),
        Case(
            SERVER,
            "{ address = \"app.internal\", port = 53 }, ‹{ address = \"APP.internal\", port = 53 }",
            &[(
                "the pool holds app.internal:53 twice",
                "remove one; for a greater share raise its `ratio`",
            )],
        ),
        Case(
            INSTANCE,
            "name = \"edge\"\nname_servers = [‹\"ns.internal\", ‹\"0.0.0.0\", ‹\"10.0.0.53:0\"]",
            &[
                (
                    "an entry of `name_servers` must be the address of a name server, \
                     not \"ns.internal\"",
                    "such as \"10.0.0.53\" or \"10.0.0.53:5353\"",
                ),
                (
                    "an entry of `name_servers` must be the address of a name server, \
                     not \"0.0.0.0\"",
                    "0.0.0.0 stands for no host in particular",
                ),
                (
                    "an entry of `name_servers` must be the address of a name server, \
                     not \"10.0.0.53:0\"",
                    "its port is from 1 to 65535",
                ),
            ],
        ),
        Case(
            INSTANCE,
            "name = \"edge\"\nname_servers = [\"10.0.0.53\", ‹\"10.0.0.53:53\"]",
            &[("`name_servers` holds 10.0.0.53:53 twice", "remove one of them")],
        ),
    ]);
}

#[test]
fn more_names_than_are_asked_for_are_refused() {
    let entry = |number| format!("{{ address = \"a{number}.internal\", port = 53 }}, ");
    let entries = |count| (0..count).map(entry).collect::<String>();
    assert!(parse(&VALID.replace(SERVER, entries(4096).trim_end_matches(", "))).is_ok());
    let problems = parse(&VALID.replace(SERVER, entries(4097).trim_end_matches(", ")));
    let problems = problems.unwrap_err();
    assert_eq!(problems.iter().count(), 1);
    assert_eq!(problems[0].message(), "more than 4096 names of servers");
}

#[test]
fn a_pool_may_have_names_beside_servers_or_alone() {
    let config = parse(
        &VALID
            .replace(SERVER, "{ address = \"App.Internal\", port = 80, ratio = 3 }")
            .replace(INSTANCE, "name = \"edge\"\nname_servers = [\"127.0.0.53\", \"[::1]:5353\"]"),
    )
    .unwrap();
    let name = NamedServer { host: "app.internal".into(), port: 80, ratio: 3, enabled: true };
    assert_eq!((config.pools[0].servers.len(), &config.pools[0].names), (1, &vec![name]));
    let name_servers: Vec<_> = ["127.0.0.53:53", "[::1]:5353"].map(|it| it.parse().unwrap()).into();
    assert_eq!(config.instance.name_servers, name_servers);

    let alone = named(&["{ address = \"app.internal\", port = 80, enabled = false }"]);
    assert_eq!(alone.pools[0].servers, []);
    assert!(!alone.pools[0].names[0].enabled);
}

/// [`VALID`] with these servers.
fn named(servers: &[&str]) -> Config {
    let (before, rest) = VALID.split_once("servers = [").unwrap();
    let (_, after) = rest.split_once("\n]").unwrap();
    parse(&format!("{before}servers = [{}]{after}", servers.join(", "))).unwrap()
}

fn resolution(names: &[(&str, &[[u8; 4]])]) -> Resolution {
    let addresses = |all: &[[u8; 4]]| all.iter().copied().map(Ipv4Addr::from).collect();
    names.iter().map(|(name, all)| ((*name).into(), addresses(all))).collect()
}

fn servers(config: &Config) -> Vec<(String, u16, bool)> {
    let servers = config.pools[0].servers.iter();
    servers.map(|it| (it.address.to_string(), it.ratio, it.enabled)).collect()
}

#[test]
fn every_address_is_a_server_behind_those_that_are_written_out() {
    let config = named(&[
        "{ address = \"b.internal\", port = 80, ratio = 2 }",
        "{ address = \"10.0.0.9\", port = 80, ratio = 7, enabled = false }",
        "{ address = \"a.internal\", port = 80, ratio = 3 }",
        "{ address = \"a.internal\", port = 81 }",
        "{ address = \"unknown.internal\", port = 80 }",
    ]);
    let known = resolution(&[
        ("a.internal", &[[10, 0, 0, 9], [10, 0, 0, 2]]),
        ("b.internal", &[[10, 0, 0, 3], [10, 0, 0, 2], [10, 0, 0, 3]]),
        ("other.internal", &[[10, 0, 0, 4]]),
    ]);
    let expanded = config.expanded(&known);
    assert_eq!(expanded.left_out, []);
    let expected = [
        ("10.0.0.9:80", 7, false),
        // `b.internal` stands before `a.internal`.
        ("10.0.0.2:80", 2, true),
        ("10.0.0.2:81", 1, true),
        ("10.0.0.3:80", 2, true),
        ("10.0.0.9:81", 1, true),
    ];
    assert_eq!(servers(&expanded.config), expected.map(|(it, r, e)| (it.to_owned(), r, e)));
    assert_eq!(expanded.config.pools[0].names, config.pools[0].names);
    assert_eq!(config.expanded(&Resolution::new()).config, config);
}

#[test]
fn addresses_that_can_be_no_server_are_left_out_and_it_is_said_why() {
    let config = named(&["{ address = \"a.internal\", port = 80 }"]);
    let known = resolution(&[(
        "a.internal",
        &[[127, 0, 0, 1], [192, 0, 2, 10], [192, 0, 2, 9], [224, 0, 0, 1], [10, 0, 0, 1]],
    )]);
    let expanded = config.expanded(&known);
    assert_eq!(servers(&expanded.config), [("10.0.0.1:80".to_owned(), 1, true)]);
    let why: Vec<_> = expanded.left_out.iter().map(|it| it.why.as_str()).collect();
    assert_eq!(
        why,
        [
            "127.0.0.1 never leaves the machine, so it passes no interface",
            "192.0.2.9 is the balancer itself",
            "192.0.2.10 is the balancer itself",
            "224.0.0.1 stands for a group of hosts",
        ]
    );
}

#[test]
fn a_pool_takes_no_more_servers_than_it_can_have() {
    let config = named(&["{ address = \"a.internal\", port = 80 }"]);
    let address = |number: u32| Ipv4Addr::from(0x0a00_0000 + number);
    let most = u32::try_from(Pool::MOST_SERVERS).unwrap();
    let known = [("a.internal".into(), (1..=most + 2).map(address).collect())].into();
    let expanded = config.expanded(&known);
    assert_eq!(expanded.config.pools[0].servers.len(), Pool::MOST_SERVERS);
    let left_out: Vec<_> = expanded.left_out.iter().map(|it| it.address).collect();
    assert_eq!(left_out, [address(most + 1), address(most + 2)]);
}

const NAMES: [&str; 3] = ["a.internal", "b.internal", "c.internal"];

/// Few addresses, so that names share some, and some that are refused.
fn answers() -> impl Strategy<Value = Vec<Vec<Ipv4Addr>>> {
    let address = prop_oneof![
        6 => (0..12u8).prop_map(|host| Ipv4Addr::new(10, 0, 0, host)),
        1 => Just(Ipv4Addr::new(192, 0, 2, 10)),
        1 => Just(Ipv4Addr::LOCALHOST),
    ];
    proptest::collection::vec(proptest::collection::vec(address, 0..8), NAMES.len())
}

fn several() -> Config {
    named(&[
        "{ address = \"10.0.0.11\", port = 80 }",
        "{ address = \"b.internal\", port = 80, ratio = 2 }",
        "{ address = \"a.internal\", port = 80, ratio = 3 }",
        "{ address = \"c.internal\", port = 81 }",
        "{ address = \"10.0.0.3\", port = 80, ratio = 9 }",
    ])
}

proptest! {
    #[test]
    fn expansion_is_idempotent_and_makes_no_server_twice(answers in answers()) {
        let known = NAMES.map(Into::into).into_iter().zip(answers).collect();
        let once = several().expanded(&known);
        let again = once.config.expanded(&known);
        prop_assert_eq!(&once, &again);
        let sockets: Vec<_> = once.config.pools[0].servers.iter().map(|it| it.address).collect();
        let mut distinct = sockets.clone();
        distinct.sort();
        distinct.dedup();
        prop_assert_eq!(distinct.len(), sockets.len());
        prop_assert!(sockets[2..].is_sorted());
        prop_assert_eq!(&once.config.pools[0].servers[..2], &several().pools[0].servers[..]);
    }

    #[test]
    fn the_order_of_an_answer_means_nothing(
        answers in answers(), seed in any::<prop::sample::Index>(),
    ) {
        let known: Resolution = NAMES.map(Into::into).into_iter().zip(answers).collect();
        let mut turned = known.clone();
        for addresses in turned.values_mut().filter(|it| !it.is_empty()) {
            let at = seed.index(addresses.len());
            addresses.rotate_left(at);
            addresses.reverse();
        }
        prop_assert_eq!(several().expanded(&known), several().expanded(&turned));
    }

    #[test]
    fn every_address_is_a_server_or_left_out(answers in answers()) {
        let known: Resolution = NAMES.map(Into::into).into_iter().zip(answers).collect();
        let expanded = several().expanded(&known);
        let has = |address: IpAddr, port| {
            let socket = SocketAddr::new(address, port);
            expanded.config.pools[0].servers.iter().any(|server| server.address == socket)
        };
        for (host, addresses) in &known {
            let port = if &**host == "c.internal" { 81 } else { 80 };
            for address in addresses {
                let left = expanded.left_out.iter().any(|it| it.host == *host && it.address == *address);
                prop_assert_ne!(has((*address).into(), port), left, "{} {}", host, address);
            }
        }
    }
}
