//! Subscriptions: which events an owner wants, and the channel that brings them.

pub mod change;
pub mod channel;
pub mod command;
pub mod gap;
mod stored;
pub mod transition;
pub mod verification;
pub mod version;
pub mod view;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use strum::{EnumString, IntoStaticStr};

use self::channel::{Channel, DeliverySettings};
use self::stored::StoredDefinition;
use self::verification::Verified;
use super::delivery::shard::shard_of;
use super::event::event_type::Pattern;
use super::id::SubscriptionId;
use super::position::Position;
use super::signing::Signing;
use super::time::UnixMillis;

/// The type of the event that an owner sends to one subscription to test it.
pub const TEST_EVENT: &str = "hookhub.test";

/// The owner's part of a subscription. It contains secrets: serialise it only into the hub's own storage.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "StoredDefinition", into = "StoredDefinition")]
pub struct Definition {
    /// Never empty.
    pub event_types: Vec<Pattern>,
    pub channel: Channel,
    pub description: Option<String>,
    /// The owner's own data. The hub only keeps them.
    pub metadata: BTreeMap<String, String>,
}

impl fmt::Debug for Definition {
    /// Writes the event types and the channel, without secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Definition")
            .field("event_types", &self.event_types)
            .field("channel", &self.channel)
            .finish_non_exhaustive()
    }
}

impl Definition {
    /// Returns the settings for order, concurrency, timeout and retries. They have no effect in a pull subscription.
    pub fn delivery(&self) -> &DeliverySettings {
        &self.channel.settings().delivery
    }

    /// Returns the keys and schemes that sign deliveries. They have no effect in a pull subscription.
    pub fn signing(&self) -> &Signing {
        &self.channel.settings().signing
    }

    /// Returns this definition with `signing` in place of its signing keys and schemes.
    #[must_use]
    pub fn signed_by(mut self, signing: Signing) -> Self {
        self.channel.settings_mut().signing = signing;
        self
    }

    pub fn drop_expired_keys(&mut self, now: UnixMillis) {
        self.channel.settings_mut().signing.drop_expired(now);
    }

    /// The result of the verification. `None`: it has not succeeded yet, or none is required.
    pub fn verified(&self) -> Option<&Verified> {
        self.channel.verification()?.verified.as_ref()
    }

    /// Whether the receiver must be verified before it gets events, and is not verified yet.
    pub fn awaits_verification(&self) -> bool {
        self.channel.verification().is_some_and(|verification| verification.verified.is_none())
    }

    /// The status of a subscription that is neither stopped nor failing: unverified while
    /// [`Self::awaits_verification`], else active.
    pub fn running_status(&self) -> Status {
        if self.awaits_verification() { Status::Unverified } else { Status::Active }
    }

    /// Whether both have the same receiver and the same verification of it, or none. Then a result for one applies to
    /// the other.
    pub fn has_same_verification(&self, other: &Self) -> bool {
        let request = |definition: &Self| {
            let verification = definition.channel.verification();
            verification.map(|verification| (verification.method, verification.requested_at))
        };
        self.channel.has_same_receiver(&other.channel) && request(self) == request(other)
    }

    /// Takes over the verification of `former` and its result if receiver and method stay the same.
    #[must_use]
    pub fn replacing(mut self, former: &Self) -> Self {
        let is_same_receiver = self.channel.has_same_receiver(&former.channel);
        if let (Some(new), Some(old)) =
            (self.channel.verification_mut(), former.channel.verification())
            && is_same_receiver
            && new.method == old.method
        {
            new.clone_from(old);
        }
        self
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EnumString, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Status {
    /// The subscription gets its events.
    Active,
    /// The receiver accepts nothing. The hub probes it now and then; the cursor stands still.
    Failing,
    /// Stopped by the owner; the cursor stands still.
    Paused,
    /// Stopped by the hub; the cursor stands still.
    Disabled,
    /// The receiver is not verified yet; the cursor stands still.
    Unverified,
}

impl Status {
    /// Returns the name of the status in JSON and SQL.
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// Whether the hub attempts deliveries to a subscription with this status.
    pub fn is_delivering(self) -> bool {
        match self {
            Self::Active | Self::Failing => true,
            Self::Paused | Self::Disabled | Self::Unverified => false,
        }
    }
}

/// A subscription at one point of its history.
#[derive(Debug, Clone)]
pub struct Subscription {
    pub id: SubscriptionId,
    pub tenant: Arc<str>,
    pub definition: Definition,
    pub status: Status,
    /// Why the hub stopped the subscription.
    pub disabled_reason: Option<String>,
    /// The log entry of the latest change.
    pub changed_at: Position,
}

impl Subscription {
    /// Whether clients may fetch events of this subscription now: it is a pull subscription with the status active.
    pub fn is_pulled(&self) -> bool {
        match self.definition.channel {
            Channel::Pull { .. } => self.status == Status::Active,
            Channel::Webhook(_) => false,
        }
    }

    /// When the outstanding verification was requested. `None`: the status is not unverified.
    pub fn verification_requested_at(&self) -> Option<UnixMillis> {
        let verification = self.definition.channel.verification()?;
        (self.status == Status::Unverified).then_some(verification.requested_at)
    }

    pub fn created_at(&self) -> UnixMillis {
        self.id.time()
    }

    pub fn shard(&self) -> u16 {
        shard_of(self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stored_status_is_found_by_its_name() {
        for name in ["active", "failing", "paused", "disabled", "unverified"] {
            assert_eq!(name.parse().map(Status::name), Ok(name));
        }
    }
}
