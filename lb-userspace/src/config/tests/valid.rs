//! What is read from configurations that are right.

use std::time::Duration;

use lb_common::address::Protocol;

use super::*;

#[test]
fn defaults_are_as_documented() {
    let config = parse(VALID).unwrap();
    let instance = &config.instance;
    assert_eq!(
        *instance,
        Instance {
            name: "edge".into(),
            interfaces: vec!["eth0".into()],
            attach_mode: AttachMode::Auto,
            flow_capacity: 131_072,
            snat_addresses: vec!["192.0.2.9".parse().unwrap()],
            snat_ports: 1024..=65535,
            server_time_wait: Duration::from_secs(60),
            manage_addresses: true,
            connection_log: None,
            admin_socket: "/run/lb/edge.sock".into(),
            cores: vec![],
            tcp_half_open_timeout: Duration::from_secs(10),
            tcp_closing_timeout: Duration::from_secs(10),
            udp_one_way_timeout: Duration::from_secs(10),
            half_open_share: 50,
            name_servers: vec![],
            script: ScriptLimits { instruction_budget: 1_000_000, memory: 32 << 20 },
            tables: TableLimits { entries: 100_000, key_size: 1024, value_size: 4096 },
        }
    );
    assert_eq!(config.virtual_services[0].idle_timeout, Duration::from_secs(30));
    assert_eq!(config.virtual_services[0].destination, Some(Destination::Pool(PoolIndex(0))));
    assert_eq!(config.pools[0].algorithm, Algorithm::RoundRobin);
    assert_eq!(config.pools[0].forwarding, Forwarding::Snat);
    let ratios: Vec<_> = config.pools[0].servers.iter().map(|s| (s.ratio, s.enabled)).collect();
    assert_eq!(ratios, [(1, true), (2, true)]);
    let script = config.datascripts[0].l4_request.as_ref().unwrap();
    assert_eq!(script.path, Path::new("/etc/lb/by-client.lua"));
    assert_eq!(config.datascripts[0].on_error, OnError::Close);
    let tcp = parse(&VALID.replace("\"udp\"", "\"tcp\"")).unwrap();
    assert_eq!(tcp.virtual_services[0].idle_timeout, Duration::from_secs(600));
}

