//! Changes of status that a receiver brings about.

use super::change;
use super::change::Change;
use super::verification::Verified;
use super::{Status, Subscription};

/// What the receiver brings about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Turn {
    /// It has taken nothing for a run of attempts.
    Failing,
    /// After that it has taken something again.
    Recovered,
    /// It answered 410 Gone.
    Gone,
    /// It has taken nothing for as long as deliveries are tried.
    GivenUp,
    /// It has agreed to what it will be sent.
    Verified(Verified),
}

impl Turn {
    /// Whether the subscription is stopped by it.
    pub(crate) fn is_end(&self) -> bool {
        matches!(self, Self::Gone | Self::GivenUp)
    }

    /// The change it makes of a subscription as it stands.
    pub(crate) fn change(&self, current: Subscription) -> Change {
        match self {
            Self::Failing => change::failing(current),
            Self::Recovered => change::recovered(current),
            Self::Gone => change::disabled(current, "the receiver answered 410 Gone"),
            Self::GivenUp => change::disabled(
                current,
                "the receiver took nothing for as long as deliveries are tried",
            ),
            Self::Verified(verified) => change::verified(current, verified.clone()),
        }
    }

    /// Whether it still applies to a subscription as it stands.
    pub(crate) fn applies_to(&self, current: &Subscription) -> bool {
        let status = current.status;
        match self {
            Self::Failing => status == Status::Active,
            Self::Recovered => status == Status::Failing,
            Self::Gone => status.is_delivering() || status == Status::Unverified,
            Self::GivenUp => status.is_delivering(),
            Self::Verified(_) => current.definition.awaits_verification(),
        }
    }
}
