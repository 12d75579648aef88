//! Replays: a cursor moved back over a stretch of the log. What it meets becomes tries that are due, a few at a time.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::Engine;
use super::results::Noted;
use crate::domain::delivery::replay::{
    RecordedDelivery, ReplayProgress, ReplayRequest, ReplayState,
};
use crate::domain::delivery::retry::Retry;
use crate::domain::event::Event;
use crate::domain::event::page::Stretch;
use crate::domain::id::{ReplayId, SubscriptionId};
use crate::domain::position::Position;
use crate::domain::subscription::Subscription;

/// A replay goes on while fewer deliveries of its subscription wait for a try.
const MOST_WAITING: usize = 50;

/// A stretch of the log to read for a replay.
#[derive(Debug)]
pub(crate) struct ReadReplayRange {
    /// The replay.
    pub(crate) id: ReplayId,
    /// To whom.
    pub(crate) subscription: Arc<Subscription>,
    /// From here on.
    pub(crate) after: Position,
    /// To here.
    pub(crate) up_to: Position,
}

/// A replay under way.
#[derive(Debug)]
pub(crate) struct Replay {
    subscription: SubscriptionId,
    progress: ReplayProgress,
    is_read: bool,
    /// Events that waited for another try when it was asked for: they get that, and not one more.
    waited: HashSet<Position>,
    /// What came of attempts ahead of it that may not be on record yet: how many, and whether one was delivered.
    fresh: HashMap<Position, (u16, bool)>,
}

impl Replay {
    fn new(subscription: SubscriptionId, progress: ReplayProgress) -> Self {
        let (waited, fresh) = (HashSet::new(), HashMap::new());
        Self { subscription, progress, is_read: false, waited, fresh }
    }

    /// Notes what came of an attempt, if the replay is still to come to its event.
    fn note(&mut self, made: &Noted) {
        if made.subscription == self.subscription && made.position > self.progress.position {
            let known = self.fresh.entry(made.position).or_default();
            *known = (known.0.max(made.number), known.1 || made.is_delivered);
        }
    }

    /// Whether it is of this subscription.
    pub(crate) fn is_of(&self, id: SubscriptionId) -> bool {
        self.subscription == id
    }
}

impl Engine {
    /// Takes replays up where they stand.
    pub(crate) fn restore_replays(
        &mut self,
        replays: Vec<(ReplayId, SubscriptionId, ReplayProgress)>,
    ) {
        for (id, subscription, progress) in replays {
            if self.queues.contains_key(&subscription) {
                self.replays.insert(id, Replay::new(subscription, progress));
            }
        }
    }

    /// Begins a replay that is asked for, unless it was begun before.
    pub(crate) fn take_replay(
        &mut self,
        id: ReplayId,
        subscription: SubscriptionId,
        asked: &ReplayRequest,
    ) {
        let head = self.head();
        let Some(queue) = self.queues.get(&subscription) else { return };
        if self.replays.contains_key(&id) {
            return;
        }
        let mut progress = ReplayProgress::new(asked);
        // What was not tried yet is delivered in any case.
        progress.until = progress.until.min(queue.cursor(head)).max(progress.after);
        self.results.replay(id, subscription, progress.clone());
        let mut replay = Replay::new(subscription, progress);
        replay.waited = queue.waiting_retries();
        for made in self.results.unrecorded() {
            replay.note(&made);
        }
        self.replays.insert(id, replay);
    }

    /// Lets replays know what came of an attempt.
    pub(crate) fn note_for_replays(&mut self, made: &Noted) {
        for replay in self.replays.values_mut() {
            replay.note(made);
        }
    }

    /// Ends a replay that is to go no further.
    pub(crate) fn cancel_replay(&mut self, id: ReplayId) {
        if let Some(Replay { subscription, mut progress, .. }) = self.replays.remove(&id) {
            progress.state = ReplayState::Cancelled;
            self.results.replay(id, subscription, progress);
        }
    }

