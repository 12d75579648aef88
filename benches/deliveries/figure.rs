//! A measured figure with its floor and its target.

use serde::Serialize;

use super::rounds::Rounds;

/// A figure that the benchmark reports.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Figure {
    pub(super) name: &'static str,
    /// Median of the rounds.
    pub(super) value: f64,
    pub(super) unit: &'static str,
    /// Minimum and maximum of the rounds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) rounds: Option<(f64, f64)>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub(super) floor: Option<Floor>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub(super) verdict: Option<Verdict>,
}

/// The cost of less work in the same run, in the same unit: a lower bound for the figure.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Floor {
    #[serde(rename = "floor")]
    pub(super) value: f64,
    #[serde(rename = "floor_of")]
    pub(super) of: &'static str,
}

/// The target of a figure.
#[derive(Debug, Clone, Copy)]
pub(super) enum Target {
    /// At most this value.
    Max(f64),
    /// At most this factor times the floor.
    MaxTimesFloor(f64),
    /// At least this factor times the floor.
    MinTimesFloor(f64),
    /// At most this much above the floor.
    MaxAboveFloor(f64),
}

/// A target, and whether the figure meets it.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Verdict {
    /// The target as text.
    pub(super) target: String,
    /// The value that is compared with the target.
    pub(super) compared: f64,
    pub(super) met: bool,
}

impl Figure {
    /// A figure from several rounds.
    pub(super) fn of(name: &'static str, rounds: &Rounds, unit: &'static str) -> Self {
        let (value, rounds) = (rounds.median(), rounds.range());
        Self { name, value, unit, rounds, floor: None, verdict: None }
    }

    /// A figure that was measured once.
    pub(super) fn once(name: &'static str, value: f64, unit: &'static str) -> Self {
        Self { name, value, unit, rounds: None, floor: None, verdict: None }
    }

    pub(super) fn count(name: &'static str, count: usize) -> Self {
        Self::once(name, super::to_f64(count), "")
    }

    /// Adds the floor.
    pub(super) fn with_floor(self, value: f64, of: &'static str) -> Self {
        Self { floor: Some(Floor { value, of }), ..self }
    }

    /// Compares the median with a target.
    pub(super) fn with_target(self, target: Target) -> Self {
        let floor = self.floor.map_or(f64::NAN, |floor| floor.value);
        let compared = match target {
            Target::Max(_) => self.value,
            Target::MaxTimesFloor(_) | Target::MinTimesFloor(_) => self.value / floor,
            Target::MaxAboveFloor(_) => self.value - floor,
        };
        self.judge(target, compared)
    }

    /// Compares the median of other values, one per round, with a target.
    pub(super) fn with_target_for(self, target: Target, compared: &Rounds) -> Self {
        self.judge(target, compared.median())
    }

    fn judge(self, target: Target, compared: f64) -> Self {
        let unit = self.unit;
        let (met, target) = match target {
            Target::Max(max) => (compared <= max, format!("at most {max} {unit}")),
            Target::MaxTimesFloor(max) => (compared <= max, format!("at most {max} x floor")),
            Target::MinTimesFloor(min) => (compared >= min, format!("at least {min} x floor")),
            Target::MaxAboveFloor(max) => {
                (compared <= max, format!("at most {max} {unit} above floor"))
            }
        };
        Self { verdict: Some(Verdict { target, compared, met }), ..self }
    }
}
