//! Takes actions out of the engine and starts them: attempts, reads, verifications, status changes, published events
//! and flushes.

use std::time::Duration;

use tokio::time::Instant;

use super::effects::{self, Completion};
use super::exhausted;
use super::state::{Driver, IDLE_FLUSH_INTERVAL};
use super::status_transition;
use crate::delivery::engine::StartAttempt;
use crate::domain::time::UnixMillis;

/// A flush starts this long after the oldest result that it records, or later if another flush was in flight.
const FLUSH_DELAY: Duration = Duration::from_millis(50);
/// With this many results a flush starts without [`FLUSH_DELAY`].
const FLUSH_THRESHOLD: usize = 500;
/// Reads of the log in flight, for lagging subscriptions and for replays.
const MAX_READS: usize = 4;

impl Driver {
    /// Attempts whose event is not in memory share one read from the database.
    pub(super) fn start_attempts(&mut self) {
        let (attempts, fetches) = self.engine.poll_attempts();
        for attempt in attempts {
            self.start_attempt(attempt);
        }
        if !fetches.is_empty() {
            self.start(effects::fetch_events(self.store.clone(), fetches));
        }
    }

    pub(super) fn start_attempt(&mut self, attempt: StartAttempt) {
        self.attempts_started = self.attempts_started.wrapping_add(1);
        let (deliverer, lease) = (self.deliverer.clone(), self.lease.clone());
        // The future has 3.7 KB: it is boxed here, so that the wrappers around it move a pointer.
        self.start(Box::pin(effects::send_webhook(
            deliverer,
            lease,
            attempt,
            self.attempts_started,
        )));
    }

    /// Starts reads of the log, at most [`MAX_READS`] at a time.
    pub(super) fn start_reads(&mut self) {
        while self.reads_in_flight < MAX_READS {
            let (log, store) = (self.log.clone(), self.store.clone());
            if let Some(range) = self.engine.poll_read() {
                self.start(effects::read_range(log, range));
            } else if let Some(range) = self.engine.poll_replay_read() {
                self.start(effects::read_replay_range(log, store, range));
            } else {
                return;
            }
            self.reads_in_flight += 1;
        }
    }

    pub(super) fn start_verifications(&mut self) {
        while let Some(request) = self.engine.poll_verification() {
            let verifier = self.verifier.clone();
            self.start(Box::pin(effects::verify_receiver(verifier, request)));
        }
    }

    pub(super) fn start_transitions(&mut self) {
        for (subscription, transition) in self.engine.poll_transitions() {
            let (log, store, id) = (self.log.clone(), self.store.clone(), subscription.id);
            self.start(async move {
                status_transition::apply_transition(log, store, subscription, transition).await;
                Completion::TransitionApplied(id)
            });
        }
    }

    pub(super) fn publish_exhausted_events(&mut self) {
        for exhausted in self.engine.poll_exhausted() {
            self.metrics.record_exhausted();
            let log = self.log.clone();
            self.start(async move {
                exhausted::publish_exhausted(log, exhausted.clone()).await;
                Completion::ExhaustedPublished(exhausted)
            });
        }
    }

    /// Starts a flush if none is in flight and results have waited for [`FLUSH_DELAY`], [`FLUSH_THRESHOLD`] results
    /// wait, shards are being handed over, or the last idle flush was [`IDLE_FLUSH_INTERVAL`] ago.
    pub(super) fn flush_when_due(&mut self) {
        let now = Instant::now();
        let engine = &mut self.engine;
        if engine.has_results() && self.flush_at.is_none() {
            self.flush_at = Some(now + FLUSH_DELAY);
        }
        let is_idle_due = now >= self.idle_flush_at || engine.is_handing_over();
        let is_due = is_idle_due
            || self.flush_at.is_some_and(|at| now >= at)
            || engine.result_count() >= FLUSH_THRESHOLD;
        if self.is_flushing || !is_due {
            return;
        }
        self.flush_at = None;
        if is_idle_due {
            self.idle_flush_at = now + IDLE_FLUSH_INTERVAL;
        }
        if let Some(flush) = engine.poll_flush(UnixMillis::now(), is_idle_due) {
            self.is_flushing = true;
            self.metrics.flush_started(&flush);
            self.start(effects::write_flush(self.store.clone(), flush));
        }
    }

    /// Records how far this node has applied changes of subscriptions: API calls on other nodes wait for this.
    pub(super) fn record_applied_position(&self) {
        if let Some(position) = self.engine.processed() {
            let store = self.store.clone();
            self.spawn(effects::record_applied_position(store, self.node, position));
        }
    }
}