#[test]
fn every_key_is_read() {
    let config = parse(
        r#"
[instance]
name = "edge_2"
interfaces = ["eth0", "eth1.100"]
attach_mode = "native"
flow_capacity = 1_048_576
snat_addresses = ["192.0.2.9", "192.0.2.8"]
snat_ports = "10000-20000"
server_time_wait = "4m"
manage_addresses = false
connection_log = "flows.log"
admin_socket = "/tmp/lb.sock"
cores = [2, 3]
tcp_half_open_timeout = "3s"
tcp_closing_timeout = "500ms"
udp_one_way_timeout = "1m 30s"
half_open_share = 25
script = { instruction_budget = 0, memory = "64MiB" }
tables = { entries = 5, key_size = 32, value_size = "1KiB" }

[[virtual_service]]
name = "web"
address = "192.0.2.10"
port = 443
protocol = "tcp"
datascripts = ["second", "first"]
idle_timeout = "1h"
tcp_mode = "fast-path"

[[pool]]
name = "a"
algorithm = "consistent-hash"
forwarding = "dnat"
servers = [{ address = "10.0.0.1", port = 8443, ratio = 1000, enabled = false }]

[[pool]]
name = "b"
[[pool.servers]]
address = "10.0.0.2"
port = 8443

[[datascript]]
name = "first"
pools = ["b", "a"]
protocol_parsers = ["My-Parser", "Default-TLS"]
l4_request = "by-client.lua"
l4_response = "/etc/lb/by-client.lua"
on_error = "close"

[[datascript]]
name = "second"
l4_response = "by-client.lua"

[[protocol_parser]]
name = "My-Parser"
file = "parsers/mine.lua"
"#,
    )
    .unwrap();
    let instance = &config.instance;
    assert_eq!(instance.interfaces, ["eth0", "eth1.100"]);
    assert_eq!(instance.attach_mode, AttachMode::Native);
    assert_eq!((instance.flow_capacity, instance.half_open_share), (1_048_576, 25));
    assert_eq!((&instance.snat_ports, instance.snat_addresses.len()), (&(10_000..=20_000), 2));
    assert_eq!(instance.server_time_wait, Duration::from_secs(240));
    let none = VALID.replace("interfaces", "server_time_wait = \"0s\"\ninterfaces");
    assert_eq!(parse(&none).unwrap().instance.server_time_wait, Duration::ZERO);
    assert!(!instance.manage_addresses);
    assert_eq!(instance.connection_log.as_deref(), Some(Path::new("/etc/lb/flows.log")));
    assert_eq!(instance.admin_socket, Path::new("/tmp/lb.sock"));
    assert_eq!(instance.cores, [2, 3]);
    assert_eq!(instance.tcp_half_open_timeout, Duration::from_secs(3));
    assert_eq!(instance.tcp_closing_timeout, Duration::from_millis(500));
    assert_eq!(instance.udp_one_way_timeout, Duration::from_secs(90));
    assert_eq!(instance.script, ScriptLimits { instruction_budget: 0, memory: 64 << 20 });
    assert_eq!(instance.tables, TableLimits { entries: 5, key_size: 32, value_size: 1024 });
    let [service] = &config.virtual_services[..] else { panic!("one service") };
    assert_eq!(service.address, "192.0.2.10:443".parse().unwrap());
    assert_eq!((service.protocol(), service.destination), (Protocol::Tcp, None));
    assert_eq!(service.datascripts, [SetIndex(1), SetIndex(0)]);
    assert_eq!(service.idle_timeout, Duration::from_secs(3600));
    let [a, b] = &config.pools[..] else { panic!("two pools") };
    assert_eq!((a.algorithm, a.forwarding), (Algorithm::ConsistentHash, Forwarding::Dnat));
    assert_eq!((a.servers[0].ratio, a.servers[0].enabled), (1000, false));
    assert_eq!(b.servers[0].address, "10.0.0.2:8443".parse().unwrap());
    let [first, second] = &config.datascripts[..] else { panic!("two sets") };
    assert_eq!(first.pools, [PoolIndex(1), PoolIndex(0)]);
    let [parser] = &config.protocol_parsers[..] else { panic!("one parser") };
    assert_eq!(parser.name, "My-Parser");
    assert_eq!(parser.script.path, Path::new("/etc/lb/parsers/mine.lua"));
    assert_eq!(
        first.protocol_parsers,
        [ParserReference::Configured(ParserIndex(0)), ParserReference::BuiltIn(BuiltInParser::Tls),]
    );
    assert_eq!(second.protocol_parsers, []);
    assert!(first.l4_request.is_some() && first.l4_response.is_some());
    assert!(second.l4_request.is_none() && second.l4_response.is_some());
}

