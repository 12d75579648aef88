//! The values of a figure that is measured in several rounds.

/// The values of all rounds.
#[derive(Debug, Clone, Default)]
pub(super) struct Rounds(Vec<f64>);

impl Rounds {
    /// Adds the value of a round.
    pub(super) fn record(&mut self, value: f64) {
        self.0.push(value);
        self.0.sort_unstable_by(f64::total_cmp);
    }

    /// Median; the upper one for an even number of rounds.
    pub(super) fn median(&self) -> f64 {
        self.0.get(self.0.len() / 2).copied().unwrap_or(f64::NAN)
    }

    /// Minimum and maximum, if there are several rounds.
    pub(super) fn range(&self) -> Option<(f64, f64)> {
        match &self.0[..] {
            [min, .., max] => Some((*min, *max)),
            _ => None,
        }
    }
}
