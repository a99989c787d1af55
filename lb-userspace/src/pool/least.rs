//! The server with the lowest of something.

/// Where a worker begins to look, so that equals take turns.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rotation(usize);

impl Rotation {
    pub fn new(worker: usize) -> Self {
        Self(worker)
    }

    /// The usable one of the lowest score; of equals, the first from where the last search ended.
    pub fn least(
        &mut self,
        count: usize,
        usable: impl Fn(usize) -> bool,
        score: impl Fn(usize) -> f64,
    ) -> Option<usize> {
        let start = self.0 % count.max(1);
        let mut best: Option<(f64, usize)> = None;
        for index in (start..count).chain(0..start).filter(|index| usable(*index)) {
            let score = score(index);
            if best.is_none_or(|(least, _)| score < least) {
                best = Some((score, index));
            }
        }
        let (_, picked) = best?;
        self.0 = picked + 1;
        Some(picked)
    }
}
