//! Turns by ratio, smoothly: the algorithm of nginx (commit 52327e0627f4 of 2012).
//!
//! With each pick every usable server gains its ratio as credit; the richest is picked, the first of
//! equals, and pays what all have gained. Over as many picks as the ratios' sum each server is picked
//! as often as its ratio says, and all are back at zero.
//!
//! Servers of one ratio gain alike, so that the order among them stays: only the richest of each ratio
//! are compared, and only who pays changes its place. A pick takes time by the number of different
//! ratios, and logarithmic in that of servers.

use std::{cmp::Reverse, collections::BTreeSet};

/// Everybody's credit.
#[derive(Clone, Debug)]
pub(super) struct Smooth {
    ranks: Vec<Rank>,
    accounts: Vec<Account>,
    picks: i64,
    /// What all that are in gain with a pick.
    gain: i64,
}

/// Servers of one ratio.
#[derive(Clone, Debug)]
struct Rank {
    ratio: i64,
    /// Those that are in, the richest first: balances and indices.
    order: BTreeSet<(Reverse<i64>, usize)>,
}

/// One server's.
#[derive(Clone, Debug)]
struct Account {
    rank: usize,
    /// The credit; of one that is in, less than that by what its ratio would have gained it since
    /// the first pick.
    balance: i64,
    is_in: bool,
}

impl Smooth {
    /// Of servers with these ratios. Nobody is in, and nobody has credit.
    pub fn new(ratios: &[u16]) -> Self {
        let mut occurring = ratios.to_vec();
        occurring.sort_unstable();
        occurring.dedup();
        let account = |ratio: &u16| {
            let rank = occurring.partition_point(|other| other < ratio);
            Account { rank, balance: 0, is_in: false }
        };
        let accounts = ratios.iter().map(account).collect();
        let rank = |ratio: &u16| Rank { ratio: i64::from(*ratio), order: BTreeSet::new() };
        Self { ranks: occurring.iter().map(rank).collect(), accounts, picks: 0, gain: 0 }
    }

    /// Lets a server in, or out: it keeps its credit then, and gains none.
    pub fn set(&mut self, index: usize, is_in: bool) {
        let account = &mut self.accounts[index];
        if account.is_in == is_in {
            return;
        }
        account.is_in = is_in;
        let Rank { ratio, order } = &mut self.ranks[account.rank];
        if is_in {
            account.balance -= *ratio * self.picks;
            order.insert((Reverse(account.balance), index));
            self.gain += *ratio;
        } else {
            order.remove(&(Reverse(account.balance), index));
            account.balance += *ratio * self.picks;
            self.gain -= *ratio;
        }
    }

    /// The richest of those that are in, once all have gained.
    pub fn richest(&self) -> Option<usize> {
        let first = |rank: &Rank| {
            let (Reverse(balance), index) = rank.order.first()?;
            Some((balance + rank.ratio * (self.picks + 1), Reverse(*index)))
        };
        let (_, Reverse(index)) = self.ranks.iter().filter_map(first).max()?;
        Some(index)
    }

    /// All gain, and this one of them pays for it.
    pub fn pick(&mut self, index: usize) {
        let account = &mut self.accounts[index];
        let order = &mut self.ranks[account.rank].order;
        order.remove(&(Reverse(account.balance), index));
        account.balance -= self.gain;
        order.insert((Reverse(account.balance), index));
        self.picks += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::tests::plain::Nginx;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn who_is_picked_is_whom_nginx_picks(
            ratios in prop::collection::vec(prop_oneof![1..4u16, 1..=1000u16], 1..40),
            steps in prop::collection::vec((any::<prop::sample::Index>(), any::<bool>(), 0..9), 1..60),
        ) {
            let (mut smooth, mut nginx) = (Smooth::new(&ratios), Nginx(vec![0; ratios.len()]));
            let mut is_in = vec![true; ratios.len()];
            (0..ratios.len()).for_each(|index| smooth.set(index, true));
            for (index, comes, picks) in steps {
                let index = index.index(ratios.len());
                smooth.set(index, comes);
                is_in[index] = comes;
                for _ in 0..picks {
                    let richest = smooth.richest();
                    let among = (0..ratios.len()).filter(|index| is_in[*index]);
                    prop_assert_eq!(richest, nginx.pick(&ratios, among), "{:?}", nginx);
                    richest.into_iter().for_each(|richest| smooth.pick(richest));
                }
            }
        }
    }
}
