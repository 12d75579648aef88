//! What the dispatcher's loop tells the metrics: outcomes, commits of results, and now and then how the queues stand.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::delivery::engine::{AttemptResult, Engine};
use crate::domain::delivery::flush::Flush;
use crate::domain::delivery::outcome::Verdict;
use crate::domain::subscription::Status;
use crate::domain::time::UnixMillis;
use crate::metrics::{Metrics, ProgressState, QueueSnapshot};

const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Looks on at one session.
#[derive(Debug)]
pub(crate) struct Watch {
    metrics: Arc<Metrics>,
    flush_began: Option<Instant>,
    look_at: Instant,
}

impl Watch {
    pub(crate) fn new(metrics: Arc<Metrics>) -> Self {
        Self { metrics, flush_began: None, look_at: Instant::now() }
    }

    /// An attempt has ended.
    pub(crate) fn ended(&self, made: &AttemptResult, now: UnixMillis) {
        let AttemptResult { attempt, outcome, .. } = made;
        let delivery = &self.metrics.delivery;
        delivery.count_attempt(outcome);
        delivery.duration.observe_duration(attempt.latency());
        if outcome.verdict() == Verdict::Delivered {
            delivery.delay.observe_duration(now.since(attempt.position.time()));
        }
    }

    /// A delivery is given up.
    pub(crate) fn exhausted(&self) {
        self.metrics.delivery.exhausted.add(1);
    }

    /// A commit of results begins.
    pub(crate) fn flush_begins(&mut self, flush: &Flush) {
        let results = flush.attempts.len() + flush.retries.len();
        self.metrics.delivery.flush_results.observe(u64::try_from(results).unwrap_or(u64::MAX));
        self.flush_began = Some(Instant::now());
    }

    /// It has ended.
    pub(crate) fn flush_ended(&mut self) {
        if let Some(began) = self.flush_began.take() {
            self.metrics.delivery.flush_duration.observe_duration(began.elapsed());
        }
    }

    /// Looks at the queues, if it is time.
    pub(crate) fn look(&mut self, engine: &Engine) {
        let now = Instant::now();
        if now >= self.look_at {
            self.look_at = now + LOOK_EVERY;
            self.metrics.delivery.set_shards(engine.shards().len());
            *self.metrics.delivery.queues() = queues(engine);
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.metrics.delivery.set_shards(0);
        *self.metrics.delivery.queues() = QueueSnapshot::default();
    }
}

fn queues(engine: &Engine) -> QueueSnapshot {
    let head = engine.processed().unwrap_or_default();
    let mut queues = QueueSnapshot {
        in_flight: engine.in_flight(),
        unrecorded: engine.unrecorded(),
        waiting_bytes: engine.waiting_bytes(),
        ..QueueSnapshot::default()
    };
    for queue in engine.queues() {
        let (waiting, retries) = queue.depths();
        queues.waiting_events += waiting;
        queues.waiting_retries += retries;
        let state = match queue.subscription.status {
            Status::Paused => ProgressState::Paused,
            Status::Disabled => ProgressState::Disabled,
            Status::Unverified => ProgressState::Unverified,
            Status::Failing => ProgressState::Failing,
            Status::Active if queue.is_lagging() => ProgressState::Behind,
            Status::Active => ProgressState::Current,
        };
        let cursor = queue.cursor(head);
        let group = queues.totals(state);
        group.subscriptions += 1;
        if cursor < head {
            let before = group.oldest.unwrap_or(cursor.time());
            group.oldest = Some(before.min(cursor.time()));
        }
        if queue.is_delivering() && queue.holds_cursor() {
            let before = queues.oldest_pending.unwrap_or(cursor.time());
            queues.oldest_pending = Some(before.min(cursor.time()));
        }
    }
    queues
}
