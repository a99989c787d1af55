//! From a decision about an inspected connection to its server, and on to the next if that fails.

use std::sync::Arc;

use lb_common::{
    address::{Address, Protocol},
    event::Event,
    flow::{FlowKeyV4, FlowRecord},
    service::ServiceKey,
};

use super::{
    Engine, Toward, Turn,
    decide::Choice,
    generation::Generation,
    inspect,
    inspections::{Connecting, Inspected},
    install::NewFlow,
    log::{DecidedBy, EndReason},
    ports::Peer,
    servers::{LiveServers, Untried},
};
use crate::config::VirtualService;

impl Engine {
    /// Prepares both directions of a connection for a server that was chosen.
    pub(super) fn connect(
        &mut self,
        turn: &mut Turn<'_>,
        inspected: &mut Inspected,
        (service, generation): (&VirtualService, &Generation),
        choice: Choice,
        record: FlowRecord,
    ) -> inspect::Decision {
        match self.join(turn, inspected, (service, generation), choice, record) {
            Ok(()) => inspect::Decision::Connect,
            Err(event) => self.refuse_inspected(inspected, event, EndReason::Refused),
        }
    }

    fn join(
        &mut self,
        turn: &mut Turn<'_>,
        inspected: &mut Inspected,
        (service, generation): (&VirtualService, &Generation),
        choice: Choice,
        record: FlowRecord,
    ) -> Result<(), Event> {
        let Toward::Known(to_server) = turn.neighbours.toward(choice.address.ip()) else {
            return Err(Event::DropUnreachable);
        };
        let number = generation.server_number(choice.pool, choice.server);
        let record = FlowRecord {
            created: inspected.created,
            pool: generation.pool_number(choice.pool),
            server: number,
            decided_by: choice.by as u8,
            ..record
        };
        let now = turn.now.monotonic;
        let flow = NewFlow {
            key: FlowKeyV4::new(&inspected.client, Protocol::Tcp),
            joins: Some(inspected.id),
            choice: &choice,
            forwarding: generation.pools.pool(choice.pool).forwarding(),
            to_server,
            to_client: inspected.to_client,
            show_response: generation.has_response_script(service),
            record,
            now,
        };
        let peer = Peer { server: choice.address, protocol: Protocol::Tcp };
        let installed = flow.install(&self.shared, &mut self.ports);
        if installed == Err(Event::DropSnatPortsExhausted) && self.ports.is_to_report(peer, now) {
            turn.effects.out_of_ports.push(peer);
        }
        installed?;
        let prepared = self.shared.flows.slot(inspected.id).snapshot();
        let (_, entry, _) = prepared.ok_or(Event::DropNoFlow)?;
        let policy = generation.pools.pool(choice.pool).policy();
        self.shared.servers.begun(number);
        self.shared.servers.spend(number, policy, now);
        if inspected.tried.is_empty() {
            self.shared.services.begun(&record);
        } else {
            // The same flow, at another server.
            self.shared.services.adopted(&record);
        }
        let (ends, asked) = (entry.rewrite.endpoints(), Some(now));
        inspected.server = Some(Connecting { choice, number, to_server, ends, asked });
        Ok(())
    }

    /// The server has failed: another of its pool, if one is left that has not.
    pub(super) fn next_server(
        &mut self,
        turn: &mut Turn<'_>,
        inspected: &mut Inspected,
    ) -> inspect::Decision {
        let none_left = (Event::DropNoServer, EndReason::Refused);
        let Some(failed) = inspected.server.take() else {
            return self.refuse_inspected(inspected, none_left.0, none_left.1);
        };
        let now = turn.now.monotonic;
        self.shared.servers.observe(failed.number, true, now);
        let record = self.shared.flows.record(inspected.id).load();
        self.flows.part(inspected.id, now, &self.shared, &mut self.ports);
        let Choice { pool, server, by, .. } = failed.choice;
        inspected.tried.push((pool, server));
        let generation = Arc::clone(&self.generation);
        let ends = &inspected.client;
        let vip = Address::v4(ends.destination);
        let service = ServiceKey::new(vip, ends.destination_port, Protocol::Tcp);
        // Numbers of pools and servers are of the generation that has chosen.
        let service = generation
            .service(&service)
            .filter(|_| record.generation == generation.number)
            .map(|(_, service)| service);
        let next = service.and_then(|service| {
            let tried = &inspected.tried;
            let live =
                LiveServers { generation: &generation, states: &self.shared.servers, pool, now };
            let client = super::packet::socket_address(ends.source, ends.source_port);
            let key = generation.pools.pool(pool).hash_key(client);
            let live = Untried { live, tried };
            let server = self.balancer.pick(&generation.pools, pool, key, &live)?;
            // Some algorithms have a last resort.
            if tried.contains(&(pool, server)) {
                return None;
            }
            let address = generation.pools.pool(pool).server(server)?.address;
            Some((service, Choice { server, address, by: again(by), ..failed.choice }))
        });
        match next {
            Some((service, choice)) => {
                self.connect(turn, inspected, (service, &generation), choice, record)
            }
            None => self.refuse_inspected(inspected, none_left.0, none_left.1),
        }
    }
}

/// What has chosen another server where what was chosen failed.
fn again(by: DecidedBy) -> DecidedBy {
    match by {
        DecidedBy::ScriptServer => DecidedBy::ScriptPool,
        other => other,
    }
}
