//! The batch of results that one commit writes.

use std::collections::HashSet;

use super::attempt::Attempt;
use super::replay::ReplayProgress;
use super::retry::Retry;
use crate::domain::id::{ReplayId, SubscriptionId};
use crate::domain::position::Position;

/// Results for one commit. The store writes only those whose shard still has the named term, so a former owner
/// writes nothing.
#[derive(Debug, Default)]
pub struct Flush {
    /// Owned shards, each with its term and cursor. A cursor never moves back.
    pub shards: Vec<(u16, i64, Position)>,
    pub attempts: Vec<Attempt>,
    /// The new value; `None` removes the retry.
    pub retries: Vec<(SubscriptionId, Position, Option<Retry>)>,
    /// The cursors of subscriptions that lag behind their shard. `None`: the subscription has caught up.
    pub cursors: Vec<(SubscriptionId, Option<Position>)>,
    pub replays: Vec<(ReplayId, SubscriptionId, ReplayProgress)>,
    /// Whether an earlier commit may have written some of the batch.
    pub sent_before: bool,
}

impl Flush {
    /// Marks the batch as sent before, because a failed commit may have written rows, and removes repeated attempts.
    pub fn prepare_resend(&mut self) {
        self.sent_before = true;
        let mut seen = HashSet::new();
        self.attempts.retain(|attempt| {
            seen.insert((attempt.subscription, attempt.position, attempt.number))
        });
    }
}
