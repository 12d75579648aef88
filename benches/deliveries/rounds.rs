//! A figure that was measured several times.

/// What each round has come to.
#[derive(Debug, Clone, Default)]
pub(super) struct Rounds(Vec<f64>);

impl Rounds {
    /// Notes a round.
    pub(super) fn note(&mut self, value: f64) {
        self.0.push(value);
        self.0.sort_unstable_by(f64::total_cmp);
    }

    /// The middle one; of an even number the upper of the two.
    pub(super) fn middle(&self) -> f64 {
        self.0.get(self.0.len() / 2).copied().unwrap_or(f64::NAN)
    }

    /// The lowest and the highest, if there is more than one.
    pub(super) fn range(&self) -> Option<(f64, f64)> {
        match &self.0[..] {
            [lowest, .., highest] => Some((*lowest, *highest)),
            _ => None,
        }
    }
}
