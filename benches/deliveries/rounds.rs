//! A figure that is measured several times.

/// The values of all rounds.
#[derive(Debug, Clone, Default)]
pub(super) struct Rounds(Vec<f64>);

impl Rounds {
    pub(super) fn note(&mut self, value: f64) {
        self.0.push(value);
        self.0.sort_unstable_by(f64::total_cmp);
    }

    /// Median; the upper one for an even number of rounds.
    pub(super) fn middle(&self) -> f64 {
        self.0.get(self.0.len() / 2).copied().unwrap_or(f64::NAN)
    }

    /// Minimum and maximum, if there are several rounds.
    pub(super) fn range(&self) -> Option<(f64, f64)> {
        match &self.0[..] {
            [lowest, .., highest] => Some((*lowest, *highest)),
            _ => None,
        }
    }
}
