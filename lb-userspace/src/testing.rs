//! What tests of several modules share.

/// How many cases a property is tried with: as many as the environment asks for, else few.
/// (proptest by itself asks it only where a test says nothing.)
pub fn cases(few: u32) -> u32 {
    let asked = std::env::var("PROPTEST_CASES").ok();
    asked.and_then(|cases| cases.parse().ok()).unwrap_or(few)
}
