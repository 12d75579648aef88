//! Subscriptions: who wants which events, where and how.

pub mod change;
pub mod command;
pub mod gap;
pub mod transition;
pub mod verification;
pub mod view;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use self::verification::{Consent, Handshake, Way};
use super::delivery::retry_schedule::RetrySchedule;
use super::egress::callback_url::CallbackUrl;
use super::egress::receiver_auth::ReceiverAuth;
use super::egress::receiver_tls::ReceiverTls;
use super::event::Event;
use super::event::event_type::Pattern;
use super::event::json_pointer::JsonPointer;
use super::id::SubscriptionId;
use super::position::Position;
use super::signing::Signing;
use super::signing::secret::Secret;
use super::time::UnixMillis;

/// How many shards the subscriptions are spread over; fixed for the life of a database.
pub const SHARDS: u16 = 64;

/// Unless the subscription says otherwise: how many POSTs to it run at once.
pub const DEFAULT_MAX_IN_FLIGHT: u16 = 16;
/// Unless the subscription says otherwise: how long one exchange may take, in seconds, response body included.
pub const DEFAULT_TIMEOUT_S: u16 = 15;

/// What its owner says of a subscription. Serialised only into the hub's own storage: it holds secrets,
/// which `Debug` does not show.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Definition {
    /// The types wanted; never empty.
    #[serde(with = "as_text_list")]
    pub event_types: Vec<Pattern>,
    /// Where to POST; without it the events are pulled.
    #[serde(with = "as_optional_text")]
    pub callback_url: Option<CallbackUrl>,
    /// How its deliveries are signed.
    #[serde(flatten)]
    pub signing: Signing,
    /// A note for people.
    pub description: Option<String>,
    /// Whatever the owner wants to keep with it.
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
    /// Headers to send with each POST, besides the hub's own.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// How TLS is spoken to the receiver; without it as to any other.
    #[serde(default)]
    pub tls: Option<ReceiverTls>,
    /// The credentials that each POST carries.
    #[serde(default)]
    pub auth: Option<ReceiverAuth>,
    /// One at a time, in log order; a failing event holds back those after it.
    pub ordered: bool,
    /// Ordered among those alone whose data have the same value there.
    #[serde(default, with = "as_optional_text")]
    pub order_by: Option<JsonPointer>,
    /// How many POSTs run at once, 1 to 64.
    pub max_in_flight: u16,
    /// How many POSTs begin in a second, at most.
    #[serde(default)]
    pub rate_limit_per_s: Option<u16>,
    /// Seconds for one exchange, 1 to 30.
    pub timeout_s: u16,
    /// Seconds between attempts instead of the server's schedule.
    pub retry_schedule_s: Option<Vec<u32>>,
    /// Seconds until a delivery is given up instead of the server's.
    pub give_up_after_s: Option<u32>,
    /// What its receiver must answer before it is sent anything, and whether it has. With a callback URL alone.
    #[serde(default)]
    pub handshake: Option<Handshake>,
}

impl fmt::Debug for Definition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Definition")
            .field("event_types", &self.event_types)
            .field("callback_url", &self.callback_url)
            .finish_non_exhaustive()
    }
}

impl Definition {
    /// When to try again: the subscription's own schedule where it has one, else the server's.
    pub fn retry_schedule(&self, server: &RetrySchedule) -> RetrySchedule {
        let seconds = |s: u32| Duration::from_secs(s.into());
        RetrySchedule {
            steps: match &self.retry_schedule_s {
                Some(steps) => steps.iter().copied().map(seconds).collect(),
                None => server.steps.clone(),
            },
            give_up_after: self.give_up_after_s.map_or(server.give_up_after, seconds),
        }
    }

