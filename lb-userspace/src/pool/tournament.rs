//! Scores of a pool's servers in a tree, in which the lower of two goes up: the lowest of all is at
//! the top, and a server is found without asking the others.

/// A score by index. Setting one and finding one take time logarithmic in their number.
#[derive(Clone, Debug)]
pub(super) struct Tournament {
    /// The lowest score of the two nodes below, which are those of twice the position and the next;
    /// the second half are the scores themselves. The top is at 1.
    nodes: Vec<f64>,
}

/// The score of a server that does not take part.
pub(super) const OUT: f64 = f64::INFINITY;

impl Tournament {
    /// Nobody takes part yet.
    pub fn new(count: usize) -> Self {
        Self { nodes: vec![OUT; 2 * count.next_power_of_two()] }
    }

    /// # Panics
    ///
    /// If the tree was made for fewer.
    pub fn set(&mut self, index: usize, score: f64) {
        let mut node = self.leaves() + index;
        self.nodes[node] = score;
        while node > 1 {
            node /= 2;
            let lower = self.nodes[2 * node].min(self.nodes[2 * node + 1]);
            if self.nodes[node] == lower {
                return;
            }
            self.nodes[node] = lower;
        }
    }

    /// The lowest score; [`OUT`] if nobody takes part.
    pub fn lowest(&self) -> f64 {
        self.nodes[1]
    }

    /// Who has the lowest score; of equals the first from `start` on, and around.
    pub fn first_lowest(&self, start: usize) -> Option<usize> {
        let lowest = self.lowest();
        let has_it = |score| score <= lowest;
        let found = || self.first(start, has_it).or_else(|| self.first(0, has_it));
        (lowest < OUT).then(found).flatten()
    }

    /// The first from `start` on whose score is accepted, as every lower one must be too.
    pub fn first(&self, start: usize, accepts: impl Fn(f64) -> bool) -> Option<usize> {
        let leaves = self.leaves();
        let mut node = leaves + start;
        while !accepts(*self.nodes.get(node)?) {
            // Up from all that end here, then to the next on the right; there is none of the top.
            node >>= node.trailing_ones();
            if node == 0 {
                return None;
            }
            node += 1;
        }
        while node < leaves {
            node *= 2;
            node += usize::from(!accepts(self.nodes[node]));
        }
        Some(node - leaves)
    }

    fn leaves(&self) -> usize {
        self.nodes.len() / 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn of_nobody_nobody_is_found() {
        for count in [0, 1, 5] {
            let tree = Tournament::new(count);
            assert_eq!((tree.first_lowest(0), tree.lowest()), (None, OUT), "{count}");
        }
    }

    proptest! {
        #[test]
        fn who_is_found_is_whom_a_search_finds(
            count in 1..40usize,
            steps in prop::collection::vec((any::<prop::sample::Index>(), 0..6u8), 1..60),
            start in any::<prop::sample::Index>(),
            bound in 0..6u8,
        ) {
            let (mut tree, mut scores) = (Tournament::new(count), vec![OUT; count]);
            let start = start.index(count);
            for (index, score) in steps {
                let score = if score == 0 { OUT } else { f64::from(score) };
                tree.set(index.index(count), score);
                scores[index.index(count)] = score;
                let lowest = scores.iter().copied().fold(OUT, f64::min);
                let mut around = (start..count).chain(0..start);
                let expected = around.find(|it| scores[*it] == lowest && lowest < OUT);
                prop_assert_eq!(tree.first_lowest(start), expected);
                let accepts = |score: f64| score < f64::from(bound);
                let expected = (start..count).find(|it| accepts(scores[*it]));
                prop_assert_eq!(tree.first(start, accepts), expected);
            }
        }
    }
}
