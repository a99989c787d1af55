//! Which shifts follow from what both sides have offered.

use super::*;

#[test]
fn shifts_follow_from_what_either_side_agreed_to() {
    // The client's scale, the server's; shift to the client, to the server.
    let cases = [
        (None, None, 0, 0),
        (Some(8), Some(7), 0, 0),
        (Some(8), Some(9), 2, 0),
        (Some(8), Some(0), -7, 0),
        (Some(8), None, -7, 8),
        (Some(0), None, -7, 0),
        (Some(14), Some(14), 7, 0),
        (Some(14), None, -7, 14),
    ];
    for (client, server, to_client, to_server) in cases {
        let expected = Splice { delta: 5, to_client, to_server };
        assert_eq!(Splice::new(5, client, server), expected, "{client:?} {server:?}");
    }
}

#[test]
fn no_open_window_is_closed_and_no_window_overflows() {
    let shifted =
        |to_server, field| Splice { to_server, ..Splice::default() }.window_to_server(field);
    assert_eq!([shifted(2, 10), shifted(-2, 10), shifted(0, 10)], [40, 2, 10]);
    assert_eq!([shifted(-7, 1), shifted(-7, 0), shifted(14, 0)], [1, 0, 0]);
    assert_eq!(
        [shifted(14, 65_535), shifted(1, 32_768), shifted(1, 32_767)],
        [65_535, 65_535, 65_534]
    );
}

#[test]
fn numbers_go_there_and_back() {
    let splice = Splice { delta: u32::MAX - 3, ..Splice::default() };
    let server = splice.number_to_server(SequenceNumber(1));
    assert_eq!(server, SequenceNumber(u32::MAX - 2));
    assert_eq!(splice.number_to_client(server), SequenceNumber(1));
}
