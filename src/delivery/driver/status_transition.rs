//! Turns in a subscription's life that its receiver brings about: made as changes of the subscription, with an entry in
//! the log.

use std::sync::Arc;

use crate::domain::access::audit::Actor;
use crate::domain::delivery::retry_schedule::reconnect_waits;
use crate::domain::subscription::change;
use crate::domain::subscription::verification::Consent;
use crate::domain::subscription::{Status, Subscription};
use crate::log::Log;
use crate::store::Store;
use crate::store::subscriptions::{Change, Changed};

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
    Verified(Consent),
}

impl Turn {
    /// Whether the subscription is stopped by it.
    pub(crate) fn is_end(&self) -> bool {
        matches!(self, Self::Gone | Self::GivenUp)
    }

    fn change(&self, current: Subscription) -> Change {
        match self {
            Self::Failing => change::failing(current),
            Self::Recovered => change::recovered(current),
            Self::Gone => change::disabled(current, "the receiver answered 410 Gone"),
            Self::GivenUp => change::disabled(
                current,
                "the receiver took nothing for as long as deliveries are tried",
            ),
            Self::Verified(consent) => change::verified(current, consent.clone()),
        }
    }

    /// Whether it still applies to a subscription as it stands.
    fn applies_to(&self, current: &Subscription) -> bool {
        let status = current.status;
        match self {
            Self::Failing => status == Status::Active,
            Self::Recovered => status == Status::Failing,
            Self::Gone => status.is_tried() || status == Status::Unverified,
            Self::GivenUp => status.is_tried(),
            Self::Verified(_) => current.definition.awaits_consent(),
        }
    }
}

impl Turn {
    fn log(&self, subscription: &Subscription) {
        let id = subscription.id;
        match self {
            Self::Verified(consent) => {
                let (origin, rate) = (consent.origin.as_deref(), consent.rate_per_minute);
                tracing::info!(subscription = %id, origin, rate, "a receiver has agreed to what it will be sent");
            }
            turn => {
                tracing::warn!(subscription = %id, ?turn, "a subscription's status has changed");
            }
        }
    }
}

/// Makes the change, unless its owner has stopped the subscription, deleted it or pointed it elsewhere meanwhile.
pub(crate) async fn make(log: Log, store: Store, subscription: Arc<Subscription>, turn: Turn) {
    let mut current = (*subscription).clone();
    for wait in reconnect_waits() {
        if !turn.applies_to(&current) {
            return;
        }
        match log.change(&turn.change(current.clone()), Some(&current), &Actor::hub()).await {
            Ok(Changed::Made { .. } | Changed::Replayed { .. }) => {
                turn.log(&current);
                return;
            }
            Ok(Changed::Stale | Changed::NoRoom) => {
                match store.subscription(&current.tenant, current.id).await {
                    Ok(Some(newer))
                        if newer.definition.has_same_receiver(&subscription.definition) =>
                    {
                        current = newer;
                    }
                    Ok(_) => return,
                    Err(error) => {
                        tracing::warn!(%error, subscription = %current.id, "cannot look a subscription up");
                    }
                }
            }
            Err(error) => {
                tracing::warn!(%error, subscription = %current.id, "cannot change a subscription's status");
            }
        }
        tokio::time::sleep(wait).await;
    }
}
