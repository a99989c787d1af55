//! `[[health_monitor]]`, and what pools say of them.

use std::time::Duration;

use hyper::Method;

use super::*;

/// [`VALID`]'s pool, after which a monitor can be added.
const POOL: &str = "[[datascript]]";

fn with(monitor: &str) -> Config {
    let text = format!("{VALID}\n[[health_monitor]]\nname = \"it\"\n{monitor}");
    parse(&text).unwrap_or_else(|problems| panic!("{problems}"))
}

fn check_of(monitor: &str) -> Check {
    with(monitor).health_monitors[0].check.clone()
}

#[test]
fn a_monitor_has_avi_s_defaults() {
    let config = with("type = \"tcp\"");
    let nothing = Exchange { send: Vec::new(), expect: Vec::new() };
    let expected = HealthMonitor {
        name: "it".into(),
        interval: Duration::from_secs(10),
        timeout: Duration::from_secs(4),
        successful_checks: 2,
        failed_checks: 2,
        port: None,
        check: Check::Tcp(nothing),
    };
    assert_eq!(*config.health_monitors[0], expected);
    assert!(config.pools[0].health_monitors.is_empty());
    assert_eq!(config.pools[0].min_health_monitors_up, 0);
    let short = with("type = \"ping\"\ninterval = \"200ms\"");
    assert_eq!(short.health_monitors[0].timeout, Duration::from_millis(200));
    let Check::Http(http) = check_of("type = \"http\"") else { panic!() };
    assert_eq!((http.request.method, http.request.path.as_str()), (Method::GET, "/"));
    assert_eq!(http.statuses, [200..=299, 300..=399]);
    let Check::Https(_, tls) = check_of("type = \"https\"") else { panic!() };
    assert_eq!(tls, TlsCheck { server_name: None, verify: true, ca_file: None });
}

#[test]
fn every_key_of_a_monitor_is_read() {
    let config = with(
        "type = \"udp\"\ninterval = \"1s\"\ntimeout = \"1s\"\nsuccessful_checks = 1\n\
         failed_checks = 50\nport = 5353\nsend = \"a\"\nexpect = { hex = \"ff\" }",
    );
    let monitor = &config.health_monitors[0];
    assert_eq!((monitor.successful_checks, monitor.failed_checks), (1, 50));
    assert_eq!(monitor.target("10.0.0.1:53".parse().unwrap()), "10.0.0.1:5353".parse().unwrap());
    assert_eq!(monitor.check, Check::Udp(Exchange { send: b"a".to_vec(), expect: vec![0xff] }));
    let dns = "type = \"dns\"\nquery_name = \"a.test\"\nrecord_type = \"MX\"\nrcode = \"any\"";
    let expected = DnsCheck { query_name: "a.test".into(), record_type: 15, rcode: None };
    assert_eq!(check_of(dns), Check::Dns(expected));
    let program = "type = \"external\"\ncommand = [\"check\", \"-a\"]\nenvironment = { B = \"c\" }";
    let expected = Program {
        path: "/etc/lb/check".into(),
        arguments: vec!["-a".into()],
        environment: vec![("B".into(), "c".into())],
    };
    assert_eq!(check_of(program), Check::External(expected));
    let https = "type = \"https\"\nstatus = [204, \"4xx\"]\nbody = \"b\"\nserver_name = \"a.test\"";
    let Check::Https(http, tls) = check_of(https) else { panic!() };
    assert_eq!((http.statuses, http.body), (vec![204..=204, 400..=499], b"b".to_vec()));
    assert_eq!(tls.server_name.as_deref(), Some("a.test"));
    let pool = "name = \"resolvers\"\nhealth_monitors = [\"b\", \"a\"]\nmin_health_monitors_up = 1";
    let monitors = "[[health_monitor]]\nname = \"a\"\ntype = \"ping\"\n\
                    [[health_monitor]]\nname = \"b\"\ntype = \"ping\"\n[[datascript]]";
    let text = VALID.replace("name = \"resolvers\"", pool).replace("[[datascript]]", monitors);
    let pool = &parse(&text).unwrap().pools[0];
    assert_eq!(pool.health_monitors, [MonitorIndex(1), MonitorIndex(0)]);
    assert_eq!(pool.min_health_monitors_up, 1);
}

