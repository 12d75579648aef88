//! Selects the attempts that start, and the events that they need.

use std::sync::Arc;

use super::attempt_queue::Started;
use super::{Engine, FetchEvent, StartAttempt};
use crate::domain::delivery::shard::shard_of;
use crate::domain::event::Event;
use crate::domain::id::SubscriptionId;

/// How many attempts run at a time on a node. Those whose event is being fetched are included.
const MAX_IN_FLIGHT: usize = 4_096;
/// A subscription gets at most the free slots divided by this, so that many hanging receivers leave slots for others.
const FREE_SLOTS_DIVISOR: usize = 8;
/// With this many unrecorded results (the database is slow or down) no attempt starts.
const MAX_UNRECORDED: usize = 20_000;

impl Engine {
    /// Returns the attempts that may start now, and those whose event must be fetched first.
    pub(crate) fn poll_attempts(&mut self) -> (Vec<StartAttempt>, Vec<FetchEvent>) {
        let (mut starts, mut fetches, mut skipped) = (Vec::new(), Vec::new(), Vec::new());
        while self.in_flight < MAX_IN_FLIGHT && self.results.len() < MAX_UNRECORDED {
            let Some(id) = self.scheduler.ready.pop_front() else { break };
            let share = ((MAX_IN_FLIGHT - self.in_flight) / FREE_SLOTS_DIVISOR).max(1);
            match self.queues.get_mut(&id) {
                Some(queue) if queue.attempts.running() >= share => skipped.push(id),
                Some(queue) => {
                    queue.scheduled.is_ready = false;
                    self.start_next(id, &mut starts, &mut fetches);
                }
                None => {}
            }
        }
        self.scheduler.ready.extend(skipped);
        (starts, fetches)
    }

    /// Adds the subscription's next attempt to `starts`, or to `fetches` if its event is not in memory.
    fn start_next(
        &mut self,
        id: SubscriptionId,
        starts: &mut Vec<StartAttempt>,
        fetches: &mut Vec<FetchEvent>,
    ) {
        let (shard, now) = (shard_of(id), self.now);
        let is_active = self.ownership.is_active(shard);
        let started = self.with_queue(id, |queue| {
            let is_active = is_active && queue.is_delivering();
            let definition = &queue.subscription.definition;
            let started = is_active.then(|| queue.attempts.start(definition, now)).flatten()?;
            Some((started, Arc::clone(&queue.subscription)))
        });
        if let Some((started, subscription)) = started.flatten()
            && let Some(term) = self.ownership.start(shard)
        {
            self.in_flight += 1;
            match started {
                Started::Event(event) => {
                    starts.push(StartAttempt { subscription, event, number: 1, term });
                }
                Started::Fetch(position) => {
                    fetches.push(FetchEvent { subscription: id, position, term });
                }
            }
        }
    }

    /// Returns the attempt, which the caller must start. `None`, with the slot free again, if the subscription is no
    /// longer delivered to or the shard is lost.
    pub(crate) fn handle_fetched(
        &mut self,
        fetch: FetchEvent,
        event: Arc<Event>,
    ) -> Option<StartAttempt> {
        let FetchEvent { subscription: id, position, term } = fetch;
        let is_owned = self.ownership.term(shard_of(id)) == Some(term);
        let queue = self.queues.get(&id).filter(|queue| is_owned && queue.is_delivering());
        let start = queue.and_then(|queue| {
            let number = queue.attempts.attempt_number(position)?;
            let subscription = Arc::clone(&queue.subscription);
            Some(StartAttempt { subscription, event, number, term })
        });
        if start.is_none() {
            self.handle_fetch_error(fetch);
        }
        start
    }

    /// Ends the delivery of an event that retention has deleted.
    pub(crate) fn handle_missing_event(&mut self, fetch: FetchEvent) {
        let FetchEvent { subscription: id, position, term } = fetch;
        if !self.count_ended_attempt(id, term) {
            return;
        }
        let ended = self.with_queue(id, |queue| {
            let ended = queue.end_attempt(position);
            queue.attempts.release(ended.order_key);
            ended
        });
        if ended.is_some_and(|ended| ended.retry.is_some()) {
            self.results.set_retry(id, position, None);
        }
    }

    /// The attempt becomes due again.
    pub(crate) fn handle_fetch_error(&mut self, fetch: FetchEvent) {
        if self.count_ended_attempt(fetch.subscription, fetch.term) {
            self.with_queue(fetch.subscription, |queue| queue.attempts.return_slot(fetch.position));
        }
    }

    /// Counts an attempt, or the fetch of its event, as no longer in flight. Returns `false` if this node no longer
    /// owns the shard in this `term`: the caller then ignores the outcome.
    pub(super) fn count_ended_attempt(&mut self, id: SubscriptionId, term: i64) -> bool {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.ownership.end(shard_of(id), term)
    }
}
