use super::*;

pub(super) const DISCOVER: &[u8] = packet!("dhcp-dhclient-discover");
pub(super) const REQUEST: &[u8] = packet!("dhcp-dhclient-request");
pub(super) const REQUEST_DUID: &[u8] = packet!("dhcp-dhclient-duid-request");
pub(super) const UDHCPC: &[u8] = packet!("dhcp-udhcpc-discover");

const COOKIE: [u8; 4] = [99, 130, 83, 99];
const SNAME: usize = 44;
const FILE: usize = 108;
const OPTIONS: usize = 240;

/// A script that has `params` and `options`.
fn on_message(body: &str) -> Bench {
    let body = format!("local params, options = parser.getDHCPParamsAndOptions(payload)\n{body}");
    on_payload(BuiltInParser::Dhcp, &body)
}

/// Logs what option 61 says.
fn client() -> Bench {
    on_message("local i, mac = parser.getOption61(options) avi.vs.log(i, ' ', mac)")
}

/// A message with these bytes behind the cookie.
fn message(options: &[u8]) -> Vec<u8> {
    let mut message = vec![0; 236];
    message[..4].copy_from_slice(&[1, 1, 6, 0]);
    message[28..34].copy_from_slice(&[2, 0, 0x5e, 0x10, 0, 1]);
    [&message, &COOKIE[..], options].concat()
}

/// An identifier in a message of its own.
fn identified(identifier: &[u8]) -> Vec<u8> {
    message(&[&[61, identifier.len() as u8], identifier, &[255]].concat())
}

#[test]
fn real_clients_are_identified() {
    for payload in [DISCOVER, REQUEST, REQUEST_DUID, UDHCPC] {
        assert_eq!(client().log_about(payload), "1 02:00:5e:10:00:01");
    }
}

#[test]
fn the_fields_of_a_real_message_are_there() {
    let log = "for _, name in ipairs({'op', 'htype', 'hlen', 'hops', 'secs', 'flags', 'ciaddr', \
               'yiaddr', 'siaddr', 'giaddr', 'chaddr', 'sname', 'file'}) do \
               avi.vs.log(params[name], ' ') end avi.vs.log(params.xid)";
    let xid = u32::from_be_bytes(*REQUEST[4..].first_chunk().unwrap());
    let addresses = "0.0.0.0 0.0.0.0 0.0.0.0 0.0.0.0";
    let expected = format!("1 1 6 0 0 0 {addresses} 02:00:5e:10:00:01   {xid}");
    assert_eq!(on_message(log).log_about(REQUEST), expected);
}

#[test]
fn options_are_found_by_string_and_by_number() {
    let log = "avi.vs.log(options['12'], options[12], options['53']:byte(), options[1], \
               options['0'], options['255'], options.x)";
    assert_eq!(on_message(log).log_about(REQUEST), "alicealice3nilnilnilnil");
    let log = "local n = 0 for k, v in pairs(options) do n = n + 1 \
               assert(type(k) == 'string' and type(v) == 'string') end avi.vs.log(n)";
    assert_eq!(on_message(log).log_about(REQUEST), "6");
}

#[test]
fn a_message_that_is_cut_is_whole_only_between_options() {
    let mut bench = on_message("avi.vs.log(params ~= nil, options ~= nil)");
    for payload in [DISCOVER, REQUEST, REQUEST_DUID, UDHCPC] {
        let mut boundary = OPTIONS;
        for there in 0..payload.len() {
            while boundary < there && payload[boundary] != 0 && payload[boundary] != 255 {
                boundary += 2 + usize::from(payload[boundary + 1]);
            }
            let ended = boundary < there && payload[boundary] == 255;
            let whole = there == boundary || ended;
            assert_eq!(bench.log_about(&payload[..there]), format!("{whole}{whole}"), "{there}");
        }
    }
}

#[test]
fn a_malformed_message_is_none() {
    let mut bench = on_message("avi.vs.log(params, options)");
    let mut other_cookie = message(&[255]);
    other_cookie[239] = 98;
    let mut long_address = message(&[255]);
    long_address[2] = 17;
    let mut overloaded = message(&[52, 1, 1, 255]);
    overloaded[FILE + 126..FILE + 128].copy_from_slice(&[12, 1]);
    for (what, payload) in [
        ("nothing", vec![]),
        ("BOOTP without options", message(&[])[..236].to_vec()),
        ("another cookie", other_cookie),
        ("an address of 17 bytes", long_address),
        ("an option without length", message(&[53])),
        ("an option that is too long", message(&[53, 2, 1])),
        ("an overload of none", message(&[52, 1, 0, 255])),
        ("an overload of more than both", message(&[52, 1, 4, 255])),
        ("an overload without value", message(&[52, 0, 255])),
        ("two overloads", message(&[52, 1, 1, 52, 1, 1, 255])),
        ("an option beyond an overloaded field", overloaded),
        ("a message that is too long", message(&[0; 17_000])),
    ] {
        assert_eq!(bench.log_about(&payload), "nilnil", "{what}");
    }
}

