//! Maglev consistent hashing (D. Eisenbud et al., "Maglev: A Fast and Reliable Software Network
//! Load Balancer", NSDI 2016, §3.4).
//!
//! Every backend has its own permutation of the table's entries. The backends take turns; a turn
//! takes the first entry of the backend's permutation that is still free. What a packet is hashed
//! to is then one array access away: `table[hash % table.len()]`.
//!
//! Weights. The paper leaves them open; here turns are proportional: a backend of weight *w*
//! takes *w* turns while one of weight 1 takes one. Turns are interleaved, not taken in a row:
//! a round gives each backend its weight as credit, and a turn costs as much as the heaviest
//! backend earns in a round. Everyone starts with enough credit for a turn in the first round,
//! so that no backend is left without an entry, however light.
//!
//! With equal weights the numbers of entries differ by one at most. With others, and `n`
//! backends, a backend's entries are within two of its exact share of the table, and `n`
//! entries' worth of that share: a table a hundred times as long as there are backends is
//! balanced within one percent.
//!
//! The order of the backends decides who takes the earlier turn. Whoever wants the same table
//! from the same backends in any order sorts them first.

/// Most backends that a table can tell apart.
pub const BACKENDS: usize = FREE as usize;

/// Marks an entry that nobody has taken.
const FREE: u16 = u16::MAX;

/// One backend's permutation of the table, and how far its turns have come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Backend {
    offset: u64,
    skip: u64,
    weight: u16,
    next: usize,
    step: usize,
    credit: u32,
}

impl Backend {
    /// A backend with its weight and two independent hashes of its identity, from which the
    /// permutation follows. A weight of 0 takes no turns.
    pub const fn new(offset: u64, skip: u64, weight: u16) -> Self {
        Self { offset, skip, weight, next: 0, step: 0, credit: 0 }
    }

    /// The permutation is `offset + j × skip` modulo the length, for each `j` in turn: all
    /// entries once, as the length is prime and does not divide the skip.
    fn start(&mut self, length: usize, heaviest: u16) {
        self.next = reduce(self.offset, length);
        self.step = reduce(self.skip, length - 1) + 1;
        self.credit = u32::from(heaviest - self.weight);
    }

    /// Whether a turn is due in this round.
    fn earns_turn(&mut self, heaviest: u16) -> bool {
        self.credit += u32::from(self.weight);
        let due = self.weight > 0 && self.credit >= u32::from(heaviest);
        if due {
            self.credit -= u32::from(heaviest);
        }
        due
    }

    /// Takes the first entry of the permutation that is free. There must be one.
    fn take_entry(&mut self, table: &mut [u16], index: u16) {
        loop {
            let entry = self.next;
            self.next = (entry + self.step) % table.len();
            if table[entry] == FREE {
                table[entry] = index;
                return;
            }
        }
    }
}

/// Why a table cannot be populated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PopulateError {
    /// There is no backend, or none that has a weight.
    NoBackends,
    /// More than [`BACKENDS`], or more than the table has entries.
    TooManyBackends,
    /// Permutations would not reach every entry.
    LengthNotPrime,
}

impl core::fmt::Display for PopulateError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::NoBackends => "no backend has a weight",
            Self::TooManyBackends => "more backends than the table can hold",
            Self::LengthNotPrime => "the table's length is not prime",
        })
    }
}

impl core::error::Error for PopulateError {}

/// Fills `table` with indices into `backends`, whose progress starts anew.
///
/// Takes about `M × ln M` steps for a table of `M` entries, and as many more as the heaviest
/// backend outweighs the average.
pub fn populate(table: &mut [u16], backends: &mut [Backend]) -> Result<(), PopulateError> {
    let heaviest = backends.iter().map(|backend| backend.weight).max().unwrap_or(0);
    check(table.len(), backends.len(), heaviest)?;
    table.fill(FREE);
    for backend in backends.iter_mut() {
        backend.start(table.len(), heaviest);
    }
    let mut free = table.len();
    loop {
        for (index, backend) in (0..FREE).zip(backends.iter_mut()) {
            if backend.earns_turn(heaviest) {
                backend.take_entry(table, index);
                free -= 1;
                if free == 0 {
                    return Ok(());
                }
            }
        }
    }
}

fn check(length: usize, backends: usize, heaviest: u16) -> Result<(), PopulateError> {
    if heaviest == 0 {
        Err(PopulateError::NoBackends)
    } else if backends > BACKENDS || backends > length {
        Err(PopulateError::TooManyBackends)
    } else if !is_prime(length) {
        Err(PopulateError::LengthNotPrime)
    } else {
        Ok(())
    }
}

/// The entry that a hash falls on.
#[inline(always)]
pub fn lookup(table: &[u16], hash: u64) -> Option<u16> {
    let length = u64::try_from(table.len()).ok()?;
    let entry = hash.checked_rem(length)?;
    table.get(usize::try_from(entry).ok()?).copied()
}

/// Whether a number is prime, by trial division: a thousand steps for a million.
pub const fn is_prime(number: usize) -> bool {
    let mut divisor = 2;
    while divisor * divisor <= number {
        if number.is_multiple_of(divisor) {
            return false;
        }
        divisor += 1;
    }
    number >= 2
}

