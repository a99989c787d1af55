//! One server is filled before the next gets any: those at the end can be switched off.

use super::Pool;

/// The first usable server that is not filled; once all are, the one with the lowest load.
///
/// `filled` says how much of its mark a server has used, in the pool's order.
pub(super) fn pick(
    pool: &Pool,
    usable: impl Fn(usize) -> bool,
    connections: impl Fn(usize) -> u32,
    load: impl Fn(usize) -> f64,
) -> Option<usize> {
    let all = || (0..pool.servers.len()).filter(|index| usable(*index));
    let is_open = |index: &usize| f64::from(connections(*index)) < mark(pool, *index);
    all().find(is_open).or_else(|| all().min_by(|a, b| load(*a).total_cmp(&load(*b))))
}

/// How far a server is filled: up to the pool's limit that of the greatest ratio, the others in
/// proportion.
fn mark(pool: &Pool, index: usize) -> f64 {
    let most = pool.servers.iter().map(|server| server.ratio).max().unwrap_or(1);
    let share = f64::from(pool.servers[index].ratio) / f64::from(most);
    (f64::from(pool.policy.max_connections) * share).max(1.0)
}
