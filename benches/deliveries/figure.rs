//! A figure, with the floor it stands on and the bar it is held to.

use serde::Serialize;

use super::rounds::Rounds;

/// What was measured.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Figure {
    /// Of what.
    pub(super) name: &'static str,
    /// The middle of the rounds.
    pub(super) value: f64,
    /// In what.
    pub(super) unit: &'static str,
    /// The lowest and the highest round.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) rounds: Option<(f64, f64)>,
    /// What it stands beside.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub(super) floor: Option<Floor>,
    /// What it should be.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub(super) judged: Option<Judged>,
}

/// What was measured of less work in the same run, in the same unit.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Floor {
    /// So much.
    #[serde(rename = "floor")]
    pub(super) value: f64,
    /// Of what.
    #[serde(rename = "floor_of")]
    pub(super) of: &'static str,
}

/// What a figure should be.
#[derive(Debug, Clone, Copy)]
pub(super) enum Bar {
    /// At most this.
    Most(f64),
    /// At most so many times the floor.
    MostTimes(f64),
    /// At least so many times the floor.
    LeastTimes(f64),
    /// At most so much above the floor.
    MostAbove(f64),
}

/// A bar, and how the figure stands to it.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Judged {
    /// The bar in words.
    pub(super) bar: String,
    /// The figure as the bar measures it.
    pub(super) stands: f64,
    /// Whether it is good enough.
    pub(super) met: bool,
}

impl Figure {
    /// What was measured in each round.
    pub(super) fn of(name: &'static str, rounds: &Rounds, unit: &'static str) -> Self {
        let (value, rounds) = (rounds.middle(), rounds.range());
        Self { name, value, unit, rounds, floor: None, judged: None }
    }

    /// What was measured once.
    pub(super) fn once(name: &'static str, value: f64, unit: &'static str) -> Self {
        Self { name, value, unit, rounds: None, floor: None, judged: None }
    }

    /// A count.
    pub(super) fn count(name: &'static str, count: usize) -> Self {
        Self::once(name, super::to_f64(count), "")
    }

    /// Puts it beside its floor.
    pub(super) fn beside(self, value: f64, of: &'static str) -> Self {
        Self { floor: Some(Floor { value, of }), ..self }
    }

    /// Holds the middle to a bar.
    pub(super) fn held_to(self, bar: Bar) -> Self {
        let floor = self.floor.map_or(f64::NAN, |floor| floor.value);
        let stands = match bar {
            Bar::Most(_) => self.value,
            Bar::MostTimes(_) | Bar::LeastTimes(_) => self.value / floor,
            Bar::MostAbove(_) => self.value - floor,
        };
        self.judged(bar, stands)
    }

    /// Holds what each round came to, beside the floor of that round, to a bar.
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