    /// The next stretch to read for a replay. Each goes as far as all has been tried once, and not while its subscription
    /// takes nothing or has enough to do.
    pub(crate) fn poll_replay_read(&mut self) -> Option<ReadReplayRange> {
        let head = self.head();
        for (id, replay) in &mut self.replays {
            let Some(queue) = self.queues.get(&replay.subscription) else { continue };
            let up_to = replay.progress.until.min(queue.cursor(head));
            let after = replay.progress.position;
            let is_ready = up_to > after || up_to == replay.progress.until;
            if is_ready && !replay.is_read && queue.takes_replays(MOST_WAITING) {
                replay.is_read = true;
                let subscription = Arc::clone(&queue.subscription);
                return Some(ReadReplayRange { id: *id, subscription, after, up_to });
            }
        }
        None
    }

    /// What a read brought: events, and what is on record of their deliveries.
    pub(crate) fn handle_replay_read(
        &mut self,
        read: &ReadReplayRange,
        stretch: &Stretch,
        tried: &[RecordedDelivery],
    ) {
        let Some(replay) = self.replays.get_mut(&read.id) else { return };
        replay.is_read = false;
        if replay.progress.position != read.after {
            // VerificationResult for by an earlier owner of the shard.
            return;
        }
        let id = replay.subscription;
        let scanned = if stretch.complete { read.up_to } else { stretch.scanned };
        let again: Vec<(&Arc<Event>, u16)> =
            stretch.events.iter().filter_map(|event| self.again(read.id, event, tried)).collect();
        for (event, attempts) in &again {
            self.try_again(id, event, *attempts);
        }
        let Some(replay) = self.replays.get_mut(&read.id) else { return };
        let progress = &mut replay.progress;
        progress.position = scanned;
        replay.fresh.retain(|position, _| *position > scanned);
        progress.replayed += u64::try_from(again.len()).unwrap_or_default();
        if scanned >= progress.until {
            progress.state = ReplayState::Completed;
        }
        let (progress, is_over) = (progress.clone(), progress.state != ReplayState::Running);
        self.results.replay(read.id, id, progress);
        if is_over {
            self.replays.remove(&read.id);
        }
        self.handle_time(self.now);
    }

    /// A read that did not come about.
    pub(crate) fn handle_replay_read_error(&mut self, id: ReplayId) {
        if let Some(replay) = self.replays.get_mut(&id) {
            replay.is_read = false;
        }
    }

    /// Whether an event is to be delivered once more, and how often it was tried.
    fn again<'a>(
        &self,
        id: ReplayId,
        event: &'a Arc<Event>,
        tried: &[RecordedDelivery],
    ) -> Option<(&'a Arc<Event>, u16)> {
        let (replay, position) = (self.replays.get(&id)?, event.position);
        let queue = self.queues.get(&replay.subscription).filter(|queue| queue.matches(event))?;
        // What waits for another try gets it in any case.
        let waits = queue.retry(position).is_some() || replay.waited.contains(&position);
        if waits || queue.is_under_way(position) {
            return None;
        }
        let recorded = tried.iter().find(|tried| tried.position == position);
        let recorded = recorded.map(|tried| (tried.attempts, tried.is_delivered));
        let before = [recorded, replay.fresh.get(&position).copied()].into_iter().flatten();
        let before = before.reduce(|one, other| (one.0.max(other.0), one.1 || other.1));
        let is_wanted = replay.progress.only.includes(before.map(|(_, is_delivered)| is_delivered));
        is_wanted.then_some((event, before.map_or(0, |(attempts, _)| attempts)))
    }

    fn try_again(&mut self, id: SubscriptionId, event: &Arc<Event>, attempts: u16) {
        let Some(queue) = self.queues.get_mut(&id) else { return };
        let order_key = queue.subscription.definition.delivery().order_key(event);
        let retry = Retry { attempts, due: self.now, first_attempt: self.now, order_key };
        queue.add_retry(event.position, retry);
        self.record_retry(id, event.position, retry);
    }
}
