use std::net::SocketAddr;

use lb_common::{address::Protocol, event::Event, path::Verdict};

use super::*;
use crate::engine::Ruling;

const CONFIG: &str = r#"
[instance]
name = "test"
interfaces = ["eth0"]
snat_addresses = ["192.0.2.9"]
[[virtual_service]]
name = "dns"
address = "192.0.2.10"
port = 53
protocol = "udp"
pool = "resolvers"
datascripts = ["set"]
[[pool]]
name = "resolvers"
servers = [{ address = "10.0.0.21", port = 53 }]
[[datascript]]
name = "set"
pools = ["resolvers"]
l4_request = "request.lua"
l4_response = "response.lua"
"#;

fn simulation() -> Simulation {
    let read = |path: &std::path::Path| {
        let request = path.ends_with("request.lua");
        Ok(if request { "avi.vs.log(avi.l4.read())" } else { "avi.vs.log('<', avi.l4.read())" }
            .to_owned())
    };
    let config = Config::parse(std::path::Path::new("lb.toml"), CONFIG, read);
    let config = Arc::new(config.unwrap_or_else(|problems| panic!("{problems}")));
    Simulation::new(config, SystemTime::UNIX_EPOCH, 100).unwrap()
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn query<'a>(client: &str, vip: &str, payload: &'a [u8]) -> Query<'a> {
    let (client, vip) = (address(client), address(vip));
    Query { protocol: Protocol::Udp, client, vip, payload, stream: None }
}

#[test]
fn a_flow_goes_to_its_server_and_back_and_ends() {
    let (mut simulation, mut effects) = (simulation(), Effects::default());
    let query = query("198.51.100.7:4000", "192.0.2.10:53", b"question");
    let now = simulation.at(SystemTime::UNIX_EPOCH);
    let frame = first_packet(&query).unwrap();
    let verdict = simulation.receive(now, &frame, &mut effects);
    assert_eq!(verdict, Verdict::Punt(Event::PuntFirstPacket));
    assert_eq!((effects.frames().len(), effects.explanations.len()), (1, 1));
    let explanation = &effects.explanations[0];
    assert_eq!((explanation.decision, &*explanation.log), (Ruling::Server, "question"));
    let flow = simulation.flow(query.protocol, query.client, query.vip).unwrap();
    assert_eq!(flow.server(), Some(address("10.0.0.21:53")));
    effects.clear();
    let answer = from_server(&flow, b"answer").unwrap();
    let verdict = simulation.receive(now, &answer, &mut effects);
    assert_eq!(verdict, Verdict::Punt(Event::PuntResponse));
    assert_eq!(effects.frames().len(), 1);
    effects.clear();
    assert_eq!(simulation.receive(now, &frame, &mut effects), Verdict::Transmit);
    let later = simulation.at(SystemTime::UNIX_EPOCH + Duration::from_mins(1));
    simulation.tick(later, &mut effects);
    let [ended] = &effects.log[..] else { panic!("{effects:?}") };
    assert_eq!((ended.packets, ended.reply_packets, &*ended.ds_log), (2, 1, "question<answer"));
    assert!(simulation.flow(query.protocol, query.client, query.vip).is_none());
}

#[test]
fn what_is_not_for_the_balancer_is_left_alone() {
    let (mut simulation, mut effects) = (simulation(), Effects::default());
    let query = query("198.51.100.7:4000", "192.0.2.99:53", b"");
    let (now, frame) = (simulation.at(SystemTime::now()), first_packet(&query).unwrap());
    let verdict = simulation.receive(now, &frame, &mut effects);
    assert_eq!(verdict, Verdict::Pass(Event::PassNotOurs));
    assert_eq!(simulation.explain(now, query), None);
}

#[test]
fn a_payload_that_fits_no_packet_makes_no_frame() {
    let long = vec![0; 70_000];
    assert_eq!(first_packet(&query("198.51.100.7:1", "192.0.2.10:53", &long)), None);
    assert_eq!(first_packet(&query("[2001:db8::1]:1", "192.0.2.10:53", b"")), None);
}
