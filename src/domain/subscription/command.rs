//! Commands that log entries carry to the owner of a subscription's shard.

use super::gap::Gap;
use crate::domain::delivery::replay::{ReplayCancellation, ReplayRequest};
use crate::domain::delivery::retry::RetryRequest;
use crate::domain::event::Event;
use crate::domain::event::event_type::EventType;
use crate::domain::id::ReplayId;

/// A command to the node that delivers to a subscription.
#[derive(Debug, Clone)]
pub enum Command {
    /// Attempt a delivery once more.
    Retry(RetryRequest),
    /// Deliver a range of the log once more.
    Replay(ReplayId, ReplayRequest),
    CancelReplay(ReplayCancellation),
    /// Stop waiting for events that retention has deleted.
    Expire(Gap),
    /// Attempt the outstanding verification now.
    Verify,
}

pub(crate) const RETRY: &str = "delivery.retry_requested";
pub(crate) const REPLAY: &str = "replay.requested";
pub(crate) const CANCEL_REPLAY: &str = "replay.cancelled";
const GAP: &str = "gap";
const VERIFY: &str = "verification.requested";

impl Command {
    /// The command that a log entry carries. `None`: the entry is not a valid command.
    pub fn from_event(event: &Event) -> Option<Self> {
        let (_, name) = event.event_type.as_str().split_once('.')?;
        if event.about.is_none() || !event.event_type.is_reserved() {
            return None;
        }
        let data = || event.data();
        let command = match name {
            RETRY => serde_json::from_slice(&data()).map(Self::Retry),
            REPLAY => serde_json::from_slice(&data()).map(|request| {
                Self::Replay(ReplayId::from_stored(event.position.stored()), request)
            }),
            CANCEL_REPLAY => serde_json::from_slice(&data()).map(Self::CancelReplay),
            GAP => serde_json::from_slice(&data()).map(Self::Expire),
            VERIFY => Ok(Self::Verify),
            _ => return None,
        };
        // Only the hub itself writes such entries, so their data are valid.
        command.ok()
    }

    pub fn verify_entry_type() -> EventType {
        EventType::operational(VERIFY)
    }
}
