//! Whole flows through the program's function and the engine, over memory and simulated time.

mod admission;
mod adoption;
mod balancing;
mod destinations;
mod forwarding;
mod frames;
mod gone;
mod hostile;
mod inspected;
mod irregular;
mod lifecycle;
mod limits;
mod next_hops;
mod ports;
mod reload;
mod responses;
mod scripts;
mod treatment;
mod world;

use std::net::IpAddr;

use lb_common::{flow::FlowRecord, service::ServiceKey};

use super::*;
