//! From a decision to its server, and on to the next if that fails.

use std::{sync::Arc, time::Duration};

use lb_common::{
    address::Protocol,
    event::Event,
    flow::{FlowKeyV4, FlowRecord},
    wire::TcpFlags,
};

use super::{Connecting, Inspected, Refusal};
use crate::{
    config::VirtualService,
    engine::{
        Engine, Generation, Toward, Turn,
        decide::Choice,
        inspect::{self, Failure},
        install::NewFlow,
        log::DecidedBy,
        ports::Peer,
        servers::Untried,
    },
    flow_table::SlotId,
};

impl Engine {
    /// Prepares both directions of a connection for a server that was chosen.
    pub(super) fn connect(
        &mut self,
        turn: &mut Turn<'_>,
        inspected: &mut Inspected,
        (service, generation): (&VirtualService, &Generation),
        choice: Choice,
        record: FlowRecord,
    ) -> Result<inspect::Decision, Refusal> {
        let Toward::Known(to_server) = turn.neighbours.toward(choice.address.ip()) else {
            return Err(Event::DropUnreachable.into());
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
        inspected.server = Some(Connecting { number, to_server, ends, asked });
        Ok(inspect::Decision::Connect)
    }

    /// The server has failed: another of its pool, if one is left that has not. The pool is taken as
    /// it is now: a configuration that came since then may have other servers for it, or none.
    pub(super) fn next_server(
        &mut self,
        turn: &mut Turn<'_>,
        inspected: &mut Inspected,
        failure: Failure,
    ) -> Result<inspect::Decision, Refusal> {
        let failed = inspected.server.take().ok_or(Event::DropNoServer)?;
        let now = turn.now.monotonic;
        self.shared.servers.observe(failed.number, true, now);
        let record = self.shared.flows.record(inspected.id).load();
        if failure == Failure::Refused {
            // It knows of no connection: the port needs no rest.
            self.shared.flows.slot(SlotId(record.partner)).mark(TcpFlags(TcpFlags::RST));
        }
        self.flows.part(inspected.id, now, &self.shared, &mut self.ports);
        inspected.tried.push(failed.number);
        let generation = Arc::clone(&self.generation);
        let (_, service) = generation.service(&inspected.service()).ok_or(Event::DropNoServer)?;
        let choice = self.untried(&generation, inspected, &record, now);
        let choice = choice.ok_or(Event::DropNoServer)?;
        self.connect(turn, inspected, (service, &generation), choice, record)
    }

    /// A server of the pool in a flow's record that has not failed.
    fn untried(
        &mut self,
        generation: &Generation,
        inspected: &Inspected,
        record: &FlowRecord,
        now: Duration,
    ) -> Option<Choice> {
        let pool = generation.pool_numbered(record.pool)?;
        let live = Untried { live: generation.live(pool, now), tried: &inspected.tried };
        let key = generation.pools.pool(pool).hash_key(inspected.source());
        let server = self.balancer.pick(&generation.pools, pool, key, &live)?;
        // Some algorithms have a last resort.
        if live.has_failed(server) {
            return None;
        }
        let address = generation.pools.pool(pool).server(server)?.address;
        let by = DecidedBy::from_number(record.decided_by).map_or(DecidedBy::Algorithm, again);
        Some(Choice { group: None, pool, server, address, by })
    }
}

/// What has chosen another server where what was chosen failed.
fn again(by: DecidedBy) -> DecidedBy {
    match by {
        DecidedBy::ScriptServer => DecidedBy::ScriptPool,
        other => other,
    }
}
