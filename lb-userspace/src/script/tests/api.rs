use super::*;
use crate::script::api::functions::functions;

#[test]
fn a_flow_tells_who_it_is_from_and_where_to() {
    let text = "avi.vs.log(avi.vs.client_ip(), ' ', avi.vs.client_port(), ' ', avi.vs.ip(), ' ', \
                avi.vs.port(), ' ', avi.vs.name(), ' ', type(avi.vs.client_port()))";
    assert_eq!(log_of(text), "192.0.2.7 5353 192.0.2.10 53 dns string");
}

#[test]
fn ipv6_addresses_are_canonical_and_mapped_ones_are_ipv4() {
    let mut bench = Bench::new(&["avi.vs.log(avi.vs.client_ip())"]);
    bench.client = "[2001:DB8:0:0::1]:1".parse().unwrap();
    assert_eq!(bench.log(), "2001:db8::1");
    bench.client = "[::ffff:192.0.2.1]:1".parse().unwrap();
    assert_eq!(bench.log(), "192.0.2.1");
}

#[test]
fn read_gives_all_that_is_buffered_or_as_much_as_is_asked_for() {
    assert_eq!(log_of("avi.vs.log(avi.l4.read())"), "hello");
    assert_eq!(log_of("avi.vs.log(avi.l4.read(0))"), "hello");
    assert_eq!(log_of("avi.vs.log(avi.l4.read(2))"), "he");
}

#[test]
fn read_is_binary_safe() {
    let mut bench = Bench::new(&["local p = avi.l4.read() avi.vs.log(#p, p == '\\0\\255\\0')"]);
    bench.payload = vec![0, 255, 0];
    assert_eq!(bench.log(), "3true");
}

#[test]
fn read_of_more_than_is_buffered_is_an_error() {
    assert_error("avi.l4.read(6)", "avi.l4.read: 6 bytes wanted, 5 buffered");
    assert_error("avi.l4.read(65001)", "whole number from 0 to 65000 expected, got 65001");
    assert_error("avi.l4.read(-1)", "bad argument #1 (bytes)");
    assert_error("avi.l4.read(1.5)", "got 1.5");
}

#[test]
fn collect_says_how_much_is_buffered() {
    assert_eq!(log_of("avi.vs.log(avi.l4.collect(3))"), "5");
}

#[test]
fn collect_of_more_than_a_datagram_has_is_an_error() {
    assert_error("avi.l4.collect(6)", "the datagram is all there is");
}

#[test]
fn collect_on_the_tcp_fast_path_says_what_it_takes() {
    let mut bench = Bench::new(&["avi.l4.collect(1)"]);
    bench.protocol = Protocol::Tcp;
    bench.payload.clear();
    assert_eq!(
        bench.failure().message,
        "avi.l4.collect: 1 bytes wanted, 0 buffered: virtual service \"dns\" decides at the SYN, and \
         packets of the handshake have no payload; set tcp_mode = \"inspect\" for it"
    );
}

#[test]
fn ds_done_does_not_end_the_run() {
    assert_eq!(log_of("avi.l4.ds_done() avi.vs.ds_done() avi.vs.log('on')"), "on");
}

#[test]
fn the_log_takes_any_mix_and_concatenates() {
    let log = log_of("avi.vs.log('a', 1, 1.5, true, nil) avi.vs.log(false) avi.vs.log()");
    assert_eq!(log, "a11.5truenilfalse");
    assert_error("avi.vs.log({})", "bad argument #1 (value)");
}

#[test]
fn the_log_has_256_characters_at_most() {
    let log = log_of("for i = 1, 300 do avi.vs.log('ä') end");
    assert_eq!(log, "ä".repeat(256));
    assert_eq!(log_of("avi.vs.log(('x'):rep(1000))").len(), 256);
}

#[test]
fn close_conn_says_whether_to_reset_and_where_it_was_called() {
    let close = |source| Bench::new(&[source]).run().close.unwrap();
    assert!(!close("avi.vs.close_conn()").reset);
    assert!(!close("avi.vs.close_conn(false)").reset);
    let reset = close("\n\navi.vs.close_conn(true)");
    assert_eq!((reset.reset, reset.by.line), (true, 3));
    assert_error("avi.vs.close_conn(1)", "bad argument #1 (reset): boolean expected, got 1");
}

