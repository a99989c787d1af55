//! Pools: servers, and which of them takes a flow.
