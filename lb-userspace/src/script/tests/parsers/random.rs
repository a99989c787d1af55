//! No bytes make a parser of ours fail, or cost more than [`ENOUGH`].

use proptest::{collection::vec, prelude::*, sample::Index};

use super::{dhcp, radius, tls, *};

/// Everything that there is, on one payload; fails like a script that used it would.
const EVERYTHING: &str = "
local payload = avi.l4.read()
local tls = require 'Default-TLS'
local size, sane = tls.get_req_buffer_size(payload), tls.sanity_check(payload)
assert(size >= 5 and size <= 66000 and type(sane) == 'boolean')
local handle = tls.parse_record(payload)
local name = tls.get_sni(handle)
assert(name == nil or type(name) == 'string' and #name > 0)
assert(handle == nil or sane)

local packet = (require 'Default-Radius').parsepacket(payload)
if packet then
  for number, values in pairs(packet.all) do
    assert(packet[number] == values[1] and tonumber(number) <= 255)
  end
end

local dhcp = require 'Default-DHCP'
local params, options = dhcp.getDHCPParamsAndOptions(payload)
assert((params == nil) == (options == nil))
local interface, mac = dhcp.getOption61(options)
assert((interface == nil) == (mac == nil))
avi.vs.log(size, sane, handle ~= nil, name, packet ~= nil, params ~= nil, interface, mac)";

fn everything() -> Bench {
    Bench::with(config_with(&[EVERYTHING], &built_in(), &[]), ENOUGH)
}

fn real() -> impl Strategy<Value = Vec<u8>> {
    let hellos = tls::REAL.map(|(payload, _)| payload);
    let others = [radius::ACCESS, radius::ACCOUNTING, dhcp::REQUEST, dhcp::REQUEST_DUID];
    let all: Vec<_> = hellos.iter().chain(&others).map(|payload| payload.to_vec()).collect();
    proptest::sample::select(all)
}

/// A change to a byte, to a run of bytes, or a cut.
#[derive(Clone, Debug)]
enum Change {
    Set(Index, u8),
    Remove(Index, usize),
    Insert(Index, Vec<u8>),
    Cut(Index),
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        8 => (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Change::Set(at, byte)),
        2 => (any::<Index>(), 1..40usize).prop_map(|(at, length)| Change::Remove(at, length)),
        2 => (any::<Index>(), vec(any::<u8>(), 1..40)).prop_map(|(at, new)| Change::Insert(at, new)),
        1 => any::<Index>().prop_map(Change::Cut),
    ]
}

fn apply(mut payload: Vec<u8>, changes: Vec<Change>) -> Vec<u8> {
    for change in changes {
        let len = payload.len();
        match change {
            Change::Set(at, byte) if len > 0 => payload[at.index(len)] = byte,
            Change::Set(..) => {}
            Change::Remove(at, length) => {
                let start = at.index(len + 1);
                payload.drain(start..(start + length).min(len));
            }
            Change::Insert(at, new) => {
                let start = at.index(len + 1);
                payload.splice(start..start, new);
            }
            Change::Cut(at) => payload.truncate(at.index(len + 1)),
        }
    }
    payload
}

fn payloads() -> impl Strategy<Value = Vec<u8>> {
    // What begins like a protocol gets further than what is only random.
    let begun = |start: &'static [u8]| {
        vec(any::<u8>(), 0..300).prop_map(move |rest| [start, &rest].concat())
    };
    prop_oneof![
        1 => vec(any::<u8>(), 0..300),
        1 => begun(&[22, 3, 1, 0, 60, 1, 0, 0, 56]),
        1 => begun(&[1, 0, 0, 60]),
        8 => (real(), vec(change(), 0..6)).prop_map(|(payload, changes)| apply(payload, changes)),
    ]
}

#[test]
fn no_payload_makes_a_parser_fail() {
    let bench = RefCell::new(everything());
    proptest!(|(payload in payloads())| {
        bench.borrow_mut().payload = payload;
        prop_assert_eq!(bench.borrow_mut().run().failure, None);
    });
}

#[test]
fn no_parser_keeps_anything_from_run_to_run() {
    let bench = RefCell::new(everything());
    // A state for each case is dear.
    let cases = ProptestConfig::default().cases.div_ceil(16);
    proptest!(ProptestConfig::with_cases(cases), |(before in payloads(), payload in payloads())| {
        let mut bench = bench.borrow_mut();
        bench.log_about(&before);
        prop_assert_eq!(bench.log_about(&payload), everything().log_about(&payload));
    });
}
