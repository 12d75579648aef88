//! Attempts: what begins, and what follows from how it ended.

use std::sync::Arc;

use super::queue::{Begun, Ended};
use super::results::Noted;
use super::{AttemptResult, Engine, FetchEvent, StartAttempt, SubscriptionQueue};
use crate::domain::delivery::exhausted::Exhausted;
use crate::domain::delivery::outcome::Verdict;
use crate::domain::delivery::retry::Retry;
use crate::domain::delivery::shard::shard_of;
use crate::domain::event::Event;
use crate::domain::id::SubscriptionId;
use crate::domain::position::Position;
use crate::domain::subscription::transition::StatusTransition;
use crate::domain::subscription::{Status, Subscription};
use crate::domain::time::UnixMillis;

/// How many deliveries run at once on a node.
const MOST_IN_FLIGHT: usize = 4_096;
/// One subscription gets at most this part of what is free of them, so that many that hang leave room for the others.
const SHARE: usize = 8;
/// With so many results not recorded yet (the database is away) nothing new is begun.
const MOST_UNRECORDED: usize = 20_000;

impl Engine {
    /// Acts on what came of an attempt.
    pub(crate) fn handle_outcome(&mut self, made: AttemptResult, now: UnixMillis) {
        let AttemptResult { attempt, outcome, term } = made;
        let (id, position, number) = (attempt.subscription, attempt.position, attempt.number);
        if !self.end(id, term) {
            return;
        }
        let (began, latency) = (attempt.id.time(), attempt.latency());
        self.note_for_replays(&Noted::of(&attempt));
        self.results.attempt(attempt);
        let Some(queue) = self.queues.get_mut(&id) else { return };
        queue.note_outcome(&outcome, (began, latency), now);
        let ended = queue.end_attempt(position);
        let first_attempt = ended.before.map_or(began, |retry| retry.first_attempt);
        let schedule = queue.subscription.definition.delivery().retry_schedule(&self.schedule);
        let given_up = queue.failing_since().is_some_and(|since| schedule.is_over(since, now));
        let due = match outcome.verdict() {
            Verdict::Delivered => None,
            Verdict::Gone => Some(now),
            // It is parked with all the others, not exhausted alone.
            Verdict::Retry { .. } if given_up => Some(now),
            Verdict::Retry { at_least } => schedule.next(number, first_attempt, now, at_least),
        };
        if let Some(due) = due {
            let retry = Retry { attempts: number, due, first_attempt, order_key: ended.order_key };
            self.wait_again(id, position, retry);
        } else {
            let exhausted = (outcome.verdict() != Verdict::Delivered).then_some(number);
            self.finish(id, position, ended, exhausted);
        }
        match outcome.verdict() {
            Verdict::Gone => self.turn(id, StatusTransition::Gone),
            Verdict::Retry { .. } if given_up => self.turn(id, StatusTransition::GivenUp),
            _ => self.note_turn(id),
        }
        self.touch(id);
    }

    fn wait_again(&mut self, id: SubscriptionId, position: Position, retry: Retry) {
        if let Some(queue) = self.queues.get_mut(&id) {
            queue.wait_again(position, retry);
            self.record_retry(id, position, retry);
        }
    }

    /// A delivery has come to its end: delivered, or with so many attempts `exhausted`.
    fn finish(
        &mut self,
        id: SubscriptionId,
        position: Position,
        ended: Ended,
        exhausted: Option<u16>,
    ) {
        let Some(queue) = self.queues.get_mut(&id) else { return };
        queue.release(ended.order_key);
        if let Some(attempts) = exhausted {
            let subscription = Arc::clone(&queue.subscription);
            let waited = ended.before.is_some();
            self.exhausted.push(Exhausted { subscription, position, attempts, waited });
        } else if ended.before.is_some() {
            self.results.retry(id, position, None);
        }
    }

    /// It was told that a delivery was given up: it is off the record, unless it was asked for again meanwhile.
    pub(crate) fn handle_exhausted_published(&mut self, told: &Exhausted) {
        let (id, position) = (told.subscription.id, told.position);
        let is_over = |queue: &SubscriptionQueue| {
            queue.retry(position).is_none() && !queue.is_under_way(position)
        };
        if told.waited && self.queues.get(&id).is_some_and(is_over) {
            self.results.retry(id, position, None);
        }
    }

    /// Deliveries given up since last asked.
    pub(crate) fn poll_exhausted(&mut self) -> Vec<Exhausted> {
        std::mem::take(&mut self.exhausted)
    }

