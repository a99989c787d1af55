use std::net::Ipv6Addr;

use proptest::prelude::*;

use super::*;

pub(super) const ACCESS: &[u8] = packet!("radius-access-request");
pub(super) const ACCOUNTING: &[u8] = packet!("radius-accounting-request");

/// A script that has `packet`.
fn on_packet(body: &str) -> Bench {
    let body = format!("local packet = parser.parsepacket(payload)\n{body}");
    on_payload(BuiltInParser::Radius, &body)
}

/// Logs an attribute's type and value.
fn attribute(number: u8) -> Bench {
    on_packet(&format!(
        "local value = packet and packet['{number}'] avi.vs.log(type(value), ' ', value)"
    ))
}

/// A packet with these attributes.
fn packet(attributes: &[(u8, &[u8])]) -> Vec<u8> {
    let mut packet = vec![1, 42, 0, 0];
    packet.extend([7; 16]);
    for (number, value) in attributes {
        packet.extend([*number, value.len() as u8 + 2]);
        packet.extend(*value);
    }
    let length = (packet.len() as u16).to_be_bytes();
    packet[2..4].copy_from_slice(&length);
    packet
}

#[test]
fn attributes_of_real_requests_have_their_types() {
    for (payload, number, expected) in [
        (ACCESS, 1, "string alice"),
        (ACCESS, 4, "string 192.0.2.77"),
        (ACCESS, 5, "number 7"),
        (ACCESS, 8, "string 10.20.30.40"),
        (ACCESS, 31, "string 02-00-5E-10-00-01"),
        (ACCESS, 61, "number 19"),
        (ACCESS, 95, "string 2001:db8::1"),
        (ACCESS, 97, "string 2001:db8:77::/48"),
        (ACCESS, 32, "nil nil"),
        (ACCOUNTING, 1, "string alice"),
        (ACCOUNTING, 4, "string 192.0.2.77"),
        (ACCOUNTING, 8, "string 10.20.30.40"),
        (ACCOUNTING, 31, "string 02-00-5E-10-00-01"),
        (ACCOUNTING, 40, "number 1"),
        (ACCOUNTING, 41, "number 0"),
        (ACCOUNTING, 44, "string 5e100001"),
        (ACCOUNTING, 55, "number 1700000000"),
    ] {
        assert_eq!(attribute(number).log_about(payload), expected, "{number}");
    }
}

#[test]
fn the_head_of_a_real_request_is_there_too() {
    let log = "avi.vs.log(packet.code, ' ', packet.identifier, ' ', #packet.authenticator)";
    assert_eq!(on_packet(log).log_about(ACCESS), format!("1 {} 16", ACCESS[1]));
    assert_eq!(on_packet(log).log_about(ACCOUNTING), format!("4 {} 16", ACCOUNTING[1]));
}

#[test]
fn of_an_attribute_that_repeats_the_first_is_it_and_all_are_listed() {
    let log = "avi.vs.log(packet['26']:sub(7), '|', #packet.all['26'], '|', \
               packet.all['26'][2]:sub(7), '|', packet.all['1'][1], '|', #packet.all['1'])";
    assert_eq!(on_packet(log).log_about(ACCESS), "one|2|two|alice|1");
}

#[test]
fn a_request_that_is_cut_anywhere_is_none_and_padding_is_ignored() {
    let mut bench = on_packet("avi.vs.log(packet and packet['31'])");
    for payload in [ACCESS, ACCOUNTING] {
        for there in 0..payload.len() {
            assert_eq!(bench.log_about(&payload[..there]), "nil", "{there} bytes");
        }
        let padded = [payload, &[1, 0, 31, 1]].concat();
        assert_eq!(bench.log_about(&padded), "02-00-5E-10-00-01");
    }
}

