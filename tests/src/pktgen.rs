//! The kernel's packet generator, by `scripts/pktgen/pktgen.sh`.

use std::{path::Path, time::Duration};

use anyhow::{Context as _, Result};

use crate::Namespace;

/// The script, in the repository.
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/pktgen/pktgen.sh");

/// What the generator says when it is done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sent {
    /// Packets that it gave to the interface.
    pub packets: u64,
    /// How long that took.
    pub time: Duration,
    /// Packets that the interface did not take.
    pub errors: u64,
}

/// Runs the script on a host with these arguments, until it has sent all packets.
pub fn pktgen(host: &Namespace, arguments: &[&str], timeout: Duration) -> Result<Sent> {
    let words = [&["sh", SCRIPT], arguments].concat();
    let printed = host.try_run(&words, timeout)?.success("pktgen.sh")?;
    printed.parse()
}

/// Whether this kernel has a packet generator; its module is loaded if there is one.
pub fn has_pktgen() -> bool {
    let control = Path::new("/proc/net/pktgen/pgctrl");
    // Without the program, or the module, the file is not there either.
    control.exists()
        || std::process::Command::new("modprobe").arg("pktgen").output().is_ok() && control.exists()
}

impl std::str::FromStr for Sent {
    type Err = anyhow::Error;

    /// Of what the script printed, the last line.
    fn from_str(printed: &str) -> Result<Self> {
        let line = printed.trim_end().lines().last().unwrap_or_default();
        let mut words = line.split_whitespace();
        let mut number = |after: &str| {
            let word = words.by_ref().skip_while(|word| *word != after).nth(1)?;
            word.parse().ok()
        };
        let sent = (|| {
            let packets = number("sent")?;
            let time = Duration::from_micros(number("in")?);
            number("us,")?;
            Some(Self { packets, time, errors: number("packets/s,")? })
        })();
        sent.with_context(|| format!("pktgen.sh said nothing of what it sent:\n{printed}"))
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// Options that are complete. Loopback is everywhere.
    const GOOD: [&str; 6] = ["-i", "lo", "-m", "02:00:00:00:00:01", "-d", "192.0.2.10"];

    /// What the script says when it is called so and refuses.
    fn refused(arguments: &[&str]) -> String {
        let output = Command::new("sh").arg(SCRIPT).args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
        String::from_utf8(output.stderr).unwrap()
    }

    #[test]
    fn what_the_script_prints_last_is_read() {
        let printed = "CPU 0: 10 packets in 7 us, 1428571 packets/s\n\
                       sent 10 packets in 7 us, 1428571 packets/s, 2 errors\n";
        let time = Duration::from_micros(7);
        assert_eq!(printed.parse::<Sent>().unwrap(), Sent { packets: 10, time, errors: 2 });
        let error = "sent no\n".parse::<Sent>().unwrap_err().to_string();
        assert!(error.contains("sent no"), "{error}");
    }

    #[test]
    fn every_wrong_value_is_named_with_its_option() {
        let wrong = [
            ["-m", "02:00:00:00:00"],
            ["-m", "02:00:00:00:00:0g"],
            ["-d", "192.0.2"],
            ["-d", "192.0.2.256"],
            ["-d", "192.0.2.010"],
            ["-d", "192.0.2.1-"],
            ["-d", "192.0.2.2-192.0.2.1"],
            ["-d", "2001:db8::1"],
            ["-s", "10.0.0.1.2"],
            ["-p", "0"],
            ["-p", "65536"],
            ["-q", "2-1"],
            ["-l", "59"],
            ["-n", "4294967296"],
            ["-w", "-1"],
            ["-t", "0"],
            ["-c", "first"],
            ["-i", "no-such-device"],
        ];
        for [option, value] in wrong {
            let said = refused(&[&GOOD[..], &[option, value]].concat());
            let named = said.starts_with(&format!("pktgen.sh: {option}: "));
            assert!(named && said.lines().count() == 1, "{option} {value}: {said}");
        }
    }

    #[test]
    fn every_option_that_must_be_there_is_missed() {
        for missing in ["-i", "-m", "-d"] {
            let left: Vec<_> =
                GOOD.chunks(2).filter(|pair| pair[0] != missing).flatten().copied().collect();
            let said = refused(&left);
            assert!(said.contains(&format!("{missing} is missing")), "{said}");
        }
        assert!(refused(&[&GOOD[..], &["more"]].concat()).contains("`more`"));
    }
}