#[test]
fn a_service_over_tcp_decides_at_the_syn_or_at_the_first_payload() {
    let read = |keys: &str| {
        let text = VALID.replacen("protocol = \"udp\"", &format!("protocol = {keys}"), 1);
        let config = parse(&text).unwrap_or_else(|problems| panic!("{problems}"));
        config.virtual_services[0].transport
    };
    let fast_path = |syn_protection| Transport::Tcp(TcpMode::FastPath { syn_protection });
    let inspect = |no_payload: Option<u64>, collecting| {
        let no_payload = no_payload.map(Duration::from_millis);
        let collecting = Duration::from_secs(collecting);
        Transport::Tcp(TcpMode::Inspect(Inspect { no_payload, collecting }))
    };
    for (keys, expected) in [
        ("'udp'", Transport::Udp),
        ("'tcp'", fast_path(SynProtection::Auto)),
        ("'tcp'\ntcp_mode = 'fast-path'", fast_path(SynProtection::Auto)),
        ("'tcp'\nsyn_protection = 'auto'", fast_path(SynProtection::Auto)),
        ("'tcp'\nsyn_protection = 'always'", fast_path(SynProtection::Always)),
        ("'tcp'\ntcp_mode = 'fast-path'\nsyn_protection = 'off'", fast_path(SynProtection::Off)),
        ("'tcp'\ntcp_mode = 'inspect'", inspect(None, 10)),
        ("'tcp'\ntcp_mode = 'inspect'\ninspect_timeout = '9999ms'", inspect(Some(9999), 10)),
        ("'tcp'\ntcp_mode = 'inspect'\ncollect_timeout = '1s'", inspect(None, 1)),
        (
            "'tcp'\ntcp_mode = 'inspect'\ncollect_timeout = '1m'\ninspect_timeout = '30s'",
            inspect(Some(30_000), 60),
        ),
    ] {
        assert_eq!(read(keys), expected, "{keys}");
        assert_eq!(expected.protocol().name(), &keys[1..4]);
    }
}

#[test]
fn groups_and_policies_are_read() {
    let group = r#"pool_group = "all"
l4_policies = ["offices"]

[[pool_group]]
name = "all"
members = [{ pool = "resolvers", priority = 7, ratio = 3 }, { pool = "spare" }]

[[l4_policy]]
name = "offices"
rules = [
  { name = "branch", clients = ["10.1.0.0/16", "10.2.0.1"], ports = [53, "80-90"], pool = "spare" },
  { name = "rest", protocol = "udp", pool_group = "all" },
]

[[pool]]
name = "spare"
servers = [{ address = "10.0.0.13", port = 53 }]

[[datascript]]
name = "groups"
pool_groups = ["all"]
l4_request = "by-client.lua"
"#;
    let text = VALID.replacen("pool = \"resolvers\"\ndatascripts = [\"by-client\"]\n", group, 1);
    let config = parse(&text).unwrap_or_else(|problems| panic!("{problems}"));
    let [service] = &config.virtual_services[..] else { panic!("one service") };
    // `spare` stands before `resolvers` in the file.
    let (spare, resolvers) = (PoolIndex(0), PoolIndex(1));
    let all = Destination::Group(PoolGroupIndex(0));
    assert_eq!((service.destination, &service.l4_policies[..]), (Some(all), &[PolicyIndex(0)][..]));
    let members = [
        Member { pool: resolvers, priority: 7, ratio: 3 },
        Member { pool: spare, priority: 1, ratio: 1 },
    ];
    assert_eq!(config.pool_groups[0].members, members);
    let [branch, rest] = &config.l4_policies[0].rules[..] else { panic!("two rules") };
    assert_eq!((branch.destination, &*branch.name), (Destination::Pool(spare), "branch"));
    assert_eq!(branch.ports, [53..=53, 80..=90]);
    assert_eq!(branch.clients, ["10.1.0.0/16".parse().unwrap(), "10.2.0.1/32".parse().unwrap()]);
    assert_eq!((rest.destination, rest.protocol), (all, Some(Protocol::Udp)));
    assert_eq!(config.datascripts[0].pool_groups, [PoolGroupIndex(0)]);
}

#[test]
fn a_rule_holds_if_everything_that_it_names_does() {
    let rule = L4Rule {
        name: "r".into(),
        clients: vec!["10.1.0.0/16".parse().unwrap(), "10.2.0.1/32".parse().unwrap()],
        ports: vec![53..=53, 80..=90],
        protocol: Some(Protocol::Udp),
        destination: Destination::Pool(PoolIndex(0)),
    };
    let holds = |protocol, client: &str, port| rule.holds(protocol, client.parse().unwrap(), port);
    assert!(holds(Protocol::Udp, "10.1.255.255", 53));
    assert!(holds(Protocol::Udp, "10.2.0.1", 90));
    assert!(!holds(Protocol::Udp, "10.2.0.2", 53));
    assert!(!holds(Protocol::Udp, "10.1.0.1", 54));
    assert!(!holds(Protocol::Tcp, "10.1.0.1", 53));
    let any = L4Rule { clients: vec![], ports: vec![], protocol: None, ..rule };
    assert!(any.holds(Protocol::Tcp, "192.0.2.1".parse().unwrap(), 1));
}

