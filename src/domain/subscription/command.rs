//! What is asked of the owner of a subscription's shard by entries in the log.

use serde::{Deserialize, Serialize};

use super::gap::Expiry;
use crate::domain::as_text;
use crate::domain::event::Event;
use crate::domain::event::event_type::EventType;
use crate::domain::id::ReplayId;
use crate::domain::position::Position;

/// Something asked of whoever delivers to a subscription.
#[derive(Debug, Clone)]
pub enum Request {
    /// One more attempt of a delivery.
    Retry(RetryRequest),
    /// A stretch of the log once more.
    Replay(ReplayId, ReplayRequest),
    /// A replay is to go no further.
    CancelReplay(ReplayCancelled),
    /// Nothing up to a place is to be waited for: it is gone.
    Expire(Expiry),
    /// The receiver is to be asked for its consent once more, now.
    Verify,
}

/// The data of an entry that asks for one more attempt of a delivery.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RetryRequest {
    /// The subscription's id.
    pub subscription: String,
    /// The event's id.
    #[serde(with = "as_text")]
    pub event: Position,
    /// Attempts made before.
    pub attempts: u16,
}

/// Which deliveries of a stretch of the log are made once more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Only {
    /// Those that were given up.
    Undelivered,
    /// All of them.
    All,
}

impl Only {
    /// The name in JSON and SQL.
    pub fn name(self) -> &'static str {
        match self {
            Self::Undelivered => "undelivered",
            Self::All => "all",
        }
    }

    /// Whether a delivery is replayed that was made, or failed for good; `None`: it was never tried.
    pub fn takes(self, delivered: Option<bool>) -> bool {
        self == Self::All || delivered == Some(false)
    }

    /// What is called so.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Undelivered, Self::All].into_iter().find(|only| only.name() == name)
    }
}

/// The data of an entry that asks for a replay. The entry's own place is the replay's id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplayRequest {
    /// The subscription's id.
    pub subscription: String,
    /// Everything replayed is above this place.
    #[serde(with = "as_text")]
    pub after: Position,
    /// And at or below this.
    #[serde(with = "as_text")]
    pub until: Position,
    /// Which of it.
    pub only: Only,
    /// How many deliveries that was when it was asked for.
    pub count: u64,
}

/// The data of an entry that ends a replay.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ReplayCancelled {
    /// The replay's id.
    #[serde(with = "as_text")]
    pub replay: ReplayId,
}

const RETRY: &str = "delivery.retry_requested";
const REPLAY: &str = "replay.requested";
const EXPIRED: &str = "gap";
const CANCEL: &str = "replay.cancelled";
const VERIFY: &str = "verification.requested";

impl Request {
    /// What an entry of the log asks for, if it asks for anything.
    pub fn of(event: &Event) -> Option<Self> {
        let read = || event.data();
        let (_, name) = event.event_type.as_str().split_once('.')?;
        let request = match name {
            _ if event.about.is_none() || !event.event_type.is_reserved() => return None,
            RETRY => serde_json::from_slice(&read()).map(Self::Retry),
            REPLAY => serde_json::from_slice(&read())
                .map(|asked| Self::Replay(ReplayId::from_stored(event.position.stored()), asked)),
            EXPIRED => serde_json::from_slice(&read()).map(Self::Expire),
            CANCEL => serde_json::from_slice(&read()).map(Self::CancelReplay),
            VERIFY => Ok(Self::Verify),
            _ => return None,
        };
        // Only the hub itself writes such entries.
        request.ok()
    }

    /// The type of an entry that asks for a handshake.
    pub fn verify_entry_type() -> EventType {
        EventType::operational(VERIFY)
    }
}

impl RetryRequest {
    /// The type of its entry.
    pub fn entry_type() -> EventType {
        EventType::operational(RETRY)
    }
}

impl ReplayRequest {
    /// The type of its entry.
    pub fn entry_type() -> EventType {
        EventType::operational(REPLAY)
    }
}

impl ReplayCancelled {
    /// The type of its entry.
    pub fn entry_type() -> EventType {
        EventType::operational(CANCEL)
    }
}
