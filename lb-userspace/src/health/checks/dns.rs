//! DNS: a query over UDP, and the response's code (RFC 1035).

use std::{net::SocketAddr, time::SystemTime};

use simple_dns::{CLASS, Name, Packet, PacketFlag, QCLASS, QTYPE, Question, TYPE};

use super::{Answer, Fault, Stage, datagram};
use crate::config::{DnsCheck, Rcode};

/// What a server sends at most over UDP without being asked for more.
const MOST: usize = 4096;

pub(super) async fn check(address: SocketAddr, check: &DnsCheck, stage: &Stage) -> Answer {
    let id = query_id();
    let query = query(check, id)
        .map_err(|error| Fault::Own(format!("the balancer cannot write the query: {error}")))?;
    let socket = datagram::send(address, &query, stage).await?;
    let mut response = [0; MOST];
    loop {
        let length = datagram::receive(&socket, &mut response).await?;
        if response[..length].starts_with(&id.to_be_bytes()) {
            return judge(&response[..length], check);
        }
        stage.set("waiting for an answer to this query; another came");
    }
}

fn query(check: &DnsCheck, id: u16) -> Result<Vec<u8>, simple_dns::SimpleDnsError> {
    let mut packet = Packet::new_query(id);
    packet.set_flags(PacketFlag::RECURSION_DESIRED);
    let name = Name::new(&check.query_name)?;
    let record_type = QTYPE::TYPE(TYPE::from(check.record_type));
    packet.questions.push(Question::new(name, record_type, QCLASS::CLASS(CLASS::IN), false));
    packet.build_bytes_vec()
}

fn judge(response: &[u8], check: &DnsCheck) -> Answer {
    let packet = Packet::parse(response)
        .ok()
        .filter(|packet| packet.has_flags(PacketFlag::RESPONSE))
        .ok_or_else(|| Fault::server("the answer is no DNS response"))?;
    // The code as it is in the header; the library's own type has no number.
    let found = Rcode(u16::from(response[3] & 0x0f));
    match check.rcode {
        Some(wanted) if wanted != found => {
            Err(Fault::Server(format!("answered {}, not {}", found.name(), wanted.name())))
        }
        _ => Ok(format!("answered {}, {} records", found.name(), packet.answers.len())),
    }
}

/// It differs from check to check. The socket takes packets of the server only, so that nobody
/// has to be kept from guessing it.
fn query_id() -> u16 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let [.., high, low] = now.subsec_micros().to_be_bytes();
    u16::from_be_bytes([high, low])
}
