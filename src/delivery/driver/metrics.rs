//! What the driver reports to the metrics: outcomes, flushes, and a sample of the queues once a second.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::delivery::engine::{AttemptResult, Engine};
use crate::domain::delivery::flush::Flush;
use crate::domain::delivery::outcome::Verdict;
use crate::domain::subscription::Status;
use crate::domain::time::UnixMillis;
use crate::metrics::{Measures, Place, Standing};

const SAMPLE_INTERVAL: Duration = Duration::from_secs(1);

/// The metrics of one driver. They read zero again when it is dropped.
#[derive(Debug)]
pub(super) struct DriverMetrics {
    measures: Arc<Measures>,
    flush_started_at: Option<Instant>,
    sample_at: Instant,
}

impl DriverMetrics {
    pub(super) fn new(measures: Arc<Measures>) -> Self {
        Self { measures, flush_started_at: None, sample_at: Instant::now() }
    }

    pub(super) fn record_attempt(&self, result: &AttemptResult, now: UnixMillis) {
        let AttemptResult { attempt, outcome, .. } = result;
        let delivering = &self.measures.delivering;
        delivering.note(outcome);
        delivering.duration.took(attempt.latency());
        if outcome.verdict() == Verdict::Delivered {
            delivering.delay.took(now.since(attempt.position.time()));
        }
    }

    pub(super) fn record_exhausted(&self) {
        self.measures.delivering.exhausted.add(1);
    }

    pub(super) fn flush_started(&mut self, flush: &Flush) {
        let results = flush.attempts.len() + flush.retries.len();
        self.measures.delivering.flush_results.observe(u64::try_from(results).unwrap_or(u64::MAX));
        self.flush_started_at = Some(Instant::now());
    }

    pub(super) fn flush_ended(&mut self) {
        if let Some(started_at) = self.flush_started_at.take() {
            self.measures.delivering.flush_duration.took(started_at.elapsed());
        }
    }

    /// Samples the queues, if [`SAMPLE_INTERVAL`] has passed.
    pub(super) fn sample_when_due(&mut self, engine: &Engine) {
        let now = Instant::now();
        if now >= self.sample_at {
            self.sample_at = now + SAMPLE_INTERVAL;
            self.measures.delivering.own_shards(engine.shards().len());
            *self.measures.delivering.standing() = standing(engine);
        }
    }
}

impl Drop for DriverMetrics {
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
