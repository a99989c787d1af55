//! The ports toward one server, of all source addresses.

use std::{net::IpAddr, time::Duration};

use lb_common::hash::mix;

use super::{Lease, Offer, set::Set};

/// Ports whose rest is over that are freed before one is taken: more than one, so that none pile
/// up, and few, so that no packet waits for all that fell due in a quiet hour.
const AT_ONCE: usize = 4;
/// How long it is known which port comes next after the last flow.
const REMEMBERED: Duration = Duration::from_secs(60);
/// How often it is said of a server that no port is left.
const REPORTED: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(super) struct Server {
    /// For each source address that is offered, in that order; `None` until it is used.
    sets: Vec<Option<Set>>,
    /// Of addresses that are offered no longer, as long as flows use them.
    former: Vec<Set>,
    reported: Option<Duration>,
}

impl Server {
    pub fn new(offer: &Offer) -> Self {
        let sets = offer.sources.iter().map(|_| None).collect();
        Self { sets, former: Vec::new(), reported: None }
    }

    /// A port that is free; else the one that has rested longest.
    pub fn take(
        &mut self,
        offer: &Offer,
        to: IpAddr,
        client: IpAddr,
        now: Duration,
    ) -> Option<Lease> {
        self.take_free(offer, to, client, now).or_else(|| self.take_resting(now))
    }

    /// A client gets ports of the same address as long as that has some ("paired", RFC 4787
    /// §4.1): servers and people who read their logs see one client as one. Clients spread over
    /// the addresses by a hash, which moves few of them when an address comes or goes.
    fn take_free(
        &mut self,
        offer: &Offer,
        to: IpAddr,
        client: IpAddr,
        now: Duration,
    ) -> Option<Lease> {
        let fits = |(index, source): &(usize, IpAddr)| {
            source.is_ipv4() == to.is_ipv4() && self.has_free(offer, *index, now)
        };
        let sources = offer.sources.iter().map(|gauge| gauge.source()).enumerate().filter(fits);
        let (index, source) = sources.max_by_key(|(_, source)| affinity(client, *source))?;
        let gauge = offer.sources.get(index)?;
        let set = self.sets.get_mut(index)?;
        let set = set.get_or_insert_with(|| Set::new(&offer.share, gauge.clone()));
        set.release(&offer.share, now, AT_ONCE);
        let port = set.take_free(&offer.share, now)?;
        Some(Lease { source, port, rest: None })
    }

    fn has_free(&self, offer: &Offer, index: usize, now: Duration) -> bool {
        match self.sets.get(index) {
            Some(Some(set)) => set.has_free(now),
            _ => !offer.share.is_empty(),
        }
    }

    fn take_resting(&mut self, now: Duration) -> Option<Lease> {
        let sets = self.sets.iter_mut().flatten();
        let resting = sets.filter_map(|set| Some((set.longest_rested()?, set)));
        let (_, set) = resting.min_by_key(|(rest, _)| *rest)?;
        let rest = set.take_resting(now)?;
        Some(Lease { source: set.gauge().source(), port: rest.port(), rest: Some(rest) })
    }

    /// The ports of a source address, if some were ever taken.
    pub fn set(&mut self, source: IpAddr) -> Option<&mut Set> {
        let sets = self.sets.iter_mut().flatten().chain(&mut self.former);
        sets.into_iter().find(|set| set.gauge().source() == source)
    }

    /// The ports of an address that a flow found at the start uses, be it offered or not.
    pub fn adopting(
        &mut self,
        offer: &Offer,
        source: IpAddr,
        former: impl FnOnce() -> Set,
    ) -> Option<&mut Set> {
        let index = offer.sources.iter().position(|gauge| gauge.source() == source);
        if let Some(index) = index {
            let gauge = &offer.sources[index];
            let set = self.sets.get_mut(index)?;
            return Some(set.get_or_insert_with(|| Set::new(&offer.share, gauge.clone())));
        }
        if !self.former.iter().any(|set| set.gauge().source() == source) {
            self.former.push(former());
        }
        self.former.iter_mut().find(|set| set.gauge().source() == source)
    }

    /// Follows a new offer.
    pub fn follow(&mut self, offer: &Offer) {
        let mut known: Vec<Set> =
            self.sets.drain(..).flatten().chain(self.former.drain(..)).collect();
        known.iter_mut().for_each(|set| set.set_share(&offer.share));
        for gauge in &offer.sources {
            let position = known.iter().position(|set| set.gauge().source() == gauge.source());
            self.sets.push(position.map(|position| known.swap_remove(position)));
        }
        self.former = known;
    }

    /// Frees ports whose rest is over, so many at most, and forgets addresses that nobody uses.
    /// Says how many ports it freed.
    pub fn look_after(&mut self, offer: &Offer, now: Duration, most: usize) -> usize {
        let mut released = 0;
        for set in self.sets.iter_mut().flatten().chain(&mut self.former) {
            released += set.release(&offer.share, now, most - released);
        }
        for set in &mut self.sets {
            let _ = set.take_if(|set| set.is_forgotten(now, REMEMBERED));
        }
        self.former.retain(|set| !set.is_forgotten(now, Duration::ZERO));
        released
    }

    /// Whether there is nothing to remember.
    pub fn is_forgotten(&self, now: Duration) -> bool {
        let reported = self.reported.is_some_and(|last| now.saturating_sub(last) < REPORTED);
        !reported && self.former.is_empty() && self.sets.iter().all(Option::is_none)
    }

    /// Whether it is time to say that no port is left; then it counts as said.
    pub fn is_to_report(&mut self, now: Duration) -> bool {
        let is_due = self.reported.is_none_or(|last| now.saturating_sub(last) >= REPORTED);
        if is_due {
            self.reported = Some(now);
        }
        is_due
    }

    #[cfg(test)]
    pub fn sets(&self) -> impl Iterator<Item = &Set> {
        self.sets.iter().flatten().chain(&self.former)
    }
}

/// The address with the highest is a client's own: rendezvous hashing (Thaler and Ravishankar
/// 1998). The same on every worker and every instance.
fn affinity(client: IpAddr, source: IpAddr) -> u64 {
    mix(number(client) ^ mix(number(source)))
}

/// An address as a number that says little of its neighbours'.
fn number(address: IpAddr) -> u64 {
    let bits = match address {
        IpAddr::V4(v4) => v4.to_bits().into(),
        IpAddr::V6(v6) => v6.to_bits(),
    };
    mix(mix((bits >> 64) as u64) ^ bits as u64)
}
