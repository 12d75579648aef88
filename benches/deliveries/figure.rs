//! A measured figure with its floor and its target.

use serde::Serialize;

use super::rounds::Rounds;

/// A measured figure.
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
    pub(super) judged: Option<Judged>,
}

/// A comparison value from the same run, in the same unit, for less work.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Floor {
    #[serde(rename = "floor")]
    pub(super) value: f64,
    #[serde(rename = "floor_of")]
    pub(super) of: &'static str,
}

/// The target of a figure.
#[derive(Debug, Clone, Copy)]
pub(super) enum Bar {
    /// At most this value.
    Most(f64),
    /// At most this factor times the floor.
    MostTimes(f64),
    /// At least this factor times the floor.
    LeastTimes(f64),
    /// At most this much above the floor.
    MostAbove(f64),
}

/// A target and the result.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Judged {
    /// The target as text.
    pub(super) bar: String,
    /// The value that is compared with the target.
    pub(super) stands: f64,
    pub(super) met: bool,
}

impl Figure {
    /// A figure from several rounds.
    pub(super) fn of(name: &'static str, rounds: &Rounds, unit: &'static str) -> Self {
        let (value, rounds) = (rounds.middle(), rounds.range());
        Self { name, value, unit, rounds, floor: None, judged: None }
    }

    /// A figure that was measured once.
    pub(super) fn once(name: &'static str, value: f64, unit: &'static str) -> Self {
        Self { name, value, unit, rounds: None, floor: None, judged: None }
    }

    pub(super) fn count(name: &'static str, count: usize) -> Self {
        Self::once(name, super::to_f64(count), "")
    }

    /// Adds the floor.
    pub(super) fn beside(self, value: f64, of: &'static str) -> Self {
        Self { floor: Some(Floor { value, of }), ..self }
    }

    /// Compares the median with a target.
    pub(super) fn held_to(self, bar: Bar) -> Self {
        let floor = self.floor.map_or(f64::NAN, |floor| floor.value);
        let stands = match bar {
            Bar::Most(_) => self.value,
            Bar::MostTimes(_) | Bar::LeastTimes(_) => self.value / floor,
            Bar::MostAbove(_) => self.value - floor,
        };
        self.judged(bar, stands)
    }

    /// Compares the median of the per-round values with a target.
    pub(super) fn held_to_each(self, bar: Bar, stands: &Rounds) -> Self {
        self.judged(bar, stands.middle())
    }

    fn judged(self, bar: Bar, stands: f64) -> Self {
        let unit = self.unit;
        let (met, bar) = match bar {
            Bar::Most(most) => (stands <= most, format!("at most {most} {unit}")),
            Bar::MostTimes(most) => (stands <= most, format!("at most {most} x")),
            Bar::LeastTimes(least) => (stands >= least, format!("at least {least} x")),
            Bar::MostAbove(most) => (stands <= most, format!("at most {most} {unit} more")),
        };
        Self { judged: Some(Judged { bar, stands, met }), ..self }
    }
}
