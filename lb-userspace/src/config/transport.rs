//! What a virtual service speaks, and when a service over TCP decides.

use std::{ops::RangeInclusive, time::Duration};

use lb_common::address::Protocol;
use serde_spanned::Spanned;

use super::{
    instance::TIMEOUTS,
    section::{Section, Span},
    value,
};

/// `protocol` of a `[[virtual_service]]`, with what only that protocol has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Transport {
    /// `tcp`.
    Tcp(TcpMode),
    /// `udp`: decided at a flow's first datagram.
    Udp,
}

impl Transport {
    /// The protocol by itself.
    pub const fn protocol(self) -> Protocol {
        match self {
            Self::Tcp(_) => Protocol::Tcp,
            Self::Udp => Protocol::Udp,
        }
    }
}

/// `tcp_mode`: when a connection is decided.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TcpMode {
    /// `fast-path`: at its SYN. The server completes the handshake.
    FastPath {
        /// `syn_protection`.
        syn_protection: SynProtection,
    },
    /// `inspect`: at its first payload. The balancer completes the handshake, always by cookies.
    Inspect(Inspect),
}

/// Whether a client has to answer a cookie before its SYN reaches a server.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum SynProtection {
    /// `auto`: while too many flows are half open.
    #[default]
    Auto,
    /// `always`.
    Always,
    /// `off`.
    Off,
}

/// How long an inspected connection may take until it is decided.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Inspect {
    /// `inspect_timeout`: without any payload after this time the scripts run with none. `None`:
    /// they wait for it. Shorter than `collecting`.
    pub no_payload: Option<Duration>,
    /// `collect_timeout`: from the handshake to the decision; a connection that takes longer ends.
    pub collecting: Duration,
}

const COLLECTING: Duration = Duration::from_secs(10);
const COLLECTING_BOUNDS: RangeInclusive<Duration> = Duration::from_secs(1)..=*TIMEOUTS.end();

/// The words of `tcp_mode`.
#[derive(Clone, Copy, PartialEq)]
enum Mode {
    FastPath,
    Inspect,
}

const MODES: [(&str, Mode); 2] = [("fast-path", Mode::FastPath), ("inspect", Mode::Inspect)];
const SYN_PROTECTIONS: [(&str, SynProtection); 3] =
    [("auto", SynProtection::Auto), ("always", SynProtection::Always), ("off", SynProtection::Off)];

/// The keys of a service that only TCP has, as they are written.
struct Keys {
    mode: Option<Spanned<Mode>>,
    syn_protection: Option<Spanned<SynProtection>>,
    inspect_timeout: Option<Spanned<Duration>>,
    collect_timeout: Option<Spanned<Duration>>,
}

/// `None` if the protocol or the mode is missing or wrong, which was reported.
pub(super) fn read(
    section: &mut Section<'_>,
    protocol: Option<&Spanned<Protocol>>,
) -> Option<Transport> {
    let keys = Keys {
        mode: section.optional("tcp_mode", value::one_of(&MODES)),
        syn_protection: section.optional("syn_protection", value::one_of(&SYN_PROTECTIONS)),
        inspect_timeout: section.optional("inspect_timeout", value::duration(TIMEOUTS)),
        collect_timeout: section.optional("collect_timeout", value::duration(COLLECTING_BOUNDS)),
    };
    let protocol = protocol?;
    if *protocol.get_ref() == Protocol::Udp {
        keys.refuse_for_udp(section, protocol.span());
        return Some(Transport::Udp);
    }
    if keys.mode.is_none() && section.key_span("tcp_mode").is_some() {
        // What the other keys should be depends on what was meant.
        return None;
    }
    Some(Transport::Tcp(match keys.mode.as_ref().map(Spanned::get_ref) {
        None | Some(Mode::FastPath) => keys.fast_path(section),
        Some(Mode::Inspect) => TcpMode::Inspect(keys.inspect(section)),
    }))
}

impl Keys {
    fn refuse_for_udp(&self, section: &Section<'_>, udp: Span) {
        let given = [
            ("tcp_mode", self.mode.as_ref().map(Spanned::span)),
            ("syn_protection", self.syn_protection.as_ref().map(Spanned::span)),
            ("inspect_timeout", self.inspect_timeout.as_ref().map(Spanned::span)),
            ("collect_timeout", self.collect_timeout.as_ref().map(Spanned::span)),
        ];
        for (key, place) in given {
            let Some(place) = place else { continue };
            let message = format!("`{key}` is for services over TCP");
            let problem = section.report().at(place, message).with_help("leave it out");
            section.report().add(problem.with_related(udp.clone(), "this is UDP"));
        }
    }

    fn fast_path(&self, section: &Section<'_>) -> TcpMode {
        for (key, given) in
            [("inspect_timeout", &self.inspect_timeout), ("collect_timeout", &self.collect_timeout)]
        {
            let Some(given) = given else { continue };
            let message = format!("`{key}` is for services that wait for payload");
            let problem = section.report().at(given.span(), message);
            let problem = problem.with_help("set tcp_mode = \"inspect\", or leave it out");
            section.report().add(match &self.mode {
                Some(mode) => problem.with_related(mode.span(), "this one decides at the SYN"),
                None => problem,
            });
        }
        let syn_protection = self.syn_protection.as_ref().map(|given| *given.get_ref());
        TcpMode::FastPath { syn_protection: syn_protection.unwrap_or_default() }
    }

    fn inspect(&self, section: &Section<'_>) -> Inspect {
        let report = section.report();
        if let (Some(given), Some(mode)) = (&self.syn_protection, &self.mode) {
            let problem = report.at(given.span(), "`syn_protection` is for tcp_mode \"fast-path\"");
            let problem = problem.with_related(mode.span(), "this one inspects");
            report
                .add(problem.with_help("leave it out: \"inspect\" answers every SYN by a cookie"));
        }
        let collecting = self.collect_timeout.as_ref().map_or(COLLECTING, |given| *given.get_ref());
        if let Some(given) = self.inspect_timeout.as_ref().filter(|it| *it.get_ref() >= collecting)
        {
            let shown = humantime::format_duration(collecting);
            let message = format!(
                "`inspect_timeout` must be shorter than `collect_timeout`, which is {shown}"
            );
            let problem = report.at(given.span(), message).with_help(
                "after it the scripts run without payload; such as inspect_timeout = \"300ms\"",
            );
            report.add(match &self.collect_timeout {
                Some(other) => problem.with_related(other.span(), "the connection ends after this"),
                None => problem,
            });
        }
        let no_payload = self.inspect_timeout.as_ref().map(|given| *given.get_ref());
        Inspect { no_payload, collecting }
    }
}
