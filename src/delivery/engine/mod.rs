//! The delivery engine of a node: a state machine that decides every delivery, without I/O and without a clock.

mod aimd;
mod attempt_queue;
mod attempts;
mod breaker;
mod cursors;
mod effects;
mod flush;
mod lanes;
mod log_cursor;
mod outcomes;
mod ownership;
mod queue;
mod reads;
mod receiver;
mod replay;
mod replay_reads;
mod results;
mod retries;
mod scheduler;
mod shards;
#[cfg(test)]
mod simulation;
mod unfinished;
mod verification;
mod verification_queue;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use self::cursors::Cursors;
pub(crate) use self::effects::{
    AttemptResult, FetchEvent, LoadedSubscription, ReadRange, ReadReplayRange, StartAttempt,
    SubscriptionSnapshot, VerificationResult, VerifyReceiver,
};
use self::log_cursor::LogCursor;
use self::ownership::Ownership;
pub(crate) use self::queue::SubscriptionQueue;
use self::replay::Replay;
use self::results::Results;
use self::scheduler::Scheduler;
use self::verification_queue::VerificationQueue;
use crate::domain::delivery::exhausted::Exhausted;
use crate::domain::delivery::retry::Retry;
use crate::domain::delivery::retry_schedule::RetrySchedule;
use crate::domain::delivery::shard::shard_of;
use crate::domain::event::Event;
use crate::domain::event::matcher::Matcher;
use crate::domain::id::{ReplayId, SubscriptionId};
use crate::domain::position::Position;
use crate::domain::subscription::command::Command;
use crate::domain::subscription::transition::StatusTransition;
use crate::domain::subscription::{Subscription, TEST_EVENT};
use crate::domain::time::UnixMillis;