#[test]
fn who_may_begin_flows_and_how_often_is_read() {
    let text = VALID.replacen(
        "pool = \"resolvers\"\n",
        "pool = \"resolvers\"\nnetwork_security_policy = \"internal\"\n\
         connection_rate_limit = 10_000\nclient_connection_rate_limit = 50\n",
        1,
    ) + "[[network_security_policy]]\nname = \"internal\"\nallow = [\"10.0.0.0/8\"]\n\
         deny = [\"10.1.0.0/16\", \"10.1.2.3\"]\n";
    let config = parse(&text).unwrap_or_else(|problems| panic!("{problems}"));
    let [service] = &config.virtual_services[..] else { panic!("one service") };
    assert_eq!(service.network_security_policy, Some(SecurityIndex(0)));
    let limits = (service.connection_rate_limit, service.client_connection_rate_limit);
    assert_eq!(limits, (10_000, 50));
    let policy = &config.network_security_policies[0];
    let rule = |client: &str| {
        let rule = policy.rule(client.parse().unwrap());
        rule.map(|(prefix, allowed)| (prefix.to_string(), allowed))
    };
    assert_eq!(rule("10.2.0.1"), Some(("10.0.0.0/8".into(), true)));
    assert_eq!(rule("10.1.9.9"), Some(("10.1.0.0/16".into(), false)));
    assert_eq!(rule("10.1.2.3"), Some(("10.1.2.3/32".into(), false)));
    assert_eq!(rule("192.0.2.1"), None);
    assert!(!policy.allows("192.0.2.1".parse().unwrap()));
    let only_denying = NetworkSecurityPolicy { allow: vec![], ..policy.clone() };
    assert!(only_denying.allows("192.0.2.1".parse().unwrap()));
    assert!(!only_denying.allows("10.1.0.1".parse().unwrap()));
    let plain = &parse(VALID).unwrap().virtual_services[0];
    assert_eq!((plain.connection_rate_limit, plain.network_security_policy), (0, None));
}

#[test]
fn profiles_are_read_and_make_keys_of_clients() {
    let text = VALID.replacen(
        "pool = \"resolvers\"\n",
        "pool = \"resolvers\"\npersistence_profile = \"net\"\n",
        1,
    ) + "[[persistence_profile]]\nname = \"net\"\nprefix_length = 20\ntimeout = \"1h\"\n\
         [[persistence_profile]]\nname = \"host\"\n";
    let config = parse(&text).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(config.virtual_services[0].persistence_profile, Some(ProfileIndex(0)));
    let [net, host] = &config.persistence_profiles[..] else { panic!("two profiles") };
    assert_eq!((net.timeout, host.timeout), (Duration::from_secs(3600), Duration::from_secs(300)));
    let client = "192.0.2.77".parse().unwrap();
    assert_eq!((&*net.key(client), &*host.key(client)), ("192.0.0.0/20", "192.0.2.77"));
    let all = PersistenceProfile { prefix_length: 0, ..net.clone() };
    assert_eq!(all.key(client), "0.0.0.0/0");
    let v6 = "2001:db8::1".parse().unwrap();
    assert_eq!((&*net.key(v6), &*host.key(v6)), ("2001:db8::/116", "2001:db8::1"));
}

#[test]
fn a_byte_order_mark_and_windows_line_ends_do_not_matter() {
    let windows = format!("\u{feff}{}", VALID.replace('\n', "\r\n"));
    assert_eq!(parse(&windows), parse(VALID));
    let problems = parse(&windows.replace("port = 53\r", "port = 0\r")).unwrap_err();
    assert_eq!(problems[0].position(), Some((9, 8)), "{problems}");
}
