//! `[instance]` and its tables.

use std::{
    net::{IpAddr, SocketAddr},
    ops::RangeInclusive,
    path::{Path, PathBuf},
    time::Duration,
};

use serde_spanned::Spanned;

use super::{
    AttachMode, Instance, ScriptLimits, TableLimits, host,
    raw::unique,
    section::{Report, Section, Span},
    value,
};

/// Bounds of every timeout.
pub(super) const TIMEOUTS: RangeInclusive<Duration> =
    Duration::from_millis(1)..=Duration::from_hours(7 * 24);

/// `TCP_TIMEWAIT_LEN`, which no setting changes.
const LINUX_TIME_WAIT: Duration = Duration::from_secs(60);

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// The highest number that a core can have: the kernel's largest `CONFIG_NR_CPUS`, less one.
const LAST_CORE: u64 = 8191;

/// Bytes of a socket's path: `sockaddr_un` holds 108 with the closing zero, see unix(7).
const SOCKET_PATH: usize = 107;

/// `[instance]` as it was written.
#[derive(Debug, Default)]
pub(super) struct RawInstance {
    /// Where to say what is missing.
    pub place: Span,
    /// `None` if something that it needs is not there or is wrong.
    pub instance: Option<Instance>,
    /// As in `instance`, with their places.
    pub snat_addresses: Vec<Spanned<IpAddr>>,
    /// Whether there is an `[instance]` that says nothing about them, right or wrong.
    pub snat_addresses_missing: bool,
}

/// Reads `[instance]`. Paths in it are relative to `folder`.
pub(super) fn read(section: Option<Section<'_>>, folder: &Path, report: &Report) -> RawInstance {
    if let Some(section) = section {
        return read_section(section, folder);
    }
    let help = "with its name and interfaces, such as name = \"edge\", interfaces = [\"eth0\"]";
    report.add(report.at(0..0, "the configuration needs [instance]").with_help(help));
    RawInstance::default()
}

fn read_section(mut section: Section<'_>, folder: &Path) -> RawInstance {
    let name = section.required("name", "\"edge\"", value::instance_name).map(Spanned::into_inner);
    let snat_addresses = section.list("snat_addresses", host::address);
    let seconds_10 = Duration::from_secs(10);
    let instance = Instance {
        interfaces: interfaces(&mut section),
        attach_mode: section.or("attach_mode", AttachMode::Auto, value::one_of(&ATTACH_MODES)),
        flow_capacity: section.or("flow_capacity", 131_072, value::integer(64..=16_777_216)),
        snat_addresses: unique(&snat_addresses, "snat_addresses", section.report()),
        snat_ports: section.or("snat_ports", 1024..=65535, value::ports),
        server_time_wait: section.or(
            "server_time_wait",
            LINUX_TIME_WAIT,
            value::duration(Duration::ZERO..=*TIMEOUTS.end()),
        ),
        manage_addresses: section.or("manage_addresses", true, value::boolean),
        connection_log: section
            .optional("connection_log", value::path)
            .map(|path| folder.join(path.into_inner())),
        admin_socket: admin_socket(&mut section, name.as_deref().unwrap_or_default(), folder),
        cores: cores(&mut section),
        tcp_half_open_timeout: timeout(&mut section, "tcp_half_open_timeout", seconds_10),
        tcp_closing_timeout: timeout(&mut section, "tcp_closing_timeout", seconds_10),
        udp_one_way_timeout: timeout(&mut section, "udp_one_way_timeout", seconds_10),
        half_open_share: section.or("half_open_share", 50, value::integer(1..=100)),
        name_servers: name_servers(&mut section),
        script: script_limits(&mut section),
        tables: table_limits(&mut section),
        name: name.clone().unwrap_or_default(),
    };
    let raw = RawInstance {
        place: section.place.clone(),
        instance: name.map(|_| instance),
        snat_addresses,
        snat_addresses_missing: section.is_empty("snat_addresses"),
    };
    section.finish();
    raw
}

const ATTACH_MODES: [(&str, AttachMode); 4] = [
    ("auto", AttachMode::Auto),
    ("native", AttachMode::Native),
    ("generic", AttachMode::Generic),
    ("tc", AttachMode::Tc),
];

fn timeout(section: &mut Section<'_>, key: &'static str, default: Duration) -> Duration {
    section.or(key, default, value::duration(TIMEOUTS))
}

fn interfaces(section: &mut Section<'_>) -> Vec<String> {
    let interfaces = section.list("interfaces", value::interface);
    if section.is_empty("interfaces") {
        section.missing("interfaces", "[\"eth0\"]");
    }
    unique(&interfaces, "interfaces", section.report())
}

fn name_servers(section: &mut Section<'_>) -> Vec<SocketAddr> {
    let servers = section.list("name_servers", host::name_server);
    unique(&servers, "name_servers", section.report())
}

fn cores(section: &mut Section<'_>) -> Vec<usize> {
    let cores = section.list("cores", value::integer(0..=LAST_CORE));
    unique(&cores, "cores", section.report())
}

fn admin_socket(section: &mut Section<'_>, name: &str, folder: &Path) -> PathBuf {
    let Some(given) = section.optional("admin_socket", value::path) else {
        return Path::new("/run/lb").join(format!("{name}.sock"));
    };
    let path = folder.join(given.get_ref());
    let length = path.as_os_str().len();
    if length > SOCKET_PATH {
        let message = format!("`admin_socket` must be {SOCKET_PATH} bytes at most, not {length}");
        let problem = section.report().at(given.span(), message);
        section.report().add(problem.with_help("Linux allows no longer path for a socket"));
    }
    path
}

fn script_limits(instance: &mut Section<'_>) -> ScriptLimits {
    let mut limits = ScriptLimits { instruction_budget: 1_000_000, memory: 32 << 20 };
    if let Some(mut section) = instance.table("script", "[instance.script]") {
        limits.instruction_budget = section.or(
            "instruction_budget",
            limits.instruction_budget,
            value::integer(0..=100_000_000),
        );
        limits.memory = section.or("memory", limits.memory, value::bytes(MIB..=16 * GIB));
        section.finish();
    }
    limits
}

fn table_limits(instance: &mut Section<'_>) -> TableLimits {
    let mut limits = TableLimits { entries: 100_000, key_size: 1024, value_size: 4096 };
    if let Some(mut section) = instance.table("tables", "[instance.tables]") {
        limits.entries = section.or("entries", limits.entries, value::integer(1..=16_777_216));
        limits.key_size = section.or("key_size", limits.key_size, value::bytes(1..=64 * KIB));
        limits.value_size = section.or("value_size", limits.value_size, value::bytes(1..=16 * MIB));
        section.finish();
    }
    limits
}