fn selected(source: &str) -> (usize, Option<(usize, u16)>) {
    let selection = Bench::new(&[source]).run().selection.unwrap();
    match selection.chosen {
        Chosen::Pool(pool) => (pool.0, None),
        Chosen::Server(pool, server, port) => (pool.0, Some((server.0, port))),
        Chosen::Group(group) => panic!("{group:?}"),
    }
}

#[test]
fn select_takes_a_pool_a_server_and_a_port() {
    assert_eq!(selected("avi.pool.select('api')"), (1, None));
    let server = selected("avi.pool.select('web', '10.0.0.12')");
    assert_eq!(server, (0, Some((1, 8080))));
    let number = selected("avi.pool.select('web', '10.0.0.12', 8081)");
    assert_eq!(number, (0, Some((2, 8081))));
    let string = selected("avi.pool.select('web', '10.0.0.11', '9000')");
    assert_eq!(string, (0, Some((0, 9000))));
    let spelled = selected("avi.pool.select('api', '2001:DB8:0::1')");
    assert_eq!(spelled, (1, Some((0, 443))));
}

#[test]
fn poolgroup_select_takes_a_group_and_a_later_select_overrules_it() {
    let chosen = |source| Bench::new(&[source]).run().selection.unwrap().chosen;
    assert_eq!(chosen("avi.poolgroup.select('all')"), Chosen::Group(PoolGroupIndex(0)));
    let both = "avi.poolgroup.select('all') avi.pool.select('web')";
    assert_eq!(chosen(both), Chosen::Pool(PoolIndex(0)));
    assert_error(
        "avi.poolgroup.select('all') avi.pool.get_servers()",
        "the flow goes to a pool group: name one of its pools",
    );
}

#[test]
fn select_says_which_line_decided_even_through_pcall() {
    let source = "local x = 1\nlocal function go()\n  pcall(avi.pool.select, 'web')\nend\ngo()";
    let by = Bench::new(&[source]).run().selection.unwrap().by;
    assert_eq!((by.set, by.event, by.line), (SetIndex(0), Event::L4Request, 3));
}

#[test]
fn the_last_select_wins() {
    assert_eq!(selected("avi.pool.select('web') avi.pool.select('api')"), (1, None));
}

#[test]
fn arguments_that_name_nothing_are_errors() {
    let unknown = "set \"s0\" references no pool \"nope\"";
    assert_error("avi.pool.select('no' .. 'pe')", unknown);
    assert_error("avi.pool.get_servers('no' .. 'pe')", unknown);
    assert_error("avi.vs.persist('k', 1, 'nope')", unknown);
    assert_error("avi.pool.select('other')", "references no pool \"other\"");
    assert_error("avi.pool.select('web', '10.0.0.1')", "pool \"web\" has no server \"10.0.0.1\"");
    assert_error("avi.poolgroup.select('g')", "references no pool group \"g\"");
    assert_error("avi.poolgroup.select('web')", "references no pool group \"web\"");
    assert_error("require('Default-TLS')", "references no protocol parser \"Default-TLS\"");
}

#[test]
fn wrong_types_counts_and_ranges_name_function_argument_and_expectation() {
    let pool = "avi.pool.select: bad argument #1 (pool): string expected, got nil";
    assert_error("avi.pool.select(nil)", pool);
    assert_error("avi.pool.select()", "avi.pool.select: 1 to 3 arguments expected, got 0");
    assert_error("avi.pool.select('web', '10.0.0.11', 0)", "(port): whole number from 1 to 65535");
    assert_error("avi.pool.select('web', '10.0.0.11', 'x')", "got \"x\"");
    assert_error("avi.pool.select('web', '10.0.0.11', 1, 2)", "got 4");
    assert_error("avi.vs.client_ip(1)", "avi.vs.client_ip: no arguments expected, got 1");
    assert_error("avi.pool.get_server_status('web', '10.0.0.11')", "3 arguments expected, got 2");
    assert_error("avi.l4.collect()", "1 argument expected, got 0");
    assert_error("avi.vs.persist(nil)", "avi.vs.persist: bad argument #1 (key)");
    assert_error("avi.pool.chash({})", "avi.pool.chash: bad argument #1 (key)");
}

#[test]
fn nil_at_the_end_is_as_good_as_no_argument() {
    assert_eq!(selected("avi.pool.select('web', nil, nil)"), (0, None));
}

