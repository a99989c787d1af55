//! Golden packets, each through two runners: the packet path over plain memory, and the loaded
//! XDP program by `BPF_PROG_TEST_RUN`. What both make of a packet must be the same, to the byte.
#![forbid(unsafe_code)]

// The attribute tells clippy that helpers beside the tests are tests too.
#[cfg(test)]
mod cases;
#[cfg(test)]
mod fixture;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod memory;
#[cfg(test)]
mod observed;
#[cfg(test)]
mod packet;
#[cfg(test)]
mod program;
#[cfg(test)]
mod setup;
#[cfg(test)]
mod stress;
