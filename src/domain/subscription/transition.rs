//! Changes of a subscription's status that its receiver causes.

use super::change;
use super::change::Change;
use super::verification::Verified;
use super::{Status, Subscription};

/// The disabled reason after a 410. The subscription's owner sees the text.
pub(crate) const GONE_REASON: &str = "the receiver answered 410 Gone";

/// A change of status, by its cause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum StatusTransition {
    /// Several attempts in a row have failed, so the circuit breaker is open.
    Failing,
    /// A delivery has succeeded after [`Self::Failing`].
    Recovered,
    /// The receiver answered 410 Gone.
    Gone,
    /// The circuit breaker has been open for longer than the retry schedule's `give_up_after`.
    GivenUp,
    /// The receiver has confirmed that it wants the events.
    Verified(Verified),
}

impl StatusTransition {
    /// Builds the change of `current`, the stored subscription. Call this only if [`Self::applies_to`] returns true.
    pub(crate) fn change(&self, current: Subscription) -> Change {
        match self {
            Self::Failing => change::failing(current),
            Self::Recovered => change::recovered(current),
            Self::Gone => change::disabled(current, GONE_REASON),
            Self::GivenUp => {
                change::disabled(current, "no delivery succeeded within give_up_after_s")
            }
            Self::Verified(verified) => change::verified(current, verified.clone()),
        }
    }

    /// Whether `current`, the stored subscription, is in a state from which this transition is possible.
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