#[test]
fn options_that_repeat_go_on_and_pads_are_skipped() {
    let parts = [12, 2, b'a', b'b', 0, 0, 80, 0, 12, 1, b'c', 12, 0, 255, 12, 1, b'x'];
    let log = "avi.vs.log(options['12'], #options['80'])";
    assert_eq!(on_message(log).log_about(&message(&parts)), "abc0");
}

#[test]
fn overloaded_fields_hold_options_in_their_order() {
    let log = "avi.vs.log(options['12'], ' ', params.sname, ' ', params.file)";
    for (what, expected) in [(1, "oF snam "), (2, "oS  file"), (3, "oFS  ")] {
        let mut payload = message(&[12, 1, b'o', 52, 1, what, 255]);
        let (sname, file): (&[u8], &[u8]) = match what {
            1 => (b"snam", &[12, 1, b'F', 255]),
            2 => (&[0, 12, 1, b'S'], b"file"),
            _ => (&[12, 1, b'S', 255], &[12, 1, b'F', 255]),
        };
        payload[SNAME..SNAME + sname.len()].copy_from_slice(sname);
        payload[FILE..FILE + file.len()].copy_from_slice(file);
        assert_eq!(on_message(log).log_about(&payload), expected, "{what}");
    }
    let mut plain = message(&[255]);
    plain[SNAME..SNAME + 64].fill(b's');
    plain[FILE..FILE + 128].fill(b'f');
    let log = "avi.vs.log(params.sname == ('s'):rep(64), params.file == ('f'):rep(128))";
    assert_eq!(on_message(log).log_about(&plain), "truetrue");
}

#[test]
fn option_61_tells_interface_and_address() {
    let mac = [2, 0, 0x5e, 0x10, 0, 1];
    let node = |duid: &[u8]| [&[255, 0, 0, 0, 9][..], duid].concat();
    let uuid: Vec<u8> = (0..16).collect();
    for (identifier, expected) in [
        ([&[1][..], &mac].concat(), "1 02:00:5e:10:00:01"),
        ([&[32][..], &[7; 20]].concat(), &format!("32 {}", ["07"; 20].join(":"))),
        (node(&[&[0, 1, 0, 1, 1, 2, 3, 4][..], &mac].concat()), "1 02:00:5e:10:00:01"),
        (node(&[&[0, 3, 0, 1][..], &mac].concat()), "1 02:00:5e:10:00:01"),
        (node(&[&[0, 3, 1, 0][..], &mac].concat()), "256 02:00:5e:10:00:01"),
        (node(&[&[0, 2, 0, 0, 0, 9][..], &mac].concat()), "255 0000000900020000000902005e100001"),
        (node(&[&[0, 4][..], &uuid].concat()), {
            "255 000000090004000102030405060708090a0b0c0d0e0f"
        }),
        (node(&[0, 3, 0, 1]), "255 0000000900030001"),
        (node(&[0, 1, 0]), "255 00000009000100"),
        (vec![255, 1], "255 01"),
        (b"\0alice".to_vec(), "0 616c696365"),
        (vec![1], "nil nil"),
        (vec![], "nil nil"),
    ] {
        assert_eq!(client().log_about(&identified(&identifier)), *expected, "{identifier:?}");
    }
    assert_eq!(client().log_about(&message(&[255])), "nil nil");
    assert_eq!(client().log_about(b"no message"), "nil nil");
    let odd = "for _, odd in ipairs({1, 'x', {}, {['61'] = 5}}) do \
               assert(parser.getOption61(odd) == nil) end";
    assert_eq!(on_payload(BuiltInParser::Dhcp, odd).log(), "");
}

#[test]
fn the_dearest_messages_stay_within_a_bound() {
    let mut bench = on_message("avi.vs.log(params ~= nil)");
    for unit in [&[0][..], &[12, 0], &[12, 1, 7]] {
        let options = unit.repeat((16_384 - OPTIONS) / unit.len());
        assert_eq!(bench.log_about(&message(&options)), "true");
    }
}

#[test]
fn what_is_no_payload_is_an_error_at_the_scripts_line() {
    let source = "local d = require 'Default-DHCP'\nlocal x = d.getDHCPParamsAndOptions()";
    let failure = Bench::with(config_with(&[source], &built_in(), &[]), BUDGET).failure();
    let message = "Default-DHCP.getDHCPParamsAndOptions: a string expected, got nil";
    assert_eq!((failure.line, failure.message.as_str()), (2, message));
}
