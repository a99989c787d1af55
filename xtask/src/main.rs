//! Builds, tests and demonstrates Firstpacket.

fn main() {}
