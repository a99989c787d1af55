//! Who might have been chosen, and why or why not: part of an explanation.

use super::{evidence::Evidence, explanation::Candidate, servers::LiveServers};
use crate::{
    config::{Member, PoolGroupIndex, PoolIndex, ServerIndex},
    pool::{Live as _, Takes},
};

impl Evidence<'_> {
    /// A pool group's members.
    pub(super) fn members(
        &self,
        group: PoolGroupIndex,
        chosen: Option<PoolIndex>,
    ) -> Vec<Candidate> {
        let members = &self.generation.pools.group(group).members;
        let highest = chosen.and_then(|chosen| members.iter().find(|it| it.pool == chosen));
        let candidate = |member: &Member| Candidate {
            name: self.pool_name(member.pool),
            ratio: member.ratio,
            connections: None,
            chosen: chosen == Some(member.pool),
            why: if chosen == Some(member.pool) {
                "its turn".into()
            } else if !self.generation.is_pool_up(member.pool) {
                "down".into()
            } else if highest.is_some_and(|chosen| member.priority < chosen.priority) {
                format!("priority {}: another's is higher", member.priority).into()
            } else {
                "not its turn".into()
            },
        };
        members.iter().map(candidate).collect()
    }

    /// A pool's servers.
    pub(super) fn candidates(&self, pool: PoolIndex) -> Vec<Candidate> {
        let live = self.generation.live(pool, self.now);
        let chosen = self.choice().map(|choice| choice.server);
        let servers = self.generation.pools.pool(pool).servers().iter().enumerate();
        let candidates = servers.map(|(index, server)| {
            let index = ServerIndex(index);
            let why = self.why(pool, &live, index, chosen == Some(index));
            let share = live.share(index);
            Candidate {
                name: server.address.to_string(),
                ratio: server.ratio,
                connections: Some(live.connections(index)),
                chosen: chosen == Some(index),
                why: if share < 1.0 {
                    format!("{why}; its share is {:.0} % for now", share * 100.0).into()
                } else {
                    why.into()
                },
            }
        });
        candidates.collect()
    }

    fn why(
        &self,
        pool: PoolIndex,
        live: &LiveServers<'_>,
        server: ServerIndex,
        chosen: bool,
    ) -> &'static str {
        if live.standing(server).is_down() {
            return "down";
        }
        match live.takes(server) {
            Takes::None => "disabled",
            Takes::Persistent if !chosen => "disabled, but for persistent clients",
            _ if !chosen && !live.has_room(server) => "full",
            _ => turn(self.manner(pool), chosen),
        }
    }
}

/// By the algorithm, or what stands for it.
fn turn(manner: &'static str, chosen: bool) -> &'static str {
    match (manner, chosen) {
        ("round-robin" | "core-affinity", true) => "its turn",
        ("round-robin" | "core-affinity", false) => "not its turn",
        ("consistent-hash", true) => "the key's hash leads here",
        ("consistent-hash", false) => "the key's hash leads elsewhere",
        ("least-connections", true) => "the fewest connections for its ratio",
        ("least-connections", false) => "another has fewer for its ratio, or its turn",
        ("random", true) => "drawn, and the less loaded of two",
        ("random", false) => "not drawn, or more loaded",
        ("fastest-response", true) => "the fastest for its load",
        ("fastest-response", false) => "slower, or more loaded",
        ("fewest-servers", true) => "the first that is not filled, or the least loaded",
        ("fewest-servers", false) => "filled, or not needed",
        (other, true) => other,
        (_, false) => "not asked for",
    }
}