    /// The deadline for one exchange.
    pub fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout_s.into())
    }

    /// How many POSTs run at once: one when all are in one order.
    pub fn concurrency(&self) -> usize {
        if self.ordered && self.order_by.is_none() { 1 } else { self.max_in_flight.into() }
    }

    /// Whether any of its events go one after the other.
    pub fn is_ordered(&self) -> bool {
        self.ordered || self.order_by.is_some()
    }

    /// How many POSTs begin in a minute by its owner's limit, at most.
    pub fn rate_limit_per_minute(&self) -> Option<u32> {
        self.rate_limit_per_s.map(|rate| u32::from(rate) * 60)
    }

    /// What its receiver agreed to in a handshake, if it was asked and has.
    pub fn consent(&self) -> Option<&Consent> {
        self.handshake.as_ref()?.consent.as_ref()
    }

    /// Whether its receiver is still to agree.
    pub fn awaits_consent(&self) -> bool {
        self.handshake.as_ref().is_some_and(|handshake| handshake.consent.is_none())
    }

    /// Its status when nobody stops it.
    pub fn status_in_force(&self) -> Status {
        if self.awaits_consent() { Status::Unverified } else { Status::Active }
    }

    /// Whether it asks the same of the same receiver as another one: an answer to one is an answer to the other.
    pub fn has_same_receiver(&self, other: &Self) -> bool {
        let asked = |one: &Self| one.handshake.as_ref().map(|asked| (asked.way, asked.asked_at));
        self.callback_url == other.callback_url && asked(self) == asked(other)
    }

    /// This one in the place of `former`: its handshake stands as it did where the same is asked of the same receiver.
    #[must_use]
    pub fn in_place_of(self, former: &Self) -> Self {
        let way = |one: &Self| one.handshake.as_ref().map(|handshake| handshake.way);
        let is_same = self.callback_url == former.callback_url && way(&self) == way(former);
        let handshake = if is_same { former.handshake.clone() } else { self.handshake };
        Self { handshake, ..self }
    }

    /// The secret that its receiver was sent in a handshake and signs of the hub by.
    pub fn x_hook_secret(&self) -> Option<&Secret> {
        let handshake = self.handshake.as_ref().filter(|one| one.way == Way::XHookSecret);
        handshake.map(|handshake| &handshake.secret)
    }

    /// What `event` is ordered by: events with the same key go one after the other. `None`: in any order.
    pub fn order_key(&self, event: &Event) -> Option<i64> {
        match &self.order_by {
            Some(pointer) => Some(pointer.key_of(&event.data())),
            None => self.ordered.then_some(0),
        }
    }
}

/// Whether a subscription gets its events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Status {
    /// It does.
    Active,
    /// Its receiver takes nothing; it is tried now and then, and its cursor stands still.
    Failing,
    /// Stopped by its owner; its cursor stands still.
    Paused,
    /// Stopped by the hub; its cursor stands still.
    Disabled,
    /// Its receiver has not agreed yet; its cursor stands still.
    Unverified,
}

impl Status {
    const ALL: [Self; 5] =
        [Self::Active, Self::Failing, Self::Paused, Self::Disabled, Self::Unverified];

    /// The name in JSON and SQL.
    pub fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Failing => "failing",
            Self::Paused => "paused",
            Self::Disabled => "disabled",
            Self::Unverified => "unverified",
        }
    }

    /// The status of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.name() == name)
    }

    /// Whether anything is tried.
    pub fn is_tried(self) -> bool {
        matches!(self, Self::Active | Self::Failing)
    }
}

/// A subscription as it stands.
#[derive(Debug, Clone)]
pub struct Subscription {
    /// Its id.
    pub id: SubscriptionId,
    /// Whose it is.
    pub tenant: Arc<str>,
    /// What its owner says of it.
    pub definition: Definition,
    /// Whether it gets its events.
    pub status: Status,
    /// Why the hub stopped it.
    pub disabled_reason: Option<String>,
    /// The log entry of its latest change.
    pub changed_at: Position,
}

impl Subscription {
    /// Whether its clients fetch its events, for it has no callback URL, and may do so now.
    pub fn is_pulled(&self) -> bool {
        self.definition.callback_url.is_none() && self.status == Status::Active
    }

    /// Since when its receiver is asked for its consent, while it is.
    pub fn asked_since(&self) -> Option<UnixMillis> {
        let handshake = self.definition.handshake.as_ref()?;
        (self.status == Status::Unverified).then_some(handshake.asked_at)
    }

    /// When it was made.
    pub fn created_at(&self) -> UnixMillis {
        self.id.time()
    }

    /// The slice of subscriptions it belongs to, below [`SHARDS`].
    pub fn shard(&self) -> u16 {
        shard_of(self.id)
    }
}

/// The shard of a subscription, below [`SHARDS`]: the top bits of its id times 2^64 / phi.
pub fn shard_of(id: SubscriptionId) -> u16 {
    let mixed = id.stored().unsigned_abs().wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 58;
    u16::try_from(mixed).unwrap_or_default() % SHARDS
}

