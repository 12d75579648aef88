//! Changes of subscriptions, each with its log entry.

use bytes::Bytes;
use uuid::Uuid;

use super::verification::Verified;
use super::view::SubscriptionView;
use super::{Status, Subscription};
use crate::domain::access::audit::{Action, Actor, AuditEntry};
use crate::domain::access::idempotency::RequestKey;
use crate::domain::event::event_type::EventType;
use crate::domain::position::Position;
use crate::domain::time::UnixMillis;

/// A change of one subscription. It applies only if nothing else changed the subscription meanwhile.
#[derive(Debug, Clone)]
pub struct Change {
    /// The subscription after the change. The log sets its `changed_at`.
    pub subscription: Subscription,
    pub deleted: bool,
    /// One of `hookhub.subscription.*`.
    pub entry_type: EventType,
    /// The JSON data of the log entry.
    pub entry_data: Bytes,
    /// The `changed_at` of the subscription before the change; `None` for a new subscription.
    pub expected: Option<Position>,
    /// The tenant's quota, for a new subscription.
    pub max_subscriptions: Option<u32>,
    /// Where the history of a new subscription begins. `None`: with its own entry.
    pub starts_after: Option<Position>,
    /// Identifies a repeated request.
    pub key: Option<RequestKey>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChangeResult {
    Applied {
        /// The entry's position: the change is in force for every later event.
        position: Position,
        /// The position assigned immediately before, if known.
        previous: Option<Position>,
    },
    /// Something else changed or deleted the subscription first.
    Stale,
    /// The tenant already has as many subscriptions as its quota allows.
    QuotaExceeded,
    /// The request repeats an earlier one.
    Replayed {
        /// The entry of the first request.
        position: Position,
        /// The fingerprint of the first request.
        fingerprint: Vec<u8>,
    },
}

/// `starts_after` and `key` are as in [`Change`]. The store rejects the change if the tenant already has
/// `max_subscriptions`.
pub fn created(
    subscription: Subscription,
    max_subscriptions: u32,
    starts_after: Option<Position>,
    key: Option<RequestKey>,
) -> Change {
    Change {
        max_subscriptions: Some(max_subscriptions),
        starts_after,
        key,
        expected: None,
        ..changed("subscription.created", subscription)
    }
}

/// Builds the change that replaces the stored definition and status by those of `subscription`.
pub fn updated(subscription: Subscription) -> Change {
    changed("subscription.updated", subscription)
}

/// Builds the change that stores the new signing keys which `subscription` already contains.
pub fn secret_rotated(subscription: Subscription) -> Change {
    changed("subscription.secret_rotated", subscription)
}

pub fn deleted(subscription: Subscription) -> Change {
    Change { deleted: true, ..changed("subscription.deleted", subscription) }
}

pub fn paused(subscription: Subscription) -> Change {
    changed("subscription.paused", Subscription { status: Status::Paused, ..subscription })
}

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

/// An unverified subscription becomes active; one with another status keeps it.
pub fn verified(mut subscription: Subscription, verified: Verified) -> Change {
    if let Some(verification) = subscription.definition.channel.verification_mut() {
        verification.verified = Some(verified);
    }
    if subscription.status == Status::Unverified {
        subscription.status = Status::Active;
    }
    changed("subscription.verified", subscription)
}

/// Builds the change from active to failing: the receiver accepts no event, so the hub only probes it now and then.
pub fn failing(subscription: Subscription) -> Change {
    changed("subscription.failing", Subscription { status: Status::Failing, ..subscription })
}

/// Builds the change from the status failing back to active, because the receiver accepts events again.
pub fn recovered(subscription: Subscription) -> Change {
    changed("subscription.recovered", Subscription { status: Status::Active, ..subscription })
}

/// Builds the change by which the hub itself stops the subscription. The subscription shows the `reason` to its owner.
pub fn disabled(subscription: Subscription, reason: &str) -> Change {
    let disabled_reason = Some(reason.to_owned());
    changed(
        "subscription.disabled",
        Subscription { status: Status::Disabled, disabled_reason, ..subscription },
    )
}

/// `before`: the subscription before the change; `None`: it did not exist. The store keeps one entry per `token`.
pub(crate) fn audit_entry(
    change: &Change,
    before: Option<&Subscription>,
    actor: &Actor,
    token: Uuid,
    now: UnixMillis,
) -> AuditEntry {
    let subscription = &change.subscription;
    let (_, name) = change.entry_type.as_str().split_once('.').unwrap_or_default();
    let target = subscription.id.to_string();
    let action = Action { tenant: &subscription.tenant, name, target };
    AuditEntry::new(now, token, actor, action)
        .with_subscription(before, (!change.deleted).then_some(subscription))
}

/// Builds a change with an entry of the type `hookhub.{name}`. It expects that `subscription.changed_at` is still the
/// latest change.
fn changed(name: &'static str, subscription: Subscription) -> Change {
    let view = serde_json::json!({ "subscription": SubscriptionView::in_entry(&subscription) });
    Change {
        entry_type: EventType::operational(name),
        entry_data: Bytes::from(view.to_string()),
        expected: Some(subscription.changed_at),
        max_subscriptions: None,
        deleted: false,
        starts_after: None,
        key: None,
        subscription,
    }
}
