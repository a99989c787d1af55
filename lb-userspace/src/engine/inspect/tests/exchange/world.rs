//! All together, and the balancer between them as a worker is to hold it.

use super::{
    network::{At, Flying, Network, translated},
    peer::{Accepts, Peer, RETRY},
    *,
};

pub struct World {
    pub network: Network,
    pub client: Peer,
    pub server: Option<Peer>,
    /// What the server is to be.
    pub accepts: Accepts,
    pub balancer: Option<Inspection>,
    pub splice: Option<Handshakes>,
    pub start: Start,
    /// Bytes that the script wants, and servers that refuse.
    pub wants: usize,
    pub refusing: usize,
    pub chosen: usize,
}

impl World {
    pub fn run(&mut self) {
        let mut out = Vec::new();
        let hello = self.client.segment(0, b"", Flags::ACK);
        self.network.send(At::Balancer(Side::Client, 0), &hello);
        while !self.is_done() {
            let now = self.advance();
            assert!(now < 3600 * SECOND, "it takes too long");
            while let Some(entry) = self.network.flying.first_entry() {
                if entry.key().0 > now {
                    break;
                }
                let (at, segment) = entry.remove();
                self.arrive(at, &segment);
            }
            self.client.send(now, &mut out);
            self.launch(&mut out, At::Balancer(Side::Client, 0));
            if let Some(server) = &mut self.server {
                if server.is_synchronized {
                    server.send(now, &mut out);
                } else if now >= server.retry_at {
                    server.retry_at = now + RETRY;
                    out.push(self.accepts.answer(self.start.client));
                }
                self.launch(&mut out, At::Balancer(Side::Server, self.chosen));
            }
            self.balance(Input::Timer, None);
        }
    }

    pub fn is_done(&self) -> bool {
        let server_is_done = self.server.as_ref().is_some_and(Peer::is_done);
        self.splice.is_some() && self.client.is_done() && server_is_done
    }

    /// On to whatever is next.
    pub fn advance(&mut self) -> Duration {
        let packet = self.network.flying.keys().next().map(|(at, _)| *at);
        let peers = [Some(&self.client), self.server.as_ref()].into_iter().flatten();
        let busy = peers.filter(|peer| peer.acknowledged < peer.end() || !peer.is_synchronized);
        let timers = busy.map(|peer| peer.retry_at);
        let balancer = self.balancer.as_ref().and_then(Inspection::wakes_at);
        let next = timers.chain(packet).chain(balancer).min().expect("something is to come");
        self.network.now = self.network.now.max(next);
        self.network.now
    }

    pub fn launch(&mut self, out: &mut Vec<Flying>, to: At) {
        for segment in out.drain(..) {
            self.network.send(to, &segment);
        }
    }

    pub fn arrive(&mut self, at: At, segment: &Flying) {
        let (now, mut out) = (self.network.now, Vec::new());
        match at {
            At::Client => {
                self.client.receive(segment, now, &mut out);
                self.launch(&mut out, At::Balancer(Side::Client, 0));
            }
            At::Server(number) => self.arrive_at_server(number, segment),
            At::Balancer(Side::Server, number) if number != self.chosen => {}
            At::Balancer(from, _) => self.arrive_at_balancer(from, segment),
        }
    }

    pub fn arrive_at_server(&mut self, number: usize, segment: &Flying) {
        let (now, mut out) = (self.network.now, Vec::new());
        let answers_to = At::Balancer(Side::Server, number);
        if number <= self.refusing {
            let acknowledgement = segment.sequence.plus(1);
            let reset = Flying { acknowledgement, flags: RST_ACK, ..Flying::default() };
            return self.network.send(answers_to, &reset);
        }
        if segment.flags.syn {
            if self.server.is_none() {
                assert_eq!(segment.options.mss, Some(self.start.agreed.mss()));
                assert_eq!(segment.options.window_scale, self.start.agreed.window_scale());
                self.server = Some(self.accepts.peer(self.start.agreed, segment.window, now));
            }
            let answer = self.accepts.answer(self.start.client);
            return self.network.send(answers_to, &answer);
        }
        if let Some(server) = &mut self.server {
            server.receive(segment, now, &mut out);
            self.launch(&mut out, answers_to);
        }
    }

    pub fn arrive_at_balancer(&mut self, from: Side, segment: &Flying) {
        if let Some(splice) = self.splice {
            let to = if from == Side::Client { Side::Server } else { Side::Client };
            return self.pass(to, &translated(to, splice, segment.clone()));
        }
        let carries_cookie = segment.sequence == self.start.client.plus(1);
        if self.balancer.is_none() && from == Side::Client && carries_cookie {
            let limits = Limits { delivering: 3600 * SECOND, opening: 3600 * SECOND, ..limits() };
            let limits = Limits { server: 600 * SECOND, idle: 600 * SECOND, ..limits };
            let limits = Limits { collecting: 600 * SECOND, ..limits };
            self.balancer = Some(Inspection::new(self.start, limits, self.network.now));
        }
        let read = segment.segment();
        let input = if from == Side::Client { Input::Client(&read) } else { Input::Server(&read) };
        self.balance(input, Some(segment));
    }

    pub fn pass(&mut self, to: Side, segment: &Flying) {
        let to = if to == Side::Client { At::Client } else { At::Server(self.chosen) };
        self.network.send(to, segment);
    }

    /// Lets the balancer do what it wants.
    pub fn balance(&mut self, input: Input<'_>, segment: Option<&Flying>) {
        let Some(mut inspection) = self.balancer.take() else { return };
        let mut actions = Vec::new();
        inspection.step(self.network.now, input, &mut actions);
        while !actions.is_empty() {
            let mut following = Vec::new();
            for action in actions.drain(..) {
                let known = (inspection.payload(), inspection.handshakes());
                if let Some(decision) = self.act(&action, known, segment) {
                    let input = Input::Decided(decision);
                    inspection.step(self.network.now, input, &mut following);
                }
            }
            actions = following;
        }
        self.balancer = Some(inspection).filter(|inspection| !inspection.is_over());
    }

    pub fn act(
        &mut self,
        action: &Action,
        (payload, handshakes): (&[u8], Option<Handshakes>),
        segment: Option<&Flying>,
    ) -> Option<Decision> {
        match action {
            Action::Send(side, segment) => self.pass(*side, &Flying::new(segment, payload)),
            Action::Forward(side) => {
                let segment = segment.expect("a segment came in").clone();
                let splice = self.splice.or(handshakes).expect("both are there");
                self.pass(*side, &translated(*side, splice, segment));
            }
            Action::Splice(handshakes) => self.splice = Some(*handshakes),
            Action::Decide(Because::Enough) if payload.len() < self.wants => {
                return Some(Decision::Collect(self.wants));
            }
            Action::Decide(_) | Action::ServerFailed(_) => {
                self.chosen += 1;
                return Some(Decision::Connect);
            }
            Action::End(end) => panic!("ended: {end:?}"),
        }
        None
    }
}
