//! The results that one commit writes.

use std::collections::HashSet;

use super::attempt::Attempt;
use super::replay::ReplayProgress;
use super::retry::Retry;
use crate::domain::id::{ReplayId, SubscriptionId};
use crate::domain::position::Position;

/// Results for one commit. The store writes only those of shards that still have the named term, so a former owner
/// writes nothing.
#[derive(Debug, Default)]
pub struct Flush {
    /// Owned shards, each with its term and cursor. A cursor never moves back.
    pub shards: Vec<(u16, i64, Position)>,
    pub attempts: Vec<Attempt>,
    /// The delivery and its new retry; `None` deletes the retry.
    pub retries: Vec<(SubscriptionId, Position, Option<Retry>)>,
    /// The cursors of subscriptions that lag behind their shard. `None`: the subscription has caught up.
    pub cursors: Vec<(SubscriptionId, Option<Position>)>,
    pub replays: Vec<(ReplayId, SubscriptionId, ReplayProgress)>,
    /// Whether an earlier commit may have written the batch.
    pub sent_before: bool,
}

impl Flush {
    /// Prepares the batch for another send after a failed one, which may have been committed: the store then skips
    /// attempts that it has. Of several attempts with the same number, which no commit can write, only the first stays.
    pub fn prepare_resend(&mut self) {
        self.sent_before = true;
        let mut seen = HashSet::new();
        self.attempts.retain(|attempt| {
            seen.insert((attempt.subscription, attempt.position, attempt.number))
        });
    }
}
