//! Real clients and servers in network namespaces.

// The attribute tells clippy that helpers beside the tests are tests too.
#[cfg(test)]
mod bounce;
#[cfg(test)]
mod buffers;
#[cfg(test)]
mod decisions;
#[cfg(test)]
mod dns;
#[cfg(test)]
mod drain;
#[cfg(test)]
mod drops;
#[cfg(test)]
mod examples;
#[cfg(test)]
mod forwarding;
#[cfg(test)]
mod harness;
#[cfg(test)]
mod health;
#[cfg(test)]
mod inspect;
#[cfg(test)]
mod large;
#[cfg(test)]
mod lifecycle;
#[cfg(test)]
mod limits;
#[cfg(test)]
mod names;
#[cfg(test)]
mod packet_socket;
#[cfg(test)]
mod parsers;
#[cfg(test)]
mod refusals;
#[cfg(test)]
mod replay;
#[cfg(test)]
mod road;
#[cfg(test)]
mod scripts;
#[cfg(test)]
mod segment;
#[cfg(test)]
mod silence;
#[cfg(test)]
mod site;
#[cfg(test)]
mod snat;
#[cfg(test)]
mod steady;
#[cfg(test)]
mod tables;
