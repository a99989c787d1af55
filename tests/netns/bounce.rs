//! What came in by a veth and goes back there.

use std::path::Path;

use anyhow::Result;
use aya::maps::{Array, Map, MapData};
use lb_common::next_hop::NextHop;
use lb_tests::{Balancer, require_root, wait_until};

use crate::site::{SOON, Site, WEB, configuration, pool};

/// At the far end: an instance that nothing is sent to.
const FAR_END: &str = r#"
[instance]
name = "{instance}"
interfaces = ["eth0"]
attach_mode = "native"
snat_addresses = ["10.0.0.99"]
[[virtual_service]]
name = "web"
address = "10.0.0.98"
port = 80
protocol = "tcp"
pool = "web"
"#;

#[test]
fn a_veth_is_trusted_with_what_goes_back_while_its_far_end_runs_xdp() {
    if !require_root() {
        return;
    }
    let site = Site::new();
    let _servers = site.web_servers(1);
    let own = format!("{WEB}{}", pool("web", [1], 80));
    let balancer = site.balance(&own, &[]);
    assert_eq!(site.ask(), "1");
    let wait = |balancer: &Balancer, wanted: [bool; 2]| {
        let what = format!("next hops to bounce: {wanted:?}");
        wait_until(&what, SOON, || Ok(bouncing(&site, &balancer.pins())? == wanted)).unwrap();
    };
    wait(&balancer, [false, false]);
    let far_end = format!("{FAR_END}{}", pool("web", [2], 80));
    let far_end = Balancer::start(&site.servers, &far_end, &[]).unwrap();
    wait(&balancer, [false, true]);
    assert_eq!(site.ask(), "1");
    drop(far_end);
    wait(&balancer, [false, false]);
    assert_eq!(site.ask(), "1");
    drop(balancer);

    let text = configuration(&own).replace("\"native\"", "\"generic\"");
    let balancer = Balancer::start(&site.balancer, &text, &[]).unwrap();
    assert_eq!(site.ask(), "1");
    wait(&balancer, [true, true]);
    assert_eq!(site.ask(), "1");
}

/// Whether any next hop by the interface toward the clients, and any by that toward the servers,
/// bounces.
fn bouncing(site: &Site, pins: &Path) -> Result<[bool; 2]> {
    let map = Map::Array(MapData::from_pin(pins.join("next_hops"))?);
    let entries = Array::<_, [u8; size_of::<NextHop>()]>::try_from(map)?;
    let entries = entries.iter().collect::<Result<Vec<_>, _>>()?;
    let by = |interface: &str| -> Result<bool> {
        let line = site.balancer.run(&["ip", "-oneline", "link", "show", interface])?;
        let index = line.split(':').next().unwrap_or_default().parse::<u32>()?;
        let leaves = |entry: &&[u8; size_of::<NextHop>()]| entry[12..16] == index.to_ne_bytes();
        Ok(entries.iter().filter(leaves).any(|entry| entry[BOUNCES] != 0))
    };
    Ok([by("clients")?, by("servers")?])
}

const BOUNCES: usize = std::mem::offset_of!(NextHop, bounces);