#[test]
fn a_malformed_packet_is_none() {
    let mut bench = on_packet("avi.vs.log(packet)");
    let with_length = |length: u16| {
        let mut packet = packet(&[(1, b"alice")]);
        packet[2..4].copy_from_slice(&length.to_be_bytes());
        packet.resize(5000, 0);
        packet
    };
    let mut ends_in_attribute = packet(&[(1, b"alice")]);
    *ends_in_attribute.last_chunk_mut::<6>().unwrap() = [9, 1, 1, 1, 1, 1];
    for (what, payload) in [
        ("nothing", vec![]),
        ("a length that ends in the header", with_length(19)),
        ("a length of zero", with_length(0)),
        ("a length that is not allowed", with_length(4097)),
        ("a length that ends in an attribute's number", with_length(21)),
        ("a length that ends in an attribute's length", with_length(22)),
        ("a length that ends in an attribute", with_length(26)),
        ("an attribute that is too long", ends_in_attribute),
        ("an attribute of length 0", with_length(29)),
        ("an attribute of length 1", [&with_length(29)[..27], &[5, 1]].concat()),
        ("an integer of three bytes", packet(&[(5, &[0; 3])])),
        ("an integer of no bytes", packet(&[(61, &[])])),
        ("an address of five bytes", packet(&[(4, &[0; 5])])),
        ("an IPv6 address of 15 bytes", packet(&[(95, &[0; 15])])),
        ("a prefix of one byte", packet(&[(97, &[0])])),
        ("a prefix of 129 bits", packet(&[(97, &[0, 129])])),
        ("a prefix of 17 bytes", packet(&[(97, &[0; 19])])),
    ] {
        assert_eq!(bench.log_about(&payload), "nil", "{what}");
    }
}

#[test]
fn values_are_read_to_their_bounds() {
    for (number, value, expected) in [
        (5, &[0xff; 4][..], "number 4294967295"),
        (4, &[0xff; 4], "string 255.255.255.255"),
        (9, &[255, 255, 255, 0], "string 255.255.255.0"),
        (1, &[], "string "),
        (1, b"a\0b", "string a\0b"),
        (97, &[0, 0], "string ::/0"),
        (97, &[0, 128, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16], {
            "string 102:304:506:708:90a:b0c:d0e:f10/128"
        }),
        (255, b"x", "string x"),
        (0, b"x", "string x"),
    ] {
        assert_eq!(attribute(number).log_about(&packet(&[(number, value)])), expected, "{number}");
    }
    assert_eq!(attribute(1).log_about(&packet(&[])), "nil nil");
}

#[test]
fn the_dearest_packets_stay_within_a_bound() {
    let mut bench = on_packet("avi.vs.log(packet ~= nil)");
    for attribute in [(1, &[][..]), (5, &[0; 4]), (95, &[0x11; 16])] {
        let most = (4096 - 20) / (attribute.1.len() + 2);
        assert_eq!(bench.log_about(&packet(&vec![attribute; most])), "true");
    }
}

#[test]
fn ipv6_addresses_are_written_canonically() {
    let bench = RefCell::new(attribute(95));
    // Runs of zeros are what there is to get wrong.
    let group = prop_oneof![3 => Just(0u16), 2 => any::<u16>()];
    proptest!(|(groups in proptest::array::uniform8(group))| {
        let address = Ipv6Addr::from(groups);
        // This form is the standard library's own choice, which RFC 5952 §5 leaves free.
        prop_assume!(address.to_ipv4().is_none());
        let log = bench.borrow_mut().log_about(&packet(&[(95, &address.octets())]));
        prop_assert_eq!(log, format!("string {address}"));
    });
}

#[test]
fn what_is_no_payload_is_an_error_at_the_scripts_line() {
    let source = "local r = require 'Default-Radius'\nlocal x = r.parsepacket({})";
    let failure = Bench::with(config_with(&[source], &built_in(), &[]), BUDGET).failure();
    let message = "Default-Radius.parsepacket: a string expected, got table";
    assert_eq!((failure.line, failure.message.as_str()), (2, message));
}