/// The delivery engine: all decisions for the shards that a node owns.
///
/// The engine is sans-I/O. Log entries, results and the time enter by `handle_*` calls. Actions leave by `poll_*`
/// calls, and a *driver* carries them out: it does the HTTP, the SQL, the waiting. No call blocks, and none fails. One
/// task owns the engine.
///
/// # The loop
///
/// A driver repeats four steps:
///
/// 1. Pass the time: [`handle_time`](Self::handle_time).
/// 2. Take the actions and begin to carry them out. The `poll_*` calls are independent, so their order is free.
///    While the node may not start work (its lease has run out, or it stops), skip the calls marked *start*.
///
///    | call | until | action | its result enters by |
///    | --- | --- | --- | --- |
///    | [`poll_attempts`](Self::poll_attempts) (*start*) | once per round | make the POSTs | [`handle_outcome`](Self::handle_outcome) |
///    | | | fetch the events | [`handle_fetched`](Self::handle_fetched), [`handle_missing_event`](Self::handle_missing_event) or [`handle_fetch_error`](Self::handle_fetch_error) for each |
///    | [`poll_read`](Self::poll_read) (*start*) | `None`, or too many reads run | read the log | [`handle_read`](Self::handle_read) or [`handle_read_error`](Self::handle_read_error) |
///    | [`poll_replay_read`](Self::poll_replay_read) (*start*) | the same | read the log and the record of its deliveries | [`handle_replay_read`](Self::handle_replay_read) or [`handle_replay_read_error`](Self::handle_replay_read_error) |
///    | [`poll_verification`](Self::poll_verification) (*start*) | `None` | verify the receiver | [`handle_verification`](Self::handle_verification) |
///    | [`poll_transitions`](Self::poll_transitions) | once per round | change the subscriptions' status | [`handle_transition_applied`](Self::handle_transition_applied) for each |
///    | [`poll_exhausted`](Self::poll_exhausted) | once per round | append `hookhub.delivery.exhausted` to the log | [`handle_exhausted_published`](Self::handle_exhausted_published) for each |
///    | [`poll_flush`](Self::poll_flush) | once per round, if due and no flush runs | record it in one transaction, fenced by terms | [`handle_shards_lost`](Self::handle_shards_lost) for the shards whose term has passed |
///    | [`poll_released_shards`](Self::poll_released_shards) | once per round, if no flush runs | release the shards, fenced by terms | none |
///
/// 3. Wait for an input: a log entry, a result, the time of [`poll_timeout`](Self::poll_timeout), or a timer of the
///    driver. The driver decides when a flush is due: soon after a result ([`has_results`](Self::has_results)), at once
///    with many ([`result_count`](Self::result_count)) or during a handover
///    ([`is_handing_over`](Self::is_handing_over)), and now and then with `is_idle`, for cursors that move without
///    results.
/// 4. Pass the input to its `handle_*` call. Several inputs may enter before the next round.
///
/// Two calls in step 4 return an action: [`handle_fetched`](Self::handle_fetched) a POST to make, and
/// [`handle_verification`](Self::handle_verification) a failure to record, which has no result.
///
/// # The log
///
/// A driver reads the log in order, from [`processed`](Self::processed) on, and passes each entry to
/// [`handle_event`](Self::handle_event). If the entry changes a subscription or carries a command,
/// [`handle_change`](Self::handle_change) or [`handle_command`](Self::handle_command) follows at once, before the next
/// entry: the entry itself still matches the patterns before the change.
///
/// # Shards
///
/// A new engine owns no shard. A driver acquires shards in the database, loads their subscriptions and their delivery
/// state, and calls [`handle_shards_acquired`](Self::handle_shards_acquired). From the start of the loading until this
/// call it passes in no log entry, or a change in between would be missed. The lowest cursor of the first shards
/// becomes [`processed`](Self::processed), where reading the log begins. A subscription with a lower cursor, or with a
/// cursor of its own, lags and catches up by [`poll_read`](Self::poll_read).
///
/// Shards leave in one of three ways:
///
/// - [`begin_handover`](Self::begin_handover): they start no attempts, and
///   [`poll_released_shards`](Self::poll_released_shards) returns each once its attempts have ended or the deadline has
///   passed, and its results are recorded.
/// - [`handle_shards_lost`](Self::handle_shards_lost): another node owns them.
/// - [`handle_failover`](Self::handle_failover): another database server has taken over. The driver drops its position
///   in the log too, and reads on from [`processed`](Self::processed) after it has acquired shards again.
///
/// To stop, a driver hands over all shards, reads no more of the log, and repeats the loop without the calls marked
/// *start* until [`shards`](Self::shards) is empty or its own deadline has passed.
///
/// # What must hold
///
/// - *Time.* The driver passes the wall clock's time. Time that steps back delays work and breaks nothing.
/// - *Every action has exactly one result*, also when it fails. An action without a result occupies its slot for ever.
///   The flush is the exception: the driver repeats it until the database accepts it.
/// - *A result may be late.* The shard may be lost or owned in a later term by then, and the subscription changed or
///   deleted. The engine ignores whatever no longer applies.
/// - *One flush at a time*, in the order of [`poll_flush`](Self::poll_flush). A flush holds cursors that assume all
///   earlier ones are recorded.
/// - *A flush is atomic and fenced.* Either all results and cursors of a shard are recorded, or, if its term has
///   passed, none. This is invariant 4 of the design: a cursor passes an event only together with the record of its
///   delivery or its retry.
#[derive(Debug)]
pub(crate) struct Engine {
    /// For subscriptions without a schedule of their own.
    schedule: RetrySchedule,
    ownership: Ownership,
    queues: HashMap<SubscriptionId, SubscriptionQueue>,
    matcher: Matcher<SubscriptionId>,
    /// `None` until the node owns its first shards.
    processed: Option<Position>,
    now: UnixMillis,
    in_flight: usize,
    scheduler: Scheduler,
    cursors: Cursors,
    transitions: Vec<(Arc<Subscription>, StatusTransition)>,
    exhausted: Vec<Exhausted>,
    verifications: VerificationQueue,
    replays: BTreeMap<ReplayId, Replay>,
    results: Results,
}

