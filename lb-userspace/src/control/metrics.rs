//! `/metrics`: the status as OpenMetrics text.

use std::{collections::BTreeMap, fmt};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _, text},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
    registry::Registry,
};

use super::{
    servers::view::ServerStatus,
    status::{PoolStatus, ServiceStatus, Status},
};

/// The media type of what [`exposition`] makes.
pub(super) const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The status in OpenMetrics 1.0 text.
pub(super) fn exposition(status: Status) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix("lb");
    registry.register_collector(Box::new(status));
    let mut exposition = String::new();
    text::encode(&mut exposition, &registry)?;
    Ok(exposition)
}

impl Collector for Status {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.encode_packets(&mut encoder)?;
        let lost = "Records that the connection log has lost: disk too slow, or it refused them";
        let counters = [
            ("logged_flows", "Flows that ended or were refused", self.logged_flows),
            ("lost_log_records", lost, self.lost_log_records),
            (
                "refused_table_inserts",
                "Inserts that found their table full",
                self.refused_table_inserts,
            ),
            (
                "snat_ports_reused_early",
                "SNAT ports used again before their rest was over",
                self.snat_ports.reused_early,
            ),
            (
                "snat_ports_exhausted",
                "Flows refused because no SNAT port was left",
                self.snat_ports.exhausted,
            ),
        ];
        for (name, help, value) in counters {
            let counter = ConstCounter::new(value);
            counter.encode(encoder.encode_descriptor(
                name,
                help,
                None,
                counter.metric_type(),
            )?)?;
        }
        let gauges = [
            ("flows", "Flows in the table", self.flows.now.into()),
            ("flows_half_open", "Flows not established yet", self.flows.half_open.into()),
            (
                "half_open_pressure",
                "1 if so many flows are half open that services answer with cookies",
                self.flows.pressure.into(),
            ),
            ("flow_capacity", "Flows that there may be", self.flows.capacity.into()),
            ("config_generation", "Configuration in force", self.generation.into()),
            ("snat_ports_in_use", "SNAT ports that flows use", self.snat_ports.in_use),
            (
                "snat_ports_resting",
                "SNAT ports that servers may keep in TIME_WAIT",
                self.snat_ports.resting,
            ),
        ];
        for (name, help, value) in gauges {
            let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        self.encode_servers(&mut encoder)?;
        self.encode_services(&mut encoder)?;
        self.encode_names(&mut encoder)
    }
}

impl Status {
    fn encode_servers(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let servers = || {
            self.pools.iter().flat_map(|pool| pool.servers.iter().map(move |server| (pool, server)))
        };
        let gauge = |of: fn(&ServerStatus) -> i64| {
            servers().map(move |(pool, server)| (labels(pool, server), of(server)))
        };
        let up = gauge(|server| i64::from(server.state.is_up()));
        gauges(encoder, "server_up", "Whether a server takes new flows", up)?;
        let connections = gauge(|server| i64::from(server.connections));
        gauges(encoder, "server_connections", "Flows that a server has", connections)?;
        let begun = servers().map(|(pool, server)| (labels(pool, server), server.flows_total));
        counters(encoder, "server_flows", "Flows to a server that ever began", begun)
    }

    fn encode_services(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let label = |service: &ServiceStatus| vec![("virtual_service", service.name.clone())];
        let services = self.virtual_services.iter();
        let connections = services.clone().map(|it| (label(it), i64::from(it.connections)));
        gauges(encoder, "service_connections", "Flows of a virtual service", connections)?;
        let begun = services.map(|it| (label(it), it.flows_total));
        counters(encoder, "service_flows", "Flows of a virtual service that ever began", begun)
    }

    fn encode_names(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let kind = ConstGauge::new(0i64).metric_type();
        let help = "Whether a name of servers cannot be resolved; its last addresses stay";
        let mut names = encoder.encode_descriptor("name_failing", help, None, kind)?;
        // A name may be in several pools, and with several ports in one.
        let all = self.pools.iter().flat_map(|pool| &pool.names);
        let failing: BTreeMap<_, _> =
            all.map(|it| (it.host.as_str(), it.error.is_some())).collect();
        for (host, failing) in failing {
            let gauge = ConstGauge::new(i64::from(failing));
            gauge.encode(names.encode_family(&[("name", host)])?)?;
        }
        Ok(())
    }

    fn encode_packets(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let kind = ConstCounter::new(0u64).metric_type();
        let help = "Packets by what happened to them, but for those that XDP just forwarded";
        let mut packets = encoder.encode_descriptor("packets", help, None, kind)?;
        for (event, count) in &self.events {
            let counter = ConstCounter::new(*count);
            counter.encode(packets.encode_family(&[("event", event.as_str())])?)?;
        }
        Ok(())
    }
}

type Labels = Vec<(&'static str, String)>;

fn labels(pool: &PoolStatus, server: &ServerStatus) -> Labels {
    vec![("pool", pool.name.clone()), ("server", server.address.to_string())]
}

fn gauges(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    values: impl Iterator<Item = (Labels, i64)>,
) -> fmt::Result {
    let kind = ConstGauge::new(0i64).metric_type();
    let mut family = encoder.encode_descriptor(name, help, None, kind)?;
    for (labels, value) in values {
        ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}

fn counters(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    values: impl Iterator<Item = (Labels, u64)>,
) -> fmt::Result {
    let kind = ConstCounter::new(0u64).metric_type();
    let mut family = encoder.encode_descriptor(name, help, None, kind)?;
    for (labels, value) in values {
        ConstCounter::new(value).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}
