//! The attempts that one subscription may start next: first attempts, due retries, or a probe of a failing receiver.

use std::collections::HashMap;
use std::sync::Arc;

use super::lanes::{FirstAttempt, Lanes};
use super::receiver::Receiver;
use super::retries::Retries;
use crate::domain::delivery::retry::Retry;
use crate::domain::event::Event;
use crate::domain::position::Position;
use crate::domain::subscription::Definition;
use crate::domain::time::UnixMillis;

/// With this many retries and running first attempts no first attempt starts, unless as a probe.
const MAX_RETRIES: usize = 10_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    First,
    /// A due retry.
    Due(Position),
    /// The oldest retry, due or not, as a probe.
    Oldest(Position),
}

/// An attempt that occupies a slot.
#[derive(Debug)]
pub(super) enum Started {
    Event(Arc<Event>),
    /// The event at this position must be fetched first.
    Fetch(Position),
}

/// An attempt that has ended. Its order key stays busy until it is released, or until the retry that follows ends.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ended {
    /// The retry that this attempt was. `None`: it was a first attempt.
    pub(super) retry: Option<Retry>,
    pub(super) order_key: Option<i64>,
}

/// The attempts of one subscription: waiting, due and running.
#[derive(Debug)]
pub(super) struct AttemptQueue {
    pub(super) waiting: Lanes,
    pub(super) retries: Retries,
    pub(super) receiver: Receiver,
    running_first_attempts: usize,
    /// The order keys of the running first attempts that have one.
    running_keys: HashMap<Position, i64>,
    /// Whether the latest attempt was a retry.
    was_retry: bool,
}

impl AttemptQueue {
    pub(super) fn new(receiver: Receiver) -> Self {
        Self {
            waiting: Lanes::default(),
            retries: Retries::default(),
            receiver,
            running_first_attempts: 0,
            running_keys: HashMap::new(),
            was_retry: false,
        }
    }

    /// Attempts whose event is being fetched are included.
    pub(super) fn running(&self) -> usize {
        self.running_first_attempts + self.retries.running()
    }

    /// Whether a replay may add retries: fewer than `max` exist, or none if the circuit breaker is open.
    pub(super) fn accepts_replays(&self, max: usize) -> bool {
        // A replayed delivery may be all that a failing receiver can be probed with.
        let max = if self.receiver.failing_since().is_some() { 1 } else { max };
        self.retries.len() < max
    }

    pub(super) fn can_start(&mut self, definition: &Definition, now: UnixMillis) -> bool {
        self.next(definition, now).is_some()
    }

    /// The attempt to start next; `None`: none may start. First attempts come before retries, but one slot is kept for
    /// due retries.
    fn next(&mut self, definition: &Definition, now: UnixMillis) -> Option<Next> {
        let concurrency = self.receiver.concurrency(definition);
        if self.running() >= concurrency || self.receiver.limited_until(definition, now) > now {
            return None;
        }
        if self.receiver.failing_since().is_some() {
            return self.next_while_failing(now);
        }
        let has_first = self.retries.len() + self.running_first_attempts < MAX_RETRIES
            && self.waiting.has_first();
        // With a single slot, first attempts and retries alternate.
        let serves_retries = self.retries.running() == 0 && (concurrency > 1 || !self.was_retry);
        match (has_first, self.retries.next_due()) {
            (_, Some(due)) if serves_retries => Some(Next::Due(due)),
            (true, _) => Some(Next::First),
            (false, due) => due.map(Next::Due),
        }
    }

    /// With an open breaker: a probe if its time has come, else a due retry.
    fn next_while_failing(&mut self, now: UnixMillis) -> Option<Next> {
        if self.receiver.probe_at().is_some_and(|at| at > now) {
            return self.retries.next_due().map(Next::Due);
        }
        // Probing with an event without attempts prefers events that the receiver may accept to those it refused.
        let first = self.waiting.has_first().then_some(Next::First);
        first.or(self.retries.oldest().map(Next::Oldest))
    }

    /// When the rate limit or the probe interval permits an attempt. `None`: the queue does not wait for time.
    pub(super) fn ready_at(
        &mut self,
        definition: &Definition,
        now: UnixMillis,
    ) -> Option<UnixMillis> {
        if self.running() >= self.receiver.concurrency(definition) {
            return None;
        }
        let has_due = self.retries.next_due().is_some();
        let has_waiting = has_due || self.waiting.has_first();
        let probe_at = self.receiver.probe_at().filter(|_| !has_due);
        let has_probe = probe_at.is_some() && (has_waiting || self.retries.len() > 0);
        let at = self.receiver.limited_until(definition, now).max(probe_at.unwrap_or(now));
        (at > now && (has_waiting || has_probe)).then_some(at)
    }

    /// Starts the next attempt, which occupies a slot until [`Self::end_attempt`] or [`Self::return_slot`]. `None`:
    /// none may start.
    pub(super) fn start(&mut self, definition: &Definition, now: UnixMillis) -> Option<Started> {
        let next = self.next(definition, now)?;
        self.receiver.start_attempt(definition, now);
        self.was_retry = next != Next::First;
        match next {
            Next::First => self.start_first(),
            Next::Due(position) | Next::Oldest(position) => {
                self.retries.start(position);
                Some(Started::Fetch(position))
            }
        }
    }

    fn start_first(&mut self) -> Option<Started> {
        let (first, key) = self.waiting.start()?;
        self.running_first_attempts += 1;
        let (position, started) = match first {
            FirstAttempt::Event(event) => (event.position, Started::Event(event)),
            FirstAttempt::Position(position) => (position, Started::Fetch(position)),
        };
        if let Some(key) = key {
            self.running_keys.insert(position, key);
        }
        Some(started)
    }

    /// The number, from 1, of a running attempt whose event is fetched. `None`: the event has no such attempt.
    pub(super) fn attempt_number(&self, position: Position) -> Option<u16> {
        if self.retries.is_running(position) {
            return self.retries.get(position).map(|retry| retry.attempts.saturating_add(1));
        }
        self.running_keys.contains_key(&position).then_some(1)
    }

    /// Frees the slot of an attempt whose event was not read, and makes the attempt due again.
    pub(super) fn return_slot(&mut self, position: Position) {
        if self.retries.return_slot(position) {
            return;
        }
        if let Some(key) = self.running_keys.remove(&position) {
            self.running_first_attempts -= 1;
            self.waiting.return_slot(key, position);
        }
    }

    /// Frees the attempt's slot and removes its retry. The order key stays busy until [`Self::release`].
    pub(super) fn end_attempt(&mut self, position: Position) -> Ended {
        if let Some(retry) = self.retries.end(position) {
            return Ended { retry: Some(retry), order_key: retry.order_key };
        }
        self.running_first_attempts = self.running_first_attempts.saturating_sub(1);
        Ended { retry: None, order_key: self.running_keys.remove(&position) }
    }

    /// Frees the order key of a delivery that has ended, so that the next event with this key may start.
    pub(super) fn release(&mut self, order_key: Option<i64>) {
        if let Some(key) = order_key {
            self.waiting.release(key);
        }
    }

    /// Adds or replaces the event's retry. A new retry makes the order key busy.
    pub(super) fn add_retry(&mut self, position: Position, retry: Retry) {
        if self.retries.set(position, retry)
            && let Some(key) = retry.order_key
        {
            self.waiting.occupy(key);
        }
    }
}
