//! Metrics of the driver: outcomes, flushes, and a sample of the queues once a second.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::delivery::engine::{AttemptResult, Engine};
use crate::domain::delivery::flush::Flush;
use crate::domain::delivery::outcome::Verdict;
use crate::domain::subscription::Status;
use crate::domain::time::UnixMillis;
use crate::metrics::{Metrics, ProgressState, QueueSnapshot};

const SAMPLE_INTERVAL: Duration = Duration::from_secs(1);

/// The metrics of one driver. When it is dropped, the gauges of shards and queues become zero.
#[derive(Debug)]
pub(super) struct DriverMetrics {
    metrics: Arc<Metrics>,
    flush_started_at: Option<Instant>,
    sample_at: Instant,
}

impl DriverMetrics {
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        Self { metrics, flush_started_at: None, sample_at: Instant::now() }
    }

    /// Records the outcome and the latency. For a successful attempt also the time from the event's acceptance to
    /// `now`.
    pub(super) fn record_attempt(&self, result: &AttemptResult, now: UnixMillis) {
        let AttemptResult { attempt, outcome, .. } = result;
        let delivery = &self.metrics.delivery;
        delivery.count_attempt(outcome);
        delivery.duration.observe_duration(attempt.latency());
        if outcome.verdict() == Verdict::Delivered {
            delivery.delay.observe_duration(now.since(attempt.position.time()));
        }
    }

    pub(super) fn record_exhausted(&self) {
        self.metrics.delivery.exhausted.add(1);
    }

    pub(super) fn flush_started(&mut self, flush: &Flush) {
        let results = flush.attempts.len() + flush.retries.len();
        self.metrics.delivery.flush_results.observe(u64::try_from(results).unwrap_or(u64::MAX));
        self.flush_started_at = Some(Instant::now());
    }

    pub(super) fn flush_ended(&mut self) {
        if let Some(started_at) = self.flush_started_at.take() {
            self.metrics.delivery.flush_duration.observe_duration(started_at.elapsed());
        }
    }

    /// Samples the queues at most once per [`SAMPLE_INTERVAL`].
    pub(super) fn sample_when_due(&mut self, engine: &Engine) {
        let now = Instant::now();
        if now >= self.sample_at {
            self.sample_at = now + SAMPLE_INTERVAL;
            self.metrics.delivery.set_shards(engine.shards().len());
            *self.metrics.delivery.queues() = queues(engine);
        }
    }
}

impl Drop for DriverMetrics {
    fn drop(&mut self) {
        self.metrics.delivery.set_shards(0);
        *self.metrics.delivery.queues() = QueueSnapshot::default();
    }
}

fn queues(engine: &Engine) -> QueueSnapshot {
    let head = engine.processed().unwrap_or_default();
    let mut queues = QueueSnapshot {
        in_flight: engine.in_flight(),
        unrecorded: engine.result_count(),
        waiting_bytes: engine.waiting_bytes(),
        ..QueueSnapshot::default()
    };
    for queue in engine.queues() {
        let depth = queue.depth();
        queues.waiting_events += depth.first_attempts;
        queues.waiting_retries += depth.retries;
        let state = match queue.subscription.status {
            Status::Paused => ProgressState::Paused,
            Status::Disabled => ProgressState::Disabled,
            Status::Unverified => ProgressState::Unverified,
            Status::Failing => ProgressState::Failing,
            Status::Active if queue.is_lagging() => ProgressState::Behind,
            Status::Active => ProgressState::Current,
        };
        let cursor = queue.cursor(head);
        let totals = queues.by_state.entry(state).or_default();
        totals.subscriptions += 1;
        if cursor < head {
            let before = totals.oldest.unwrap_or(cursor.time());
            totals.oldest = Some(before.min(cursor.time()));
        }
        if queue.is_delivering() && queue.holds_cursor() {
            let before = queues.oldest_pending.unwrap_or(cursor.time());
            queues.oldest_pending = Some(before.min(cursor.time()));
        }
    }
    queues
}
