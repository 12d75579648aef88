//! What one commit of the recorder writes.

use super::attempt::Attempt;
use super::replay::ReplayProgress;
use super::retry::Retry;
use crate::domain::id::{ReplayId, SubscriptionId};
use crate::domain::position::Position;
use std::collections::HashSet;

/// What one commit of the recorder writes. All of it names shards with their terms: what belongs to a shard that has
/// another owner by now is not written.
#[derive(Debug, Default)]
pub struct Flush {
    /// Owned shards with the term of their taking, and how far they are. A cursor never moves back.
    pub shards: Vec<(u16, i64, Position)>,
    /// To be appended.
    pub attempts: Vec<Attempt>,
    /// To be set, or with `None` to be ended.
    pub retries: Vec<(SubscriptionId, Position, Option<Retry>)>,
    /// Cursors of subscriptions that are not at the head: to be set, or with `None` to be ended.
    pub cursors: Vec<(SubscriptionId, Option<Position>)>,
    /// How far replays have come.
    pub replays: Vec<(ReplayId, SubscriptionId, ReplayProgress)>,
    /// Whether some of it may be recorded already.
    pub sent_before: bool,
}

impl Flush {
    /// To be sent once more, after it was cut off or refused: what is recorded already is left out.
    pub fn send_again(&mut self) {
        self.sent_before = true;
        let mut known = HashSet::new();
        self.attempts.retain(|attempt| {
            known.insert((attempt.subscription, attempt.position, attempt.number))
        });
    }
}