    /// Has a subscription's status say what its receiver does.
    fn note_turn(&mut self, id: SubscriptionId) {
        let Some(queue) = self.queues.get(&id).filter(|queue| !queue.is_changing) else { return };
        match (queue.subscription.status, queue.failing_since()) {
            (Status::Active, Some(_)) => self.turn(id, StatusTransition::Failing),
            (Status::Failing, None) => self.turn(id, StatusTransition::Recovered),
            _ => {}
        }
    }

    /// Has a subscription's status changed; where that ends it, nothing more is begun for it.
    fn turn(&mut self, id: SubscriptionId, turn: StatusTransition) {
        let Some(queue) = self.queues.get_mut(&id) else { return };
        let subscription =
            if turn.is_disabling() { queue.halt() } else { Some(Arc::clone(&queue.subscription)) };
        if let Some(subscription) = subscription {
            queue.is_changing = true;
            self.turns.push((subscription, turn));
        }
    }

    /// Changes of status since last asked; each is answered by [`Self::handle_transition_applied`] when it is made.
    pub(crate) fn poll_transitions(&mut self) -> Vec<(Arc<Subscription>, StatusTransition)> {
        std::mem::take(&mut self.turns)
    }

    /// A change of status was made, or is no longer wanted.
    pub(crate) fn handle_transition_applied(&mut self, id: SubscriptionId) {
        if let Some(queue) = self.queues.get_mut(&id) {
            queue.is_changing = false;
            self.note_turn(id);
            self.touch(id);
        }
    }

    /// First tries to begin now, and others, whose events must be fetched first.
    pub(crate) fn poll_attempts(&mut self) -> (Vec<StartAttempt>, Vec<FetchEvent>) {
        let (mut starts, mut fetches, mut passed_over) = (Vec::new(), Vec::new(), Vec::new());
        while self.in_flight < MOST_IN_FLIGHT && self.results.len() < MOST_UNRECORDED {
            let Some(id) = self.line.pop_front() else { break };
            let shard = shard_of(id);
            let Some(queue) = self.queues.get_mut(&id) else { continue };
            let most = ((MOST_IN_FLIGHT - self.in_flight) / SHARE).max(1);
            if queue.running() >= most {
                passed_over.push(id);
                continue;
            }
            queue.lines.to_begin = false;
            let begun = self.ownership.may_begin(shard).then(|| queue.begin(self.now)).flatten();
            if let Some(begun) = begun
                && let Some(term) = self.ownership.begin(shard)
            {
                self.in_flight += 1;
                match begun {
                    Begun::Event(event) => {
                        let subscription = Arc::clone(&queue.subscription);
                        starts.push(StartAttempt { subscription, event, number: 1, term });
                    }
                    Begun::FetchEvent(position) => fetches.push(FetchEvent { id, position, term }),
                }
            }
            self.touch(id);
        }
        self.line.extend(passed_over);
        (starts, fetches)
    }

    /// The event was fetched; the attempt begins, unless its subscription has been stopped meanwhile.
    pub(crate) fn handle_fetched(
        &mut self,
        fetch: FetchEvent,
        event: Arc<Event>,
    ) -> Option<StartAttempt> {
        let FetchEvent { id, position, term } = fetch;
        let is_owned = self.ownership.term(shard_of(id)) == Some(term);
        let queue = self.queues.get_mut(&id).filter(|queue| is_owned && queue.is_delivering());
        let started = queue.and_then(|queue| {
            let (subscription, number) =
                (Arc::clone(&queue.subscription), queue.fetched(position)?);
            Some(StartAttempt { subscription, event, number, term })
        });
        if started.is_none() {
            self.handle_fetch_error(fetch);
        }
        started
    }

    /// The event is no longer kept: the delivery ends.
    pub(crate) fn handle_missing_event(&mut self, fetch: FetchEvent) {
        if self.end(fetch.id, fetch.term)
            && let Some(queue) = self.queues.get_mut(&fetch.id)
        {
            let ended = queue.end_attempt(fetch.position);
            self.finish(fetch.id, fetch.position, ended, None);
            self.touch(fetch.id);
        }
    }

    /// The event could not be fetched for now, or is not to be sent.
    pub(crate) fn handle_fetch_error(&mut self, fetch: FetchEvent) {
        if self.end(fetch.id, fetch.term) {
            self.with_queue(fetch.id, |queue| queue.put_back(fetch.position));
        }
    }

    /// Something that began in `term` has ended; whether that still matters here.
    fn end(&mut self, id: SubscriptionId, term: i64) -> bool {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.ownership.end(shard_of(id), term)
    }
}