/// The patterns of a subscription from one log position on, until the next version's.
#[derive(Debug, Clone)]
pub struct Version {
    /// In force for every event above this position.
    pub since: Position,
    /// The patterns in force.
    pub event_types: Arc<[Pattern]>,
}

/// Whether `event` is for the subscription `id` of `tenant` whose patterns changed as `versions` (oldest first) say.
///
/// A `hookhub.test` event is for the subscription it is about, and for nobody else.
pub fn is_for(event: &Event, id: SubscriptionId, tenant: &str, versions: &[Version]) -> bool {
    if *event.tenant != *tenant {
        return false;
    }
    if event.event_type.as_str() == TEST_EVENT {
        return event.about == Some(id);
    }
    let in_force = versions.iter().rev().find(|version| version.since < event.position);
    in_force.is_some_and(|version| {
        version.event_types.iter().any(|one| one.matches(event.event_type.as_str()))
    })
}

/// How the types of the log entries begin that change a subscription.
pub const SUBSCRIPTION_CHANGES: &str = "hookhub.subscription.";
/// Sent to one subscription, at its owner's wish.
pub const TEST_EVENT: &str = "hookhub.test";

mod as_optional_text {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

    #[expect(clippy::ref_option, reason = "serde calls it so")]
    pub(crate) fn serialize<T: AsRef<str>, S: Serializer>(
        value: &Option<T>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        value.as_ref().map(T::as_ref).serialize(serializer)
    }

    pub(crate) fn deserialize<'de, T: FromStr<Err: Display>, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<T>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        text.map(|text| text.parse().map_err(de::Error::custom)).transpose()
    }
}

mod as_text_list {
    use serde::{Deserialize, Deserializer, Serializer, de};

    use super::Pattern;

    pub(crate) fn serialize<S: Serializer>(
        list: &[Pattern],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(list.iter().map(Pattern::as_str))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<Pattern>, D::Error> {
        let texts = Vec::<String>::deserialize(deserializer)?;
        texts.iter().map(|text| text.parse().map_err(de::Error::custom)).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use bytes::Bytes;

    use super::*;
    use crate::domain::event::NewEvent;

    fn event(position: i64, event_type: &str, about: Option<SubscriptionId>) -> Event {
        let new = NewEvent {
            event_type: crate::domain::event::event_type::EventType::from_stored(event_type),
            about,
            occurred_at: None,
            data: Bytes::from_static(b"1"),
        };
        Event::placed(Position::from_stored(position), &"acme".into(), &new)
    }

    fn version(since: i64, pattern: &str) -> Version {
        Version {
            since: Position::from_stored(since),
            event_types: [pattern.parse().unwrap()].into(),
        }
    }

    #[test]
    fn the_patterns_in_force_are_those_of_the_events_place() {
        let id = SubscriptionId::from_stored(1);
        let versions = [version(10, "a.*"), version(20, "b.*")];
        assert!(!is_for(&event(10, "a.x", None), id, "acme", &versions), "not before it was made");
        assert!(is_for(&event(11, "a.x", None), id, "acme", &versions));
        assert!(
            is_for(&event(20, "a.x", None), id, "acme", &versions),
            "a change holds above its own place"
        );
        assert!(!is_for(&event(21, "a.x", None), id, "acme", &versions));
        assert!(is_for(&event(21, "b.x", None), id, "acme", &versions));
        assert!(!is_for(&event(21, "b.x", None), id, "other", &versions));
    }

    #[test]
    fn a_test_event_is_for_one_subscription_alone() {
        let id = SubscriptionId::from_stored(1);
        let other = SubscriptionId::from_stored(2);
        let test = event(30, TEST_EVENT, Some(id));
        assert!(is_for(&test, id, "acme", &[version(10, "a.*")]));
        assert!(!is_for(&test, other, "acme", &[version(10, "hookhub.*")]));
    }

    #[test]
    fn shards_are_used_evenly() {
        let shards: HashSet<u16> = (0..2_000)
            .map(|n| shard_of(SubscriptionId::new(UnixMillis::from_i64(1_763_900_000_000 + n), 7)))
            .collect();
        assert_eq!(shards.len(), usize::from(SHARDS));
    }
}
