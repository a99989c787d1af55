//! What servers and services take at most, and servers at which flows fail.

use std::{io::Read, time::Instant};

use lb_tests::{Load, Nginx, Plan, http_get, require_root, wait_until};

use crate::site::{SOON, Site, URL, VIP, WEB, configuration, event, pool};

/// A connection is reset, before or after the client holds it to be made.
fn is_refused(site: &Site) {
    if let Ok(mut stream) = site.connect(VIP) {
        stream.read(&mut [0]).unwrap_err();
    }
}

#[test]
fn connections_beyond_a_limit_are_refused_until_others_have_ended() {
    if !require_root() {
        return;
    }
    let site = Site::new();
    let _servers = site.web_servers(1);
    let of_service = format!("{WEB}max_concurrent_connections = 2\n{}", pool("web", [1], 80));
    let of_server =
        format!("{WEB}{}max_concurrent_connections_per_server = 2\n", pool("web", [1], 80));
    let balancer = site.balance(&of_service, &[]);
    for (limit, counted) in [(of_service, "drop_service_limit"), (of_server, "drop_server_limit")] {
        balancer.reload(&configuration(&limit)).unwrap();
        let streams = [(); 2].map(|()| site.connect(VIP).unwrap());
        is_refused(&site);
        assert_eq!(event(&balancer, counted), 1);
        drop(streams);
        let has_room = || Ok(http_get(&site.client, URL, None).is_ok());
        wait_until("room", SOON, has_room).unwrap();
        let is_over = || Ok(balancer.status_json()?["flows"]["now"] == 0);
        wait_until("the end of all flows", SOON, is_over).unwrap();
    }
}

/// No monitor watches: what is seen on flows is all that is known.
#[test]
fn a_server_that_refuses_connections_gets_few_of_them_until_it_is_back() {
    if !require_root() {
        return;
    }
    let site = Site::new();
    let _second = Nginx::start(&site.servers, "2", ([10, 0, 0, 12], 80).into()).unwrap();
    let balancer = site.balance(&[WEB, &pool("web", 1..=2, 80)].concat(), &[]);
    let load = Load::start(&site.client, Plan { long: 0, ..Plan::http(VIP.parse().unwrap()) });
    load.wait_answers("2", 100, SOON).unwrap();
    let learnt = Instant::now();
    load.wait_answers("2", 300, SOON).unwrap();
    let (all, failed) = load.so_far(|report| {
        let since: Vec<_> = report.since(learnt).filter(|c| c.end.is_some()).collect();
        (since.len(), since.iter().filter(|c| c.server.is_none()).count())
    });
    assert!(failed * 5 < all, "{failed} of {all} were still sent where nobody listens");
    let shown = balancer.lb(&["status"]).unwrap();
    assert!(shown.contains("failing"), "{shown}");
    let _first = Nginx::start(&site.servers, "1", ([10, 0, 0, 11], 80).into()).unwrap();
    load.wait_answers("1", 200, SOON).unwrap();
    load.finish().unwrap();
}