#[test]
fn what_is_wrong_with_a_monitor_is_said() {
    run(&[
        Case(
            POOL,
            "‹[[health_monitor]]\nname = \"a\"\n[[datascript]]",
            &[("[[health_monitor]] needs `type`", "such as type = \"tcp\"")],
        ),
        Case(
            POOL,
            "[[health_monitor]]\nname = \"a\"\ntype = \"tcp\"\n‹status = [200]\n[[datascript]]",
            &[(
                "[[health_monitor]] has no key `status`",
                "its keys are name, type, interval, timeout, successful_checks, failed_checks, \
                 port, send, expect",
            )],
        ),
        Case(
            POOL,
            "[[health_monitor]]\nname = \"a\"\ntype = \"ping\"\ninterval = \"1s\"\n\
             timeout = ‹\"2s\"\n‹port = 5\n[[datascript]]",
            &[
                (
                    "`timeout` is longer than the interval, which is 1s",
                    "a check ends before the next begins: shorten it",
                ),
                (
                    "[[health_monitor]] has no key `port`",
                    "its keys are name, type, interval, timeout, successful_checks, failed_checks",
                ),
            ],
        ),
        Case(
            POOL,
            "‹[[health_monitor]]\nname = \"a\"\ntype = \"udp\"\n[[datascript]]",
            &[("[[health_monitor]] needs `send`", "such as send = \"ping\"")],
        ),
        Case(
            POOL,
            "[[health_monitor]]\nname = \"a\"\ntype = \"http\"\nrequest = ‹\"/\"\n\
             status = [‹\"2x\"]\n[[datascript]]",
            &[
                (
                    "`request` must be an HTTP request, not \"/\"",
                    "it begins with a method; such as \"GET / HTTP/1.0\", lines of headers may follow",
                ),
                (
                    "an entry of `status` must be a status, not \"2x\"",
                    "a code such as 301, or a class in quotes such as \"2xx\"",
                ),
            ],
        ),
        Case(
            POOL,
            "‹[[health_monitor]]\nname = \"a\"\ntype = \"external\"\n[[datascript]]",
            &[(
                "[[health_monitor]] needs `command`",
                "such as command = [\"/usr/local/bin/check-web\", \"--quick\"]",
            )],
        ),
    ]);
}

#[test]
fn files_of_certificates_must_be_there_and_hold_some() {
    run(&[
        Case(
            POOL,
            "[[health_monitor]]\nname = \"a\"\ntype = \"https\"\nca_file = ‹\"ca.pem\"\n[[datascript]]",
            &[(
                "file /etc/lb/ca.pem cannot be read: no such file",
                "the path is relative to the configuration's folder",
            )],
        ),
        Case(
            POOL,
            "[[health_monitor]]\nname = \"a\"\ntype = \"https\"\nca_file = ‹\"by-client.lua\"\n\
             [[datascript]]",
            &[(
                "/etc/lb/by-client.lua holds no certificates in PEM format",
                "one or more blocks of -----BEGIN CERTIFICATE-----",
            )],
        ),
        Case(
            POOL,
            "[[health_monitor]]\nname = \"a\"\ntype = \"https\"\nverify = false\n\
             ca_file = ‹‹\"latin1.lua\"\n[[datascript]]",
            &[
                ("`ca_file` means nothing with verify = false", "leave one of them out"),
                (
                    "file /etc/lb/latin1.lua cannot be read: not UTF-8",
                    "it holds text: certificates in PEM format",
                ),
            ],
        ),
    ]);
}

#[test]
fn what_a_pool_says_of_monitors_holds_together() {
    run(&[
        Case(
            "name = \"resolvers\"",
            "name = \"resolvers\"\nhealth_monitors = [‹\"a\"]\nmin_health_monitors_up = ‹2",
            &[
                ("no health_monitor is named \"a\"", "add a [[health_monitor]] with name = \"a\""),
                (
                    "2 health monitors must hold a server to be up, and the pool has 1",
                    "0 stands for all of `health_monitors`",
                ),
            ],
        ),
        Case(
            "[[datascript]]",
            "[[health_monitor]]\nname = \"a\"\ntype = \"ping\"\n\
             [[health_monitor]]\nname = ‹\"a\"\ntype = \"tcp\"\n[[datascript]]",
            &[("two entries of [[health_monitor]] are named \"a\"", "give each its own name")],
        ),
    ]);
}
