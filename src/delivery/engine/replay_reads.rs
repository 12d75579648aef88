//! Replays: the log is read a second time, and the selected deliveries become due retries, page by page.

use std::sync::Arc;

use super::replay::Replay;
use super::results::AttemptSummary;
use super::{Engine, ReadReplayRange};
use crate::domain::delivery::replay::{
    RecordedDelivery, ReplayProgress, ReplayRequest, ReplayState,
};
use crate::domain::delivery::retry::Retry;
use crate::domain::event::Event;
use crate::domain::event::page::Stretch;
use crate::domain::id::{ReplayId, SubscriptionId};

/// A replay reads on while fewer deliveries of its subscription wait for a retry; with an open breaker, only while none
/// does.
const MAX_WAITING: usize = 50;

impl Engine {
    /// Continues replays of a former owner of their shard.
    pub(super) fn restore_replays(
        &mut self,
        replays: Vec<(ReplayId, SubscriptionId, ReplayProgress)>,
    ) {
        for (id, subscription, progress) in replays {
            if self.queues.contains_key(&subscription) {
                self.replays.insert(id, Replay::new(subscription, progress));
            }
        }
    }

    /// Does nothing if the replay has started before.
    pub(super) fn start_replay(
        &mut self,
        id: ReplayId,
        subscription: SubscriptionId,
        request: &ReplayRequest,
    ) {
        let head = self.head();
        let Some(queue) = self.queues.get(&subscription) else { return };
        if self.replays.contains_key(&id) {
            return;
        }
        let mut progress = ReplayProgress::new(request);
        // Deliveries above the cursor get their first attempt in any case.
        progress.until = progress.until.min(queue.cursor(head)).max(progress.after);
        self.results.set_replay(id, subscription, progress.clone());
        let waiting = queue.attempts.retries.positions();
        let mut replay = Replay::requested(subscription, progress, waiting);
        for attempt in self.results.unrecorded() {
            replay.note(&attempt);
        }
        self.replays.insert(id, replay);
    }

    pub(super) fn note_in_replays(&mut self, attempt: &AttemptSummary) {
        for replay in self.replays.values_mut() {
            replay.note(attempt);
        }
    }

    /// Records the replay as cancelled. The retries that it has added stay.
    pub(super) fn cancel_replay(&mut self, id: ReplayId) {
        if let Some(Replay { subscription, mut progress, .. }) = self.replays.remove(&id) {
            progress.state = ReplayState::Cancelled;
            self.results.set_replay(id, subscription, progress);
        }
    }

    /// The next read. Only up to the subscription's cursor, and only while it is delivering and few of its retries
    /// wait.
    pub(crate) fn poll_replay_read(&mut self) -> Option<ReadReplayRange> {
        let head = self.head();
        for (id, replay) in &mut self.replays {
            let Some(queue) = self.queues.get(&replay.subscription) else { continue };
            let up_to = replay.progress.until.min(queue.cursor(head));
            let after = replay.progress.position;
            let has_range = up_to > after || up_to == replay.progress.until;
            let has_capacity = queue.is_delivering() && queue.attempts.accepts_replays(MAX_WAITING);
            if has_range && has_capacity && !replay.is_reading {
                replay.is_reading = true;
                let subscription = Arc::clone(&queue.subscription);
                return Some(ReadReplayRange { id: *id, subscription, after, up_to });
            }
        }
        None
    }

    /// Makes the selected deliveries due retries. `recorded`: the recorded deliveries of the events read.
    pub(crate) fn handle_replay_read(
        &mut self,
        read: &ReadReplayRange,
        stretch: &Stretch,
        recorded: &[RecordedDelivery],
    ) {
        let Some(replay) = self.replays.get_mut(&read.id) else { return };
        replay.is_reading = false;
        if replay.progress.position != read.after {
            // This node started the read before it lost the shard and acquired it again.
            return;
        }
        let subscription = replay.subscription;
        let selected: Vec<(&Arc<Event>, u16)> = stretch
            .events
            .iter()
            .filter_map(|event| Some((event, self.attempts_before(read.id, event, recorded)?)))
            .collect();
        for (event, attempts) in &selected {
            self.replay_delivery(subscription, event, *attempts);
        }
        let Some(replay) = self.replays.get_mut(&read.id) else { return };
        replay.advance(if stretch.complete { read.up_to } else { stretch.scanned });
        let progress = &mut replay.progress;
        progress.replayed += u64::try_from(selected.len()).unwrap_or_default();
        if progress.position >= progress.until {
            progress.state = ReplayState::Completed;
        }
        let (progress, is_over) = (progress.clone(), progress.state != ReplayState::Running);
        self.results.set_replay(read.id, subscription, progress);
        if is_over {
            self.replays.remove(&read.id);
        }
        self.handle_time(self.now);
    }

    pub(crate) fn handle_replay_read_error(&mut self, id: ReplayId) {
        if let Some(replay) = self.replays.get_mut(&id) {
            replay.is_reading = false;
        }
    }

    /// The number of earlier attempts. `None`: the replay does not select the delivery, or the delivery is still in
    /// progress.
    fn attempts_before(
        &self,
        id: ReplayId,
        event: &Event,
        recorded: &[RecordedDelivery],
    ) -> Option<u16> {
        let (replay, position) = (self.replays.get(&id)?, event.position);
        let queue = self.queues.get(&replay.subscription).filter(|queue| queue.matches(event))?;
        let has_retry = queue.attempts.retries.get(position).is_some();
        let is_pending = has_retry || queue.is_in_progress(position);
        if is_pending { None } else { replay.attempts_before(position, recorded) }
    }

    /// Adds a retry that is due now. `attempts`: the number made before.
    fn replay_delivery(&mut self, id: SubscriptionId, event: &Event, attempts: u16) {
        let Some(queue) = self.queues.get(&id) else { return };
        let order_key = queue.subscription.definition.delivery().order_key(event);
        let retry = Retry { attempts, due: self.now, first_attempt: self.now, order_key };
        self.add_retry(id, event.position, retry);
    }
}
