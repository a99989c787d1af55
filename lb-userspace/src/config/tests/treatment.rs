//! How servers are treated: limits, coming and going.

use std::time::Duration;

use super::*;

/// The policy of the one pool, with these lines in it.
fn pool(lines: &str) -> Pool {
    let text = VALID.replacen("name = \"resolvers\"", &format!("name = \"resolvers\"\n{lines}"), 1);
    parse(&text).unwrap().pools.remove(0)
}

#[test]
fn without_a_word_servers_have_no_limits_and_keep_their_flows() {
    let pool = pool("");
    assert_eq!(pool.server_policy, ServerPolicy::default());
    assert_eq!((pool.min_servers_up, pool.fail_action), (1, FailAction::Close));
    let policy = pool.server_policy;
    assert_eq!((policy.graceful_disable, policy.passive_monitor), (None, true));
    assert_eq!((policy.has_limits(), policy.server_down), (false, ServerDown::Keep));
}

#[test]
fn every_key_of_how_servers_are_treated_is_read() {
    let all = pool(
        r#"max_concurrent_connections_per_server = 1000
max_connection_rate_per_server = 50
connection_ramp_duration = "5m"
passive_monitor = false
server_down = "reset"
server_disable_type = "allow-new-connection-if-persistence-present"
graceful_disable_timeout = "90s"
min_servers_up = 2
fail_action = "close""#,
    );
    let expected = ServerPolicy {
        max_connections: 1000,
        max_connection_rate: 50,
        connection_ramp: Duration::from_mins(5),
        passive_monitor: false,
        server_down: ServerDown::Reset,
        disable_type: DisableType::AllowPersistent,
        graceful_disable: Some(Duration::from_secs(90)),
    };
    assert_eq!((all.server_policy, all.min_servers_up), (expected, 2));
    for (written, patience) in [("0", Some(Duration::ZERO)), ("-1", None)] {
        let policy = pool(&format!("graceful_disable_timeout = {written}")).server_policy;
        assert_eq!(policy.graceful_disable, patience);
    }
    let rate = pool("max_connection_rate_per_server = 1").server_policy;
    assert!(rate.has_limits());
}

#[test]
fn a_backup_pool_and_the_limits_of_a_service_and_a_group_are_read() {
    let text = VALID
        .replacen("name = \"resolvers\"", "name = \"resolvers\"\nbackup_pool = \"spare\"", 1)
        .replace("protocol = \"udp\"", "protocol = \"udp\"\nmax_concurrent_connections = 7")
        + r#"
[[pool]]
name = "spare"
servers = [{ address = "10.0.0.31", port = 53 }]
[[pool_group]]
name = "all"
members = [{ pool = "resolvers" }, { pool = "spare" }]
min_servers = 3
"#;
    let config = parse(&text).unwrap();
    assert_eq!(config.pools[0].fail_action, FailAction::BackupPool(PoolIndex(1)));
    assert_eq!(config.virtual_services[0].max_concurrent_connections, 7);
    assert_eq!(config.pool_groups[0].min_servers, 3);
}

const POOL: &str = "[[pool]]\nname = \"resolvers\"";

/// The pool with these lines in it.
macro_rules! with {
    ($lines:literal) => {
        concat!("[[pool]]\n", $lines, "\nname = \"resolvers\"")
    };
}

#[test]
fn what_cannot_be_meant_is_said() {
    run(&[
        Case(
            POOL,
            with!("graceful_disable_timeout = ‹-2"),
            &[(
                "`graceful_disable_timeout` must be a duration, 0 or -1, not -2",
                "such as \"5m\"; 0 ends flows at once, -1 never",
            )],
        ),
        Case(
            POOL,
            with!("graceful_disable_timeout = ‹\"soon\""),
            &[(
                "`graceful_disable_timeout` must be a duration from 0s to 7days, not \"soon\"",
                "such as \"5m\"; 0 ends flows at once, -1 never",
            )],
        ),
        Case(
            POOL,
            with!("fail_action = ‹\"backup-pool\""),
            &[("no backup pool is named", "such as backup_pool = \"spare\"")],
        ),
        Case(
            POOL,
            with!("backup_pool = ‹\"other\""),
            &[("no pool is named \"other\"", "add a [[pool]] with name = \"other\"")],
        ),
        Case(
            POOL,
            with!("‹min_servers_up = 3"),
            &[("3 servers must be up, and the pool has 2", "it would always count as down")],
        ),
        Case(
            POOL,
            with!("‹algorithm = \"fewest-servers\""),
            &[(
                "\"fewest-servers\" has to know when a server is full",
                "such as max_concurrent_connections_per_server = 1000",
            )],
        ),
        Case(
            POOL,
            with!("server_down = ‹\"rest\""),
            &[(
                "`server_down` must be \"keep\" or \"reset\", not \"rest\"",
                "did you mean \"reset\"?",
            )],
        ),
    ]);
}

#[test]
fn a_name_may_stand_for_as_many_servers_as_must_be_up() {
    let name = "{ address = \"app.internal\", port = 53 }";
    let text = VALID.replacen("{ address = \"10.0.0.11\", port = 53 }", name, 1);
    let text = text.replacen(POOL, &format!("{POOL}\nmin_servers_up = 3"), 1);
    assert_eq!(parse(&text).unwrap().pools[0].min_servers_up, 3);
}

#[test]
fn pools_do_not_stand_in_for_themselves() {
    const SPARE: &str = r#"[[pool]]
fail_action = "close"
backup_pool = ‹"spare"
name = "resolvers"
servers = [{ address = "10.0.0.32", port = 53 }]
[[pool]]
name = "spare""#;
    const NEVER: (&str, &str) = (
        "the backup pool would never be used",
        "set fail_action = \"backup-pool\", or leave it out",
    );
    run(&[Case(POOL, SPARE, &[NEVER])]);
    const CIRCLE: &str = r#"[[pool]]
name = "a"
backup_pool = ‹"b"
servers = [{ address = "10.0.0.31", port = 53 }]
[[pool]]
name = "b"
backup_pool = ‹"a"
servers = [{ address = "10.0.0.32", port = 53 }]
[[pool]]
backup_pool = "a"
name = "resolvers""#;
    const ITSELF: (&str, &str) = (
        "the pool would stand in for itself",
        "backup pools must not lead back to where they began",
    );
    run(&[Case(POOL, CIRCLE, &[ITSELF; 2])]);
}
