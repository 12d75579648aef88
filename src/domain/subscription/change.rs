//! Changes of subscriptions with what their log entries say.

use bytes::Bytes;
use uuid::Uuid;

use super::verification::Verified;
use super::view::SubscriptionView;
use super::{Status, Subscription};
use crate::domain::access::audit::{Actor, AuditEntry};
use crate::domain::access::idempotency::RequestKey;
use crate::domain::event::event_type::EventType;
use crate::domain::position::Position;
use crate::domain::time::UnixMillis;

/// A change of one subscription, to be made if nothing else changed it meanwhile.
#[derive(Debug, Clone)]
pub struct Change {
    /// The subscription as it shall be; its `changed_at` is given by the log.
    pub subscription: Subscription,
    /// Whether it shall be no more.
    pub deleted: bool,
    /// The entry's type, one of `hookhub.subscription.*`.
    pub entry_type: EventType,
    /// What the entry says.
    pub entry_data: Bytes,
    /// The `changed_at` that the change starts out from; `None` for a new subscription.
    pub expected: Option<Position>,
    /// How many its tenant may have, for a new subscription.
    pub most: Option<u32>,
    /// Where a new subscription's history begins; `None`: with its own entry.
    pub starts_after: Option<Position>,
    /// For repeats.
    pub key: Option<RequestKey>,
}

/// What became of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Changed {
    /// It is made; its entry is at `position`.
    Made {
        /// The entry's position: the change is in force for every event above.
        position: Position,
        /// The position given out last before it; `None` when unknown.
        previous: Option<Position>,
    },
    /// Something else changed the subscription, or deleted it.
    Stale,
    /// It is not made: its tenant has as many as it may have.
    NoRoom,
    /// It repeats a request whose entry is at `position`.
    Replayed {
        /// The first request's entry.
        position: Position,
        /// The first request's fingerprint.
        fingerprint: Vec<u8>,
    },
}

/// A new subscription of a tenant that may have `most`. `starts_after`: where its history begins, if not with its own
/// entry.
pub fn created(
    subscription: Subscription,
    most: u32,
    starts_after: Option<Position>,
    key: Option<RequestKey>,
) -> Change {
    Change {
        most: Some(most),
        starts_after,
        key,
        expected: None,
        ..changed("subscription.created", subscription)
    }
}

/// What its owner says of it is now what `subscription` says.
pub fn updated(subscription: Subscription) -> Change {
    changed("subscription.updated", subscription)
}

/// It is signed by new keys.
pub fn secret_rotated(subscription: Subscription) -> Change {
    changed("subscription.secret_rotated", subscription)
}

/// It is no more.
pub fn deleted(subscription: Subscription) -> Change {
    Change { deleted: true, ..changed("subscription.deleted", subscription) }
}

/// Its owner stops it.
pub fn paused(subscription: Subscription) -> Change {
    changed("subscription.paused", Subscription { status: Status::Paused, ..subscription })
}

/// Its owner lets it go on.
pub fn resumed(subscription: Subscription) -> Change {
    changed(
        "subscription.resumed",
        Subscription {
            status: subscription.definition.running_status(),
            disabled_reason: None,
            ..subscription
        },
    )
}

/// The receiver is verified. A subscription that was stopped meanwhile stays stopped.
pub fn verified(mut subscription: Subscription, verified: Verified) -> Change {
    if let Some(verification) = subscription.definition.channel.verification_mut() {
        verification.verified = Some(verified);
    }
    if subscription.status == Status::Unverified {
        subscription.status = Status::Active;
    }
    changed("subscription.verified", subscription)
}

/// Its receiver takes nothing: it is tried now and then.
pub fn failing(subscription: Subscription) -> Change {
    changed("subscription.failing", Subscription { status: Status::Failing, ..subscription })
}

/// Its receiver takes events again.
pub fn recovered(subscription: Subscription) -> Change {
    changed("subscription.recovered", Subscription { status: Status::Active, ..subscription })
}

/// The hub stops it, for `reason`.
pub fn disabled(subscription: Subscription, reason: &str) -> Change {
    let disabled_reason = Some(reason.to_owned());
    changed(
        "subscription.disabled",
        Subscription { status: Status::Disabled, disabled_reason, ..subscription },
    )
}

/// What the audit log says of a change that `by` makes of what was `before`.
pub(crate) fn audited(
    change: &Change,
    before: Option<&Subscription>,
    by: &Actor,
    token: Uuid,
) -> AuditEntry {
    let subscription = &change.subscription;
    let (_, action) = change.entry_type.as_str().split_once('.').unwrap_or_default();
    AuditEntry::new((UnixMillis::now(), token), by, &subscription.tenant, action, &subscription.id)
        .with_subscription(before, (!change.deleted).then_some(subscription))
}

fn changed(name: &'static str, subscription: Subscription) -> Change {
    let view = serde_json::json!({ "subscription": SubscriptionView::in_entry(&subscription) });
    Change {
        entry_type: EventType::operational(name),
        entry_data: Bytes::from(view.to_string()),
        expected: Some(subscription.changed_at),
        most: None,
        deleted: false,
        starts_after: None,
        key: None,
        subscription,
    }
}
