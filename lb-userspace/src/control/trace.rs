//! The packet program's trace in this process's own log. The program says numbers, for the verifier
//! must follow its every step; here they get their names.

use std::time::Duration;

use anyhow::{Context as _, Result};
use aya_log::EbpfLogger;
use lb_common::event::Event;
use log::{Log, Metadata, Record};
use tracing::info;

use crate::datapath::Datapath;

/// How often the program's log is read.
const OFTEN: Duration = Duration::from_millis(50);

/// Shows what the program logs from now on.
pub(super) fn show(datapath: &mut Datapath) -> Result<()> {
    let logger = EbpfLogger::init_with_logger(datapath.ebpf(), Named);
    let mut logger = logger.context("cannot read the program's log")?;
    let mut often = tokio::time::interval(OFTEN);
    tokio::spawn(async move {
        loop {
            often.tick().await;
            logger.flush();
        }
    });
    Ok(())
}

struct Named;

impl Log for Named {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        info!(target: "lb_ebpf", "{}", named(&record.args().to_string()));
    }

    fn flush(&self) {}
}

/// `drop 36 protocol …` becomes `drop_no_headroom protocol …`.
fn named(message: &str) -> String {
    let mut words = message.splitn(3, ' ');
    let (Some(action), Some(number), Some(rest)) = (words.next(), words.next(), words.next())
    else {
        return message.to_owned();
    };
    let event = Event::ALL.iter().find(|event| number.parse() == Ok(event.number()));
    match (action, event) {
        ("pass" | "drop" | "punt", Some(event)) => format!("{} {rest}", event.name()),
        ("transmit", _) => format!("{action} {rest}"),
        ("redirect", _) => format!("{action} to interface {number} {rest}"),
        _ => message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_get_their_names() {
        let cases = [
            ("punt 16 protocol 6 a -> b", "punt_first_packet protocol 6 a -> b"),
            ("drop 36 protocol 17 a -> b", "drop_no_headroom protocol 17 a -> b"),
            ("transmit 0 protocol 6 a -> b", "transmit protocol 6 a -> b"),
            ("redirect 16 protocol 6 a -> b", "redirect to interface 16 protocol 6 a -> b"),
            ("drop 99 protocol 6 a -> b", "drop 99 protocol 6 a -> b"),
            ("short", "short"),
        ];
        for (message, wanted) in cases {
            assert_eq!(named(message), wanted);
        }
    }
}
