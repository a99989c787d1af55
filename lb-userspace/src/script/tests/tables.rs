use super::*;

#[test]
fn an_insert_keeps_the_value_that_is_there() {
    let source = "avi.vs.log(avi.vs.table_insert('k', 'a'), avi.vs.table_insert('k', 'b'), \
                  (avi.vs.table_lookup('k')))";
    assert_eq!(log_of(source), "truetruea");
}

#[test]
fn an_insert_of_what_is_there_resets_its_lifetime() {
    let source = "avi.vs.table_insert('k', 'a', 10) avi.vs.table_insert('k', 'b', 20)\
                  avi.vs.log(avi.vs.table_lookup('k', 0)) avi.vs.table_insert('k', 'c')\
                  avi.vs.log(' ', avi.vs.table_lookup('k', 0))";
    assert_eq!(log_of(source), "a20 a300");
}

#[test]
fn lifetimes_shorter_than_the_vendors_are_honoured() {
    let mut bench = Bench::new(&["avi.vs.log((avi.vs.table_lookup('k', 0)))\
                                  avi.vs.table_insert('k', 'v', 1)"]);
    assert_eq!(bench.log(), "nil");
    bench.now += Duration::from_secs(1);
    assert_eq!(bench.log(), "nil", "it has expired");
}

#[test]
fn a_value_is_replaced_by_removing_it_first() {
    let source = "avi.vs.table_insert('k', 'a') avi.vs.table_remove('k')\
                  avi.vs.table_insert('k', 'b') avi.vs.log((avi.vs.table_lookup('k')))";
    assert_eq!(log_of(source), "b");
}

#[test]
fn a_lookup_gives_value_and_remaining_lifetime() {
    assert_eq!(log_of("avi.vs.log(avi.vs.table_lookup('k'))"), "nil");
    let source = "avi.vs.table_insert('k', 7, 20) avi.vs.log(avi.vs.table_lookup('k', 0)) \
                  avi.vs.log(' ', avi.vs.table_lookup('k')) avi.vs.log(' ', \
                  type((avi.vs.table_lookup('k', 5))), avi.vs.table_lookup('k', 0))";
    assert_eq!(log_of(source), "720 7320 number7325");
}

#[test]
fn the_default_lifetime_is_300_seconds() {
    let mut bench = Bench::new(&["avi.vs.log(avi.vs.table_lookup('k', 0))\
                                  avi.vs.table_insert('k', 'v')"]);
    assert_eq!(bench.log(), "nil");
    bench.now += Duration::from_secs(299);
    assert_eq!(bench.log(), "v1");
    bench.now += Duration::from_secs(300);
    assert_eq!(bench.log(), "nil");
}

#[test]
fn two_arguments_are_told_apart_by_type() {
    let source = "avi.vs.table_insert('t', 'k', 'named', 10) avi.vs.table_insert('k', 'own', 20)\
                  avi.vs.log(avi.vs.table_lookup('t', 'k'), avi.vs.table_lookup('k', 0), \
                  avi.vs.table_lookup('k', '0'))";
    assert_eq!(log_of(source), "namedownnil");
    let refresh = "avi.vs.table_insert('t', 'k', 'named', 10) avi.vs.table_insert('k', 'own', 20)\
                   avi.vs.log(avi.vs.table_refresh('t', 'k'), avi.vs.table_refresh('k', 7), \
                   avi.vs.table_refresh('x'), avi.vs.table_lookup('t', 'k', 0))\
                   avi.vs.log(avi.vs.table_lookup('k', 0))";
    assert_eq!(log_of(refresh), "truetruefalsenamed300own7");
}

#[test]
fn three_arguments_of_insert_are_told_apart_by_the_third() {
    let source = "avi.vs.table_insert('t', 'k', 'v') avi.vs.table_insert('k', 'v', 9)\
                  avi.vs.log(avi.vs.table_lookup('t', 'k', 0)) avi.vs.log(' ', \
                  avi.vs.table_lookup('k', 0))";
    assert_eq!(log_of(source), "v300 v9");
}

#[test]
fn a_key_may_be_a_number_and_is_its_text() {
    assert_eq!(log_of("avi.vs.table_insert(1, 'v') avi.vs.log((avi.vs.table_lookup('1')))"), "v");
}

#[test]
fn remove_takes_out() {
    let source = "avi.vs.table_insert('t', 'k', 'v') avi.vs.table_remove('t', 'k')\
                  avi.vs.table_insert('k', 'v') avi.vs.table_remove('k')\
                  avi.vs.log(avi.vs.table_lookup('t', 'k'), avi.vs.table_lookup('k'))";
    assert_eq!(log_of(source), "nilnil");
}

#[test]
fn values_keep_their_type_and_their_bytes() {
    let source = "avi.vs.table_insert('s', 'a\\0b') avi.vs.table_insert('n', 1.5)\
                  avi.vs.table_insert('d', '15') local s = avi.vs.table_lookup('s')\
                  local n = avi.vs.table_lookup('n') local d = avi.vs.table_lookup('d')\
                  avi.vs.log(#s, s == 'a\\0b', n == 1.5, type(d))";
    assert_eq!(log_of(source), "3truetruestring");
}

#[test]
fn what_does_not_fit_is_an_error_that_names_the_limit() {
    assert_error("avi.vs.table_insert(('k'):rep(33), 1)", "at most 32 bytes (key_size");
    assert_error("avi.vs.table_insert('k', ('v'):rep(33))", "at most 32 bytes (value_size");
    assert_error("avi.vs.table_insert('k', {})", "bad argument #2 (value): string or number");
    assert_error("avi.vs.table_insert('k', 'v', 0)", "whole number from 1 to");
    assert_error("avi.vs.table_insert('k')", "2 to 4 arguments expected, got 1");
    assert_error("avi.vs.table_lookup({})", "bad argument #1 (key): string expected, got table");
    assert_error("avi.vs.table_lookup('k', -1)", "bad argument #2 (lifetime)");
}

#[test]
fn a_full_table_refuses_with_false() {
    let source = "for i = 1, 9 do avi.vs.log(avi.vs.table_insert(i, 1) and 'y' or 'n') end";
    let mut bench = Bench::new(&[source]);
    assert_eq!(bench.log(), "yyyyyyyyn");
    assert_eq!(bench.tables.table("dns", b"").unwrap().refused(), 1);
}

#[test]
fn tables_belong_to_a_virtual_service() {
    let source = "avi.vs.log(avi.vs.table_lookup('k', 0)) avi.vs.table_insert('k', 'v')";
    let mut bench = Bench::new(&[source]);
    assert_eq!(bench.run_on("dns").log, "nil");
    assert_eq!(bench.run_on("bare").log, "nil");
    assert_eq!(bench.run_on("dns").log, "v300");
}

#[test]
fn a_later_script_of_the_chain_sees_what_an_earlier_one_wrote() {
    let mut bench =
        Bench::new(&["avi.vs.table_insert('k', 'v')", "avi.vs.log((avi.vs.table_lookup('k')))"]);
    assert_eq!(bench.log(), "v");
}
