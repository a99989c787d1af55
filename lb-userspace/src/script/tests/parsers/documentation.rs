//! The examples of `docs/protocol-parsers.md` are scripts that work.

use super::*;
use crate::script::check;

const DOCUMENTATION: &str = include_str!("../../../../../docs/protocol-parsers.md");

/// The Lua text between fences.
fn examples() -> Vec<&'static str> {
    let fenced = DOCUMENTATION.split("```lua\n").skip(1);
    fenced.map(|rest| rest.split("```").next().unwrap()).collect()
}

fn example(with: &str) -> &'static str {
    examples().into_iter().find(|example| example.contains(with)).unwrap()
}

#[test]
fn every_example_names_what_there_is() {
    let examples = examples();
    assert_eq!(examples.len(), 4);
    let config = config_with(&examples, &built_in(), &[]);
    assert_eq!(check(&config), []);
}

#[test]
fn the_example_for_tls_logs_the_name() {
    let mut config = config_with(&[example("get_sni")], &built_in(), &[]);
    config.pools[0].name = "www.example.com".to_owned();
    let mut bench = Bench::with(config, BUDGET);
    assert_eq!(bench.log_about(tls::REAL[0].0), "SNI=www.example.com");
}

#[test]
fn the_example_for_dhcp_persists_by_the_address() {
    let config = config_with(&[example("avi.vs.persist(mac or")], &built_in(), &[]);
    let mut bench = Bench::with(config, BUDGET);
    bench.payload = dhcp::REQUEST_DUID.to_vec();
    assert_eq!(bench.run().persist.unwrap().key, b"02:00:5e:10:00:01");
    bench.payload = b"no message".to_vec();
    assert!(bench.run().close.is_some());
}

#[test]
fn the_example_of_a_parser_tells_the_client() {
    let request = "avi.vs.log((require 'Leases').client(avi.l4.read()))";
    let references = [built_in(), vec![ParserReference::Configured(ParserIndex(0))]].concat();
    let files = [("Leases", example("leases.client"))];
    let mut bench = Bench::with(config_with(&[request], &references, &files), BUDGET);
    assert_eq!(bench.log_about(dhcp::UDHCPC), "02:00:5e:10:00:01");
}