impl Engine {
    /// `schedule`: for subscriptions without one of their own.
    pub(crate) fn new(schedule: RetrySchedule) -> Self {
        Self {
            schedule,
            ownership: Ownership::default(),
            queues: HashMap::new(),
            matcher: Matcher::default(),
            processed: None,
            now: UnixMillis::EPOCH,
            in_flight: 0,
            scheduler: Scheduler::default(),
            cursors: Cursors::default(),
            transitions: Vec::new(),
            exhausted: Vec::new(),
            verifications: VerificationQueue::default(),
            replays: BTreeMap::new(),
            results: Results::default(),
        }
    }

    /// Up to where the engine has processed the log. `None` before the node owns its first shards.
    pub(crate) fn processed(&self) -> Option<Position> {
        self.processed
    }

    /// [`Self::processed`], or [`Position::START`] before the node owns its first shards.
    fn head(&self) -> Position {
        self.processed.unwrap_or_default()
    }

    /// Attempts whose event is being fetched are included.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// The size of all events that wait in memory.
    pub(crate) fn waiting_bytes(&self) -> usize {
        self.scheduler.waiting_bytes()
    }

    pub(crate) fn queues(&self) -> impl Iterator<Item = &SubscriptionQueue> {
        self.queues.values()
    }

    /// Offers the log's next event to each subscription whose patterns match; a test event only to its subscription.
    pub(crate) fn handle_event(&mut self, event: &Arc<Event>) {
        self.processed = self.processed.max(Some(event.position));
        let ids = match (event.event_type.as_str(), event.about) {
            (TEST_EVENT, about) => about.into_iter().collect(),
            (event_type, _) => self.matcher.matches(&event.tenant, event_type),
        };
        let has_capacity = self.scheduler.has_capacity();
        for id in ids {
            self.with_queue(id, |queue| queue.offer(event, has_capacity));
        }
    }

    /// Handles the creation, change or deletion of a subscription by the log entry at `position`. Ignores subscriptions
    /// of other nodes' shards. `snapshot`: `None` if deleted or without a webhook.
    pub(crate) fn handle_change(
        &mut self,
        position: Position,
        id: SubscriptionId,
        snapshot: Option<SubscriptionSnapshot>,
    ) {
        self.processed = self.processed.max(Some(position));
        let Some(SubscriptionSnapshot { loaded, state }) =
            snapshot.filter(|snapshot| self.ownership.has(snapshot.loaded.subscription.shard()))
        else {
            self.remove_subscription(id);
            return;
        };
        self.match_patterns_at(&loaded, position);
        let subscription = Arc::new(loaded.subscription);
        self.update_verification(&subscription);
        if let Some(queue) = self.queues.get_mut(&id) {
            queue.change(subscription, loaded.versions);
        } else {
            let queue = match state.cursors.first() {
                Some((_, cursor)) => {
                    SubscriptionQueue::with_own_cursor(subscription, loaded.versions, *cursor)
                }
                None => SubscriptionQueue::new(
                    subscription,
                    LogCursor::at_head(loaded.versions, position),
                ),
            };
            self.queues.insert(id, queue);
            self.restore_state(state.attempted, state.retries, state.replays);
        }
        self.reschedule(id);
    }

    /// Matches later events by the version in force at `position`. Does nothing if no version is that old.
    fn match_patterns_at(&mut self, loaded: &LoadedSubscription, position: Position) {
        let in_force = loaded.versions.iter().rev().find(|version| version.since <= position);
        if let Some(version) = in_force {
            let (id, tenant) = (loaded.subscription.id, &loaded.subscription.tenant);
            self.matcher.set(id, tenant, &version.event_types);
        }
    }

    /// Attempts in flight continue, and are recorded unless the shard is lost.
    fn remove_subscription(&mut self, id: SubscriptionId) {
        self.matcher.remove(id);
        self.verifications.remove(id);
        self.results.remove_subscription(id);
        self.replays.retain(|_, replay| replay.subscription != id);
        if let Some(mut queue) = self.queues.remove(&id) {
            self.scheduler.remove(&queue);
            self.cursors.remove(&mut queue);
        }
    }

