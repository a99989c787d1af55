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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check() -> DnsCheck {
        DnsCheck { query_name: "www.example.com".into(), record_type: 1, rcode: None }
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_response_or_none(
            bytes in proptest::collection::vec(any::<u8>(), 0..600),
        ) {
            let _ = judge(&bytes, &check());
        }

        #[test]
        fn a_response_with_bytes_changed_is_one_or_none(
            changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
            end in any::<prop::sample::Index>(),
        ) {
            let mut response = query(&check(), 7).unwrap();
            response[2] |= 0x80;
            response[7] = 1;
            // An answer whose name is a pointer to the question's.
            response.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 5, 0, 4, 192, 0, 2, 1]);
            prop_assert_eq!(judge(&response, &check()), Ok("answered noerror, 1 records".into()));
            for (index, byte) in changes {
                let index = index.index(response.len());
                response[index] = byte;
            }
            let _ = judge(&response[..end.index(response.len())], &check());
        }
    }
}
