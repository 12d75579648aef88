//! Puts inputs into the engine: entries of the log, and the results of effects.

use std::sync::Arc;

use super::effects;
use super::effects::Completion;
use super::feed::LogEntry;
use super::state::Driver;
use crate::delivery::engine::{FetchEvent, VerificationResult};
use crate::domain::event::Event;
use crate::domain::time::UnixMillis;
use crate::store::StoreError;

impl Driver {
    /// If an entry changes a subscription, also records in the database how far this node has processed the log.
    pub(super) fn handle_log_entries(&mut self, entries: Vec<LogEntry>) {
        let engine = &mut self.engine;
        let mut has_changes = false;
        for entry in entries {
            // An entry about a subscription is itself an event, matched by the patterns before the change.
            engine.handle_event(entry.event());
            match entry {
                LogEntry::Event(_) => {}
                LogEntry::Change { event, id, snapshot } => {
                    has_changes = true;
                    engine.handle_change(event.position, id, snapshot.map(|snapshot| *snapshot));
                }
                LogEntry::Command { id, command, .. } => {
                    engine.handle_command(id, &command, UnixMillis::now());
                }
            }
        }
        self.log.set_applied(engine.processed());
        if has_changes {
            self.record_applied_position();
        }
    }

    /// Empties the buffer, which the driver reuses for the next batch.
    pub(super) fn handle_completions(&mut self, mut batch: Vec<Completion>) {
        for completion in batch.drain(..) {
            self.handle_completion(completion);
        }
        self.batch = batch;
    }

    fn handle_completion(&mut self, completion: Completion) {
        let engine = &mut self.engine;
        match completion {
            Completion::AttemptEnded(result) => {
                let now = UnixMillis::now();
                self.metrics.record_attempt(&result, now);
                engine.handle_outcome(*result, now);
            }
            Completion::EventsFetched { fetches, events } => self.handle_fetched(fetches, events),
            Completion::RangeRead { range, result } => {
                self.reads_in_flight -= 1;
                match result {
                    Ok(stretch) => engine.handle_read(&range, &stretch),
                    Err(error) => {
                        tracing::warn!(%error, subscription = %range.subscription.id, "cannot read the log for a lagging subscription; retrying");
                        engine.handle_read_error(range.subscription.id);
                    }
                }
            }
            Completion::ReplayRangeRead { range, result } => {
                self.reads_in_flight -= 1;
                match result {
                    Ok((stretch, recorded)) => {
                        engine.handle_replay_read(&range, &stretch, &recorded);
                    }
                    Err(error) => {
                        tracing::warn!(%error, replay = %range.id, "cannot read the log for a replay; retrying");
                        engine.handle_replay_read_error(range.id);
                    }
                }
            }
            Completion::Flushed { shards, owned } => self.handle_flushed(shards, &owned),
            Completion::SharesCounted(shares) => self.handle_shares(shares),
            Completion::ShardsLoaded { shards, result } => self.handle_loaded(&shards, result),
            Completion::TransitionApplied(id) => engine.handle_transition_applied(id),
            Completion::ExhaustedPublished(exhausted) => {
                engine.handle_exhausted_published(&exhausted);
            }
            Completion::VerificationEnded(result) => self.handle_verification(&result),
        }
    }

    /// `owned`: those of `shards` that this node still owned. The engine forgets the others.
    fn handle_flushed(&mut self, shards: Vec<u16>, owned: &[u16]) {
        self.is_flushing = false;
        self.metrics.flush_ended();
        let lost: Vec<u16> = shards.into_iter().filter(|shard| !owned.contains(shard)).collect();
        if !lost.is_empty() {
            tracing::warn!(shards = ?lost, "another node has taken over shards of this node");
            self.engine.handle_shards_lost(&lost);
        }
    }

    /// If the read failed, the attempts become due again. If an event is missing, its delivery ends.
    fn handle_fetched(
        &mut self,
        fetches: Vec<FetchEvent>,
        events: Result<Vec<Arc<Event>>, StoreError>,
    ) {
        let events = match events {
            Ok(events) => events,
            Err(error) => {
                // The lease logs a warning once a second while the database is unavailable.
                tracing::debug!(%error, "cannot read events for a retry; retrying");
                for fetch in fetches {
                    self.engine.handle_fetch_error(fetch);
                }
                return;
            }
        };
        for fetch in fetches {
            match events.iter().find(|event| event.position == fetch.position) {
                Some(event) => {
                    if let Some(attempt) = self.engine.handle_fetched(fetch, Arc::clone(event)) {
                        self.start_attempt(attempt);
                    }
                }
                None => self.engine.handle_missing_event(fetch),
            }
        }
    }

    /// A failed attempt is also recorded for the subscription's owner.
    fn handle_verification(&mut self, result: &VerificationResult) {
        if let Some(failed) = self.engine.handle_verification(result, UnixMillis::now()) {
            self.spawn(effects::record_failed_verification(self.store.clone(), failed));
        }
    }
}