    pub(crate) fn handle_command(
        &mut self,
        id: SubscriptionId,
        command: &Command,
        now: UnixMillis,
    ) {
        match command {
            Command::Retry(retry) => self.retry_now(id, retry.event, retry.attempts, now),
            Command::Replay(replay, request) => self.start_replay(*replay, id, request),
            Command::CancelReplay(cancelled) => self.cancel_replay(cancelled.replay),
            Command::Expire(expiry) => self.expire(id, expiry.to),
            Command::Verify => self.verifications.restart(id, now),
        }
    }

    /// Removes the expired events and retries at or below `up_to`. Running attempts continue.
    fn expire(&mut self, id: SubscriptionId, up_to: Position) {
        let expired = self.with_queue(id, |queue| queue.expire(up_to));
        for position in expired.into_iter().flatten() {
            self.results.set_retry(id, position, None);
        }
    }

    /// Makes a delivery due at `now`, because the subscription's owner has requested another attempt. Does nothing
    /// while an attempt for the event runs or its first attempt has not ended.
    ///
    /// `attempts`: the number of earlier attempts, used only if the engine has no retry for the event.
    fn retry_now(&mut self, id: SubscriptionId, event: Position, attempts: u16, now: UnixMillis) {
        let Some(queue) = self.queues.get_mut(&id).filter(|queue| !queue.is_in_progress(event))
        else {
            return;
        };
        // An additional attempt follows no order.
        let additional = Retry { attempts, due: now, first_attempt: now, order_key: None };
        let retry = Retry { due: now, ..queue.attempts.retries.get(event).unwrap_or(additional) };
        self.add_retry(id, event, retry);
        self.handle_time(now);
    }

    /// Adds or replaces an event's retry, also in the results for the next flush.
    fn add_retry(&mut self, id: SubscriptionId, position: Position, retry: Retry) {
        if let Some(queue) = self.queues.get_mut(&id) {
            queue.attempts.add_retry(position, retry);
            self.scheduler.add_retry(retry.due, id, position);
            self.results.set_retry(id, position, Some(retry));
        }
    }

    /// Sets the current time, and makes due the retries, probes and verifications whose time has come.
    pub(crate) fn handle_time(&mut self, now: UnixMillis) {
        self.now = now;
        self.verifications.handle_time(now);
        while let Some(id) = self.scheduler.pop_wake(now) {
            self.with_queue(id, |queue| queue.scheduled.wakes_at = None);
        }
        while let Some((due, id, position)) = self.scheduler.pop_retry(now) {
            self.with_queue(id, |queue| {
                let retries = &mut queue.attempts.retries;
                if retries.get(position).is_some_and(|retry| retry.due == due) {
                    retries.mark_due(position);
                }
            });
        }
    }

    /// When [`Self::handle_time`] must be called next. `None`: nothing waits for a time. It is in the past
    /// while a shard whose handover deadline has passed waits for a flush.
    pub(crate) fn poll_timeout(&self) -> Option<UnixMillis> {
        let scheduler = self.scheduler.next_timeout();
        let verification = self.verifications.next_timeout();
        let handover = self.ownership.next_deadline();
        scheduler.into_iter().chain(verification).chain(handover).min()
    }

    /// Runs `change` on a queue, then updates the scheduler and the cursors, as every change must. `None`: no such
    /// queue.
    fn with_queue<R>(
        &mut self,
        id: SubscriptionId,
        change: impl FnOnce(&mut SubscriptionQueue) -> R,
    ) -> Option<R> {
        let queue = self.queues.get_mut(&id)?;
        let result = change(queue);
        self.scheduler.reschedule(queue, self.ownership.is_active(shard_of(id)), self.now);
        self.cursors.update(queue);
        Some(result)
    }

    /// Updates the scheduler and the cursors after a change without [`Self::with_queue`].
    fn reschedule(&mut self, id: SubscriptionId) {
        self.with_queue(id, |_| ());
    }
}
