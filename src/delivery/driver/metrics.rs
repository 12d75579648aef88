//! What the dispatcher's loop tells the measures: outcomes, commits of results, and now and then how the queues stand.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::delivery::engine::{AttemptResult, Engine};
use crate::domain::delivery::flush::Flush;
use crate::domain::delivery::outcome::Verdict;
use crate::domain::subscription::Status;
use crate::domain::time::UnixMillis;
use crate::metrics::{Measures, Place, Standing};

const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Looks on at one session.
#[derive(Debug)]
pub(crate) struct Watch {
    measures: Arc<Measures>,
    flush_began: Option<Instant>,
    look_at: Instant,
}

impl Watch {
    pub(crate) fn new(measures: Arc<Measures>) -> Self {
        Self { measures, flush_began: None, look_at: Instant::now() }
    }

    /// An attempt has ended.
    pub(crate) fn ended(&self, made: &AttemptResult, now: UnixMillis) {
        let AttemptResult { attempt, outcome, .. } = made;
        let delivering = &self.measures.delivering;
        delivering.note(outcome);
        delivering.duration.took(attempt.latency());
        if outcome.verdict() == Verdict::Delivered {
            delivering.delay.took(now.since(attempt.position.time()));
        }
    }

    /// A delivery is given up.
    pub(crate) fn exhausted(&self) {
        self.measures.delivering.exhausted.add(1);
    }

    /// A commit of results begins.
    pub(crate) fn flush_begins(&mut self, flush: &Flush) {
        let results = flush.attempts.len() + flush.retries.len();
        self.measures.delivering.flush_results.observe(u64::try_from(results).unwrap_or(u64::MAX));
        self.flush_began = Some(Instant::now());
    }

    /// It has ended.
    pub(crate) fn flush_ended(&mut self) {
        if let Some(began) = self.flush_began.take() {
            self.measures.delivering.flush_duration.took(began.elapsed());
        }
    }

    /// Looks at the queues, if it is time.
    pub(crate) fn look(&mut self, engine: &Engine) {
        let now = Instant::now();
        if now >= self.look_at {
            self.look_at = now + LOOK_EVERY;
            self.measures.delivering.own_shards(engine.shards().len());
            *self.measures.delivering.standing() = standing(engine);
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.measures.delivering.own_shards(0);
        *self.measures.delivering.standing() = Standing::default();
    }
}

fn standing(engine: &Engine) -> Standing {
    let head = engine.processed().unwrap_or_default();
    let mut standing = Standing {
        in_flight: engine.in_flight(),
        unrecorded: engine.unrecorded(),
        waiting_bytes: engine.waiting_bytes(),
        ..Standing::default()
    };
    for queue in engine.queues() {
        let (waiting, retries) = queue.depths();
        standing.waiting_events += waiting;
        standing.waiting_retries += retries;
        let place = match queue.subscription.status {
            Status::Paused => Place::Paused,
            Status::Disabled => Place::Disabled,
            Status::Unverified => Place::Unverified,
            Status::Failing => Place::Failing,
            Status::Active if queue.is_lagging() => Place::Behind,
            Status::Active => Place::Current,
        };
        let cursor = queue.cursor(head);
        let group = standing.group(place);
        group.subscriptions += 1;
        if cursor < head {
            let before = group.oldest.unwrap_or(cursor.time());
            group.oldest = Some(before.min(cursor.time()));
        }
        if queue.is_delivering() && queue.holds_cursor() {
            let before = standing.oldest_pending.unwrap_or(cursor.time());
            standing.oldest_pending = Some(before.min(cursor.time()));
        }
    }
    standing
}
