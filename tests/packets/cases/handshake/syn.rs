//! SYNs, and what they are answered with.

use lb_common::{
    event::Event,
    path::Verdict,
    service::Cookies,
    tcp::{cookie::Data, options::SynOptions},
};

use super::{EVERYTHING, LINUX, MACOS, MSS, WINDOWS, check, cookie, syn, syn_ack, with};
use crate::{fixture::Case, memory::Memory};

/// Name, options, what is read of them, what is answered.
fn offers() -> Vec<(&'static str, Vec<u8>, SynOptions, Vec<u8>)> {
    let is = |mss, window_scale, sack_permitted| SynOptions { mss, window_scale, sack_permitted };
    let (mss, all) = (MSS.to_vec(), EVERYTHING.to_vec());
    let cut = [&MSS[..], &[4, 2, 3, 9, 7, 7, 7, 7]].concat();
    let sack = [&MSS[..], &[1, 1, 4, 2, 1, 1, 1, 1]].concat();
    let scale = [&MSS[..], &[1, 1, 1, 1, 1, 3, 3, 7]].concat();
    let longest = [&[1; 12][..], &[8, 10, 0, 0, 0, 0, 0, 0, 0, 0], &[1; 14], &MSS].concat();
    vec![
        ("Linux", LINUX.to_vec(), is(Some(1460), Some(7), true), all.clone()),
        ("Windows", WINDOWS.to_vec(), is(Some(1460), Some(8), true), all.clone()),
        ("macOS", MACOS.to_vec(), is(Some(1460), Some(6), true), all),
        ("no options", vec![], is(None, None, false), mss.clone()),
        ("a segment size", vec![2, 4, 2, 0], is(Some(512), None, false), mss.clone()),
        (
            "no scale",
            WINDOWS[..4].iter().chain(&[1, 1, 4, 2]).copied().collect(),
            is(Some(1460), None, true),
            sack.clone(),
        ),
        ("a scale alone", vec![1, 3, 3, 200], is(None, Some(14), false), scale),
        ("cut after a good one", cut, is(Some(1460), None, true), sack),
        ("sizes of zero", vec![99, 0, 2, 4, 5, 180, 0, 0], is(None, None, false), mss.clone()),
        ("ones", vec![1; 40], is(None, None, false), mss.clone()),
        ("the last of many", longest, is(Some(1460), None, false), mss),
    ]
}

#[test]
fn a_syn_is_answered_with_a_cookie() {
    check(&with(Cookies::ALWAYS), || {
        let mut cases = Vec::new();
        for (name, options, read, answered) in offers() {
            let cookie = cookie(Data::new(&read), 0);
            let plain = syn(&options);
            let packets = [
                ("untagged", plain.clone()),
                ("tagged", plain.clone().tag(0x6000 | 100)),
                ("padded", plain.clone().padding(6)),
                ("padded and tagged", plain.clone().tag(100).padding(30)),
                ("with payload", plain.clone().payload(&[7; 1400])),
                ("with a little payload", plain.clone().payload(&[7; 3]).tag(1)),
                ("without a hop left", plain.ttl(1)),
            ];
            cases.extend(packets.iter().map(|(how, packet)| {
                let answer = syn_ack(packet, cookie, &answered);
                Case::answered(format!("{name}, {how}"), packet, &answer, Event::AnswerCookie)
            }));
        }
        cases
    });
}

/// A test run's frame has a page to grow into: the program's half cannot be shown.
#[test]
fn without_room_for_the_answer_the_packet_is_dropped() {
    let memory = Memory::new(&with(Cookies::ALWAYS));
    let bare = syn(&[]).bytes();
    assert_eq!(memory.run_tight(&bare, 6).0, Verdict::Answer(Event::AnswerCookie));
    assert_eq!(memory.run_tight(&bare, 5).0, Verdict::Drop(Event::DropNoTailroom));
    // The answer of what has options is no longer than they are.
    for options in [&LINUX[..], &WINDOWS, &MACOS] {
        let verdict = memory.run_tight(&syn(options).bytes(), 0).0;
        assert_eq!(verdict, Verdict::Answer(Event::AnswerCookie));
    }
}