#[expect(clippy::cast_possible_truncation, reason = "the remainder is less than a usize")]
const fn reduce(hash: u64, modulus: usize) -> usize {
    (hash % modulus as u64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The table of the paper's experiments (§5.3); a smaller one where many are made.
    const PAPER: usize = 65_537;
    const SMALL: usize = 4_099;

    /// SplitMix64 (Steele et al., OOPSLA 2014): independent hashes for test backends.
    fn mix(seed: u64) -> u64 {
        let mut z = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn backend(identity: u64, weight: u16) -> Backend {
        Backend::new(mix(identity * 2 + 1), mix(identity * 2 + 2), weight)
    }

    fn populated(length: usize, backends: &[Backend]) -> Vec<u16> {
        let mut table = vec![0; length];
        populate(&mut table, &mut backends.to_vec()).unwrap();
        table
    }

    fn entries(table: &[u16], backends: usize) -> Vec<usize> {
        let mut entries = vec![0; backends];
        for index in table {
            entries[usize::from(*index)] += 1;
        }
        entries
    }

    #[test]
    fn the_papers_example_gives_the_papers_table() {
        // The sample of §3.4: offsets 3, 0, 3 and skips 4, 2, 1 over seven entries.
        let backends = [Backend::new(3, 3, 1), Backend::new(0, 1, 1), Backend::new(3, 0, 1)];
        assert_eq!(populated(7, &backends), [1, 0, 1, 0, 2, 2, 0]);
        assert_eq!(populated(7, &[backends[0], backends[2]]), [0, 0, 0, 0, 1, 1, 1]);
    }

    #[test]
    fn a_thousand_backends_are_balanced_within_one_entry() {
        let backends: Vec<_> = (0..1000).map(|n| backend(n, 1)).collect();
        let entries = entries(&populated(PAPER, &backends), 1000);
        let (least, most) = (entries.iter().min().unwrap(), entries.iter().max().unwrap());
        assert_eq!((*least, *most), (PAPER / 1000, PAPER / 1000 + 1));
    }

    #[test]
    fn the_lightest_backend_among_heavy_ones_has_an_entry() {
        let mut backends: Vec<_> = (0..50).map(|n| backend(n, 1000)).collect();
        backends.push(backend(50, 1));
        assert!(entries(&populated(SMALL, &backends), 51)[50] >= 1);
    }

    #[test]
    fn what_cannot_be_populated_is_refused() {
        let cases: [(usize, Vec<Backend>, PopulateError); 5] = [
            (7, vec![], PopulateError::NoBackends),
            (7, vec![backend(1, 0)], PopulateError::NoBackends),
            (3, vec![backend(1, 1); 4], PopulateError::TooManyBackends),
            (8, vec![backend(1, 1)], PopulateError::LengthNotPrime),
            (1, vec![backend(1, 1)], PopulateError::LengthNotPrime),
        ];
        for (length, mut backends, error) in cases {
            let mut table = vec![0; length];
            assert_eq!(populate(&mut table, &mut backends), Err(error));
        }
    }

    #[test]
    fn a_lookup_stays_within_the_table() {
        assert_eq!(lookup(&[], 3), None);
        assert_eq!(lookup(&[4, 5, 6], u64::MAX), Some([4, 5, 6][(u64::MAX % 3) as usize]));
    }

    #[test]
    fn primes_are_told_from_others() {
        let primes: Vec<_> = (0..30).filter(|n| is_prime(*n)).collect();
        assert_eq!(primes, [2, 3, 5, 7, 11, 13, 17, 19, 23, 29]);
        assert!(is_prime(PAPER) && is_prime(SMALL) && !is_prime(PAPER * SMALL));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn equal_weights_differ_by_one_entry_at_most(
            identities in proptest::collection::hash_set(any::<u32>(), 1..40), weight in 1..1000u16,
        ) {
            let backends: Vec<_> =
                identities.iter().map(|n| backend(u64::from(*n), weight)).collect();
            let entries = entries(&populated(SMALL, &backends), backends.len());
            prop_assert!(entries.iter().max().unwrap() - entries.iter().min().unwrap() <= 1);
        }

        #[test]
        fn entries_follow_the_weights(weights in proptest::collection::vec(1..=20u16, 1..40)) {
            let backends: Vec<_> =
                (0..).zip(&weights).map(|(n, weight)| backend(n, *weight)).collect();
            let total: f64 = weights.iter().map(|w| f64::from(*w)).sum();
            for (entries, weight) in
                entries(&populated(SMALL, &backends), backends.len()).iter().zip(&weights)
            {
                let share = f64::from(*weight) / total;
                let exact = share * SMALL as f64;
                let bound = 2.0 + share * backends.len() as f64;
                prop_assert!((*entries as f64 - exact).abs() <= bound, "{entries} for {exact}");
            }
        }

        #[test]
        fn a_removal_moves_few_entries_of_others(
            count in 2..40u64, removed in any::<prop::sample::Index>(),
        ) {
            let mut backends: Vec<_> = (0..count).map(|n| backend(n, 1)).collect();
            let before = populated(SMALL, &backends);
            let gone = removed.index(backends.len());
            backends.remove(gone);
            let after = populated(SMALL, &backends);
            let moved = before.iter().zip(&after).filter(|(old, new)| {
                let old = usize::from(**old);
                old != gone && old - usize::from(old > gone) != usize::from(**new)
            });
            // Besides the removed backend's own entries, which must move. §5.3 measures the same.
            prop_assert!(moved.count() * 20 <= SMALL);
        }
    }
}
