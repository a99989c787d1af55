//! `[[health_monitor]]` as it is written.

use std::{
    ops::RangeInclusive,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use serde_spanned::Spanned;
use tokio_rustls::rustls::pki_types::{CertificateDer, pem::PemObject as _};

use super::{
    super::{
        build::Scripts,
        section::{Report, Section},
        value as plain,
    },
    Check, DnsCheck, Exchange, HealthMonitor, HttpCheck, Program, Rcode, TlsCheck, value,
};

/// Bounds of intervals; a timeout may be shorter.
const INTERVALS: RangeInclusive<Duration> = Duration::from_millis(50)..=Duration::from_hours(1);
const TIMEOUTS: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_hours(1);
/// Avi's defaults.
const INTERVAL: Duration = Duration::from_secs(10);
const TIMEOUT: Duration = Duration::from_secs(4);
const CHECKS: RangeInclusive<u64> = 1..=50;

/// A monitor that may lack something.
#[derive(Debug)]
pub(crate) struct RawMonitor {
    pub name: Option<Spanned<String>>,
    interval: Duration,
    timeout: Duration,
    successful_checks: u16,
    failed_checks: u16,
    port: Option<u16>,
    check: Option<Check>,
    ca_file: Option<Spanned<PathBuf>>,
}

#[derive(Clone, Copy)]
enum Kind {
    Ping,
    Tcp,
    Udp,
    Http,
    Https,
    Dns,
    External,
}

const KINDS: [(&str, Kind); 7] = [
    ("ping", Kind::Ping),
    ("tcp", Kind::Tcp),
    ("udp", Kind::Udp),
    ("http", Kind::Http),
    ("https", Kind::Https),
    ("dns", Kind::Dns),
    ("external", Kind::External),
];

/// By their numbers on the wire.
const RECORD_TYPES: [(&str, u16); 9] = [
    ("A", 1),
    ("NS", 2),
    ("CNAME", 5),
    ("SOA", 6),
    ("PTR", 12),
    ("MX", 15),
    ("TXT", 16),
    ("AAAA", 28),
    ("SRV", 33),
];

pub(crate) fn read(mut section: Section<'_>, folder: &Path) -> RawMonitor {
    let name = section.required("name", "\"web\"", plain::name);
    let kind = section.required("type", "\"tcp\"", plain::one_of(&KINDS));
    let (interval, timeout) = times(&mut section);
    let mut monitor = RawMonitor {
        name,
        interval,
        timeout,
        successful_checks: section.or("successful_checks", 2, plain::integer(CHECKS)),
        failed_checks: section.or("failed_checks", 2, plain::integer(CHECKS)),
        port: None,
        check: None,
        ca_file: None,
    };
    // Which keys there are depends on the type.
    let Some(kind) = kind.map(Spanned::into_inner) else { return monitor };
    if !matches!(kind, Kind::Ping) {
        let port = section.optional("port", plain::integer(1..=65535));
        monitor.port = port.map(Spanned::into_inner);
    }
    monitor.check = match kind {
        Kind::Ping => Some(Check::Ping),
        Kind::Tcp => Some(Check::Tcp(exchange(&mut section))),
        Kind::Udp => {
            if section.key_span("send").is_none() {
                section.missing("send", "\"ping\"");
            }
            Some(Check::Udp(exchange(&mut section)))
        }
        Kind::Http => Some(Check::Http(http(&mut section))),
        Kind::Https => {
            let http = http(&mut section);
            let (tls, ca_file) = tls(&mut section);
            monitor.ca_file = ca_file;
            Some(Check::Https(http, tls))
        }
        Kind::Dns => dns(&mut section).map(Check::Dns),
        Kind::External => program(&mut section, folder).map(Check::External),
    };
    section.finish();
    monitor
}

/// A check has ended before the next begins.
fn times(section: &mut Section<'_>) -> (Duration, Duration) {
    let given = section.optional("interval", plain::duration(INTERVALS));
    let timeout = section.optional("timeout", plain::duration(TIMEOUTS));
    let interval = given.as_ref().map_or(INTERVAL, |interval| *interval.get_ref());
    let Some(timeout) = timeout else { return (interval, TIMEOUT.min(interval)) };
    if *timeout.get_ref() > interval {
        let shown = humantime::format_duration(interval);
        let message = format!("`timeout` is longer than the interval, which is {shown}");
        let problem = section.report().at(timeout.span(), message);
        let problem = problem.with_help("a check ends before the next begins: shorten it");
        section.report().add(match given {
            Some(given) => problem.with_related(given.span(), "the interval"),
            None => problem,
        });
    }
    (interval, timeout.into_inner())
}

fn exchange(section: &mut Section<'_>) -> Exchange {
    Exchange {
        send: section.or("send", Vec::new(), value::payload),
        expect: section.or("expect", Vec::new(), value::payload),
    }
}

fn http(section: &mut Section<'_>) -> HttpCheck {
    let request = section.optional("request", value::request);
    let mut statuses: Vec<_> =
        section.list("status", value::status).into_iter().map(Spanned::into_inner).collect();
    if section.key_span("status").is_none() {
        statuses = vec![200..=299, 300..=399];
    } else if section.is_empty("status") {
        section.missing("status", "[\"2xx\", 301]");
    }
    HttpCheck {
        request: request.map_or_else(value::default_request, Spanned::into_inner),
        statuses,
        body: section.or("body", Vec::new(), value::payload),
    }
}

fn tls(section: &mut Section<'_>) -> (TlsCheck, Option<Spanned<PathBuf>>) {
    let server_name = section.optional("server_name", value::server_name);
    let verify = section.or("verify", true, plain::boolean);
    let ca_file = section.optional("ca_file", plain::path);
    if let Some(file) = ca_file.as_ref().filter(|_| !verify) {
        let message = "`ca_file` means nothing with verify = false";
        let problem = section.report().at(file.span(), message);
        section.report().add(problem.with_help("leave one of them out"));
    }
    let server_name = server_name.map(Spanned::into_inner);
    (TlsCheck { server_name, verify, ca_file: None }, ca_file)
}

fn dns(section: &mut Section<'_>) -> Option<DnsCheck> {
    let query_name = section.required("query_name", "\"www.example.com\"", value::domain);
    let record_type = section.or("record_type", 1, plain::one_of(&RECORD_TYPES));
    let mut codes = Rcode::ALL.map(|(name, code)| (name, Some(code))).to_vec();
    codes.push(("any", None));
    let rcode = section.or("rcode", Some(Rcode(0)), plain::one_of(&codes));
    Some(DnsCheck { query_name: query_name?.into_inner(), record_type, rcode })
}

fn program(section: &mut Section<'_>, folder: &Path) -> Option<Program> {
    let words = section.list("command", value::word);
    let words: Vec<String> = words.into_iter().map(Spanned::into_inner).collect();
    if section.is_empty("command") {
        section.missing("command", "[\"/usr/local/bin/check-web\", \"--quick\"]");
    }
    let environment = section.or("environment", Vec::new(), value::environment);
    let (path, arguments) = value::split_command(&words)?;
    Some(Program { path: folder.join(path), arguments, environment })
}

/// Files that monitors need.
pub(crate) fn files(monitors: &[RawMonitor]) -> impl Iterator<Item = &Spanned<PathBuf>> {
    monitors.iter().filter_map(|monitor| monitor.ca_file.as_ref())
}

/// A file of certificates holds some.
pub(crate) fn check_files(monitors: &[RawMonitor], read: &Scripts, report: &Report) {
    for given in files(monitors) {
        let Some(file) = read.get(given.get_ref()) else { continue };
        let mut certificates = CertificateDer::pem_slice_iter(file.source.as_bytes()).peekable();
        if certificates.peek().is_none() || certificates.any(|found| found.is_err()) {
            let message = format!("{} holds no certificates in PEM format", file.path.display());
            let problem = report.at(given.span(), message);
            report.add(problem.with_help("one or more blocks of -----BEGIN CERTIFICATE-----"));
        }
    }
}

/// `None` only if something was missing, which was then reported.
pub(crate) fn build(raw: RawMonitor, files: &Scripts) -> Option<Arc<HealthMonitor>> {
    let mut check = raw.check?;
    if let (Check::Https(_, tls), Some(given)) = (&mut check, &raw.ca_file) {
        tls.ca_file = Some(Arc::clone(files.get(given.get_ref())?));
    }
    Some(Arc::new(HealthMonitor {
        name: raw.name?.into_inner(),
        interval: raw.interval,
        timeout: raw.timeout,
        successful_checks: raw.successful_checks,
        failed_checks: raw.failed_checks,
        port: raw.port,
        check,
    }))
}