#[test]
fn server_status_is_one_or_zero() {
    let source = "avi.vs.log(avi.pool.get_server_status('web', '10.0.0.12', '8081'), \
                  avi.pool.get_server_status('web', '10.0.0.11', 8080))";
    let mut bench = Bench::new(&[source]);
    bench.down.0.borrow_mut().insert((0, 2));
    assert_eq!(bench.log(), "01");
    assert_error("avi.pool.get_server_status('web', '10.0.0.11', 1)", "has no port 1");
}

#[test]
fn get_servers_counts_up_and_total_of_the_named_or_the_own_pool() {
    let source = "avi.vs.log(avi.pool.get_servers()) avi.pool.select('api') \
                  avi.vs.log(avi.pool.get_servers()) avi.vs.log(avi.pool.get_servers('web'))";
    let mut bench = Bench::new(&[source]);
    bench.down.0.borrow_mut().insert((0, 0));
    assert_eq!(bench.log(), "231123");
    let outcome = Bench::new(&["avi.pool.get_servers()"]).run_on("bare");
    assert!(outcome.failure.unwrap().message.contains("has no pool"));
}

#[test]
fn chash_gives_the_key_to_hash() {
    let outcome = Bench::new(&["avi.pool.chash('a\\0b')"]).run();
    assert_eq!(outcome.chash.as_deref(), Some(&b"a\0b"[..]));
}

#[test]
fn a_response_knows_its_server() {
    let source = "local ip, port = avi.pool.get_server_info() avi.vs.log(ip, ' ', port, ' ', \
                  avi.pool.server_ip(), ' ', avi.pool.get_server_ip(), avi.l4.read(1))";
    assert_eq!(Bench::response(source).log(), "10.0.0.11 8080 10.0.0.11 10.0.0.11h");
}

#[test]
fn functions_of_another_event_are_errors_that_name_the_event() {
    for call in [
        "avi.vs.client_ip()",
        "avi.vs.close_conn()",
        "avi.vs.persist('k')",
        "avi.vs.ds_done()",
        "avi.pool.select('web')",
        "avi.pool.get_servers()",
        "avi.pool.chash('k')",
    ] {
        let failure = Bench::response(call).failure();
        assert!(failure.message.ends_with(": not allowed in L4_RESPONSE"), "{failure}");
    }
    assert_error("avi.pool.server_ip()", "avi.pool.server_ip: not allowed in L4_REQUEST");
}

#[test]
fn l4_response_allows_these_functions_and_no_others() {
    let of_avi = functions().filter(|function| function.name.starts_with("avi."));
    let allowed = of_avi.filter(|function| function.events.contains(&Event::L4Response));
    let mut names: Vec<_> = allowed.map(|function| function.name).collect();
    names.sort_unstable();
    let rule = [
        "avi.l4.collect",
        "avi.l4.ds_done",
        "avi.l4.read",
        "avi.pool.get_server_info",
        "avi.pool.get_server_ip",
        "avi.pool.server_ip",
        "avi.vs.log",
        "avi.vs.table_insert",
        "avi.vs.table_lookup",
        "avi.vs.table_refresh",
        "avi.vs.table_remove",
    ];
    assert_eq!(names, rule);
}

#[test]
fn ports_are_strings() {
    let source = "avi.vs.log(type(avi.vs.client_port()), type(avi.vs.port()))";
    assert_eq!(log_of(source), "stringstring");
    let source = "local ip, port = avi.pool.get_server_info() avi.vs.log(type(ip), type(port))";
    assert_eq!(Bench::response(source).log(), "stringstring");
}

#[test]
fn get_servers_takes_nil_for_no_pool_and_gives_numbers() {
    let source = "local up, all = avi.pool.get_servers(nil) avi.vs.log(up + all, type(up))";
    assert_eq!(log_of(source), "6number");
}

#[test]
fn the_log_shows_bytes_that_are_no_text_and_goes_on() {
    assert_eq!(log_of("avi.vs.log('a\\255', 'b\\0', nil, false, 0.5)"), "a\u{fffd}b\0nilfalse0.5");
}

#[test]
fn what_a_response_may_call_it_can() {
    let source = "avi.vs.table_insert('k', 'v') avi.vs.table_lookup('k') avi.l4.collect(1) \
                  avi.vs.table_refresh('k') avi.vs.table_remove('k') avi.l4.ds_done() \
                  avi.vs.log('ok')";
    assert_eq!(Bench::response(source).log(), "ok");
}
