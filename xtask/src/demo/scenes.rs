//! What is asked of the balancer, and what comes of it.

use std::{collections::BTreeMap, net::IpAddr};

use anyhow::{Result, ensure};
use lb_tests::{Balancer, dig, http_get};

use super::{
    flows::{of, reasons},
    network::{CLIENTS, NAMES, Network},
    show::{command, result, step, table},
};

/// A script sends each client where it belongs.
pub fn web(network: &Network, balancer: &Balancer) -> Result<()> {
    step("Every client asks twice. by-client.lua runs on the first packet of a connection only.");
    let answers = ask(network, "http://192.0.2.10/", 2)?;
    show(balancer, "web", &answers)?;
    ensure!(answers[CLIENTS[0]] == ["server-2"; 2], "the tester did not get its server");
    ensure!(answers[CLIENTS[2]] == ["server-3"; 2], "the guest did not get the guests' server");
    result("The tester gets the one server that the script names, staff and guests their pools.");
    Ok(())
}

/// A table keeps each client where it was.
pub fn shop(network: &Network, balancer: &Balancer) -> Result<()> {
    step("pin-by-table.lua writes down who got which server, and sends who comes back there.");
    let answers = ask(network, "http://192.0.2.11/", 4)?;
    show(balancer, "shop", &answers)?;
    for (client, servers) in &answers {
        ensure!(servers.iter().all(|server| server == &servers[0]), "{client} was sent about");
    }
    result("Every client stays where it was, though the pool goes round robin.");
    Ok(())
}

fn ask<'a>(network: &Network, url: &str, times: usize) -> Result<BTreeMap<&'a str, Vec<String>>> {
    let mut answers = BTreeMap::<_, Vec<_>>::new();
    for client in CLIENTS.iter().copied().cycle().take(CLIENTS.len() * times) {
        let reply = http_get(&network.client, url, Some(client.parse()?))?;
        answers.entry(client).or_default().push(reply.server);
    }
    command(&format!("curl --interface {} {url}", CLIENTS[0]));
    Ok(answers)
}

fn show(balancer: &Balancer, service: &str, answers: &BTreeMap<&str, Vec<String>>) -> Result<()> {
    let flows = balancer.flows_json()?;
    let row = |(client, servers): (&&str, &Vec<String>)| {
        vec![(*client).to_owned(), servers.join(", "), reasons(of(&flows, service, client))]
    };
    let rows: Vec<_> = answers.iter().map(row).collect();
    table(&["client", "was answered by", "decided by"], &rows);
    Ok(())
}

/// A script reads the first datagram.
pub fn dns(network: &Network, balancer: &Balancer) -> Result<()> {
    step(
        "dns-by-name.lua reads the name in a DNS query. Every server answers with its own address.",
    );
    let [public, internal] = NAMES;
    let asked = [(CLIENTS[0], internal), (CLIENTS[1], public), (CLIENTS[2], public)];
    let mut rows = Vec::new();
    let mut answers = Vec::<IpAddr>::new();
    for (client, name) in asked {
        answers.push(dig(&network.client, "192.0.2.10:53".parse()?, name, client.parse().ok())?);
    }
    command(&format!("dig -b {} @192.0.2.10 {internal} +short", CLIENTS[0]));
    let flows = balancer.flows_json()?;
    for ((client, name), answer) in asked.iter().zip(&answers) {
        let why = reasons(of(&flows, "dns", client));
        rows.push(vec![(*client).to_owned(), (*name).to_owned(), answer.to_string(), why]);
    }
    table(&["client", "asked for", "was told", "decided by"], &rows);
    ensure!(answers[0].to_string() == "10.0.0.11", "{internal} did not go to the internal server");
    result("The internal name went to the internal pool, the others did not.");
    Ok(())
}
