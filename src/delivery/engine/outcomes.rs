//! Consequences of the outcome of an attempt: delivered, retried, exhausted, or a change of the subscription's status.

use std::sync::Arc;

use super::aimd::Response;
use super::results::AttemptSummary;
use super::{AttemptResult, Engine, SubscriptionQueue};
use crate::domain::delivery::exhausted::Exhausted;
use crate::domain::delivery::outcome::Verdict;
use crate::domain::delivery::retry::Retry;
use crate::domain::id::SubscriptionId;
use crate::domain::subscription::transition::StatusTransition;
use crate::domain::subscription::{Status, Subscription};
use crate::domain::time::UnixMillis;

/// How a delivery goes on after an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Consequence {
    Delivered,
    RetryAt(UnixMillis),
    /// The breaker has been open for as long as the schedule lasts: the delivery waits with all others.
    DisableFailing,
    /// The receiver wants nothing more: the delivery waits with all others.
    DisableGone,
    Exhausted,
}

impl Engine {
    /// Handles the result of an attempt: updates the receiver's health, and decides whether the delivery has ended,
    /// gets a retry or is exhausted. A 410, or a breaker open for as long as the retry schedule, disables the
    /// subscription. Ignores the result of an earlier term.
    pub(crate) fn handle_outcome(&mut self, result: AttemptResult, now: UnixMillis) {
        let AttemptResult { attempt, outcome, term } = result;
        let (id, position, number) = (attempt.subscription, attempt.position, attempt.number);
        if !self.count_ended_attempt(id, term) {
            return;
        }
        let (started_at, latency) = (attempt.id.time(), attempt.latency());
        self.note_in_replays(&AttemptSummary::of(&attempt));
        self.results.add_attempt(attempt);
        let schedule = &self.schedule;
        let Some(queue) = self.queues.get_mut(&id) else { return };
        let response = Response { outcome: &outcome, started_at, latency };
        let definition = &queue.subscription.definition;
        queue.attempts.receiver.handle_response(definition, &response, now);
        let ended = queue.end_attempt(position);
        let first_attempt = ended.retry.map_or(started_at, |retry| retry.first_attempt);
        let consequence = match outcome.verdict() {
            Verdict::Delivered => Consequence::Delivered,
            Verdict::Gone => Consequence::DisableGone,
            Verdict::Retry { at_least } => {
                let schedule = queue.subscription.definition.delivery().retry_schedule(schedule);
                let failing_since = queue.attempts.receiver.failing_since();
                if failing_since.is_some_and(|since| schedule.is_over(since, now)) {
                    Consequence::DisableFailing
                } else {
                    let due = schedule.next(number, first_attempt, now, at_least);
                    due.map_or(Consequence::Exhausted, Consequence::RetryAt)
                }
            }
        };
        let due = match consequence {
            Consequence::RetryAt(due) => Some(due),
            Consequence::DisableFailing | Consequence::DisableGone => Some(now),
            Consequence::Delivered | Consequence::Exhausted => None,
        };
        if let Some(due) = due {
            let retry = Retry { attempts: number, due, first_attempt, order_key: ended.order_key };
            // The order key stays busy.
            queue.attempts.retries.set(position, retry);
            self.scheduler.add_retry(due, id, position);
            self.results.set_retry(id, position, Some(retry));
        } else {
            queue.attempts.release(ended.order_key);
            let had_retry = ended.retry.is_some();
            if consequence == Consequence::Exhausted {
                let subscription = Arc::clone(&queue.subscription);
                self.exhausted.push(Exhausted {
                    subscription,
                    position,
                    attempts: number,
                    waited: had_retry,
                });
            } else if had_retry {
                self.results.set_retry(id, position, None);
            }
        }
        match consequence {
            Consequence::DisableGone => self.disable(id, StatusTransition::Gone),
            Consequence::DisableFailing => self.disable(id, StatusTransition::GivenUp),
            _ => self.update_status(id),
        }
        self.reschedule(id);
    }

    /// Removes the delivery's recorded retry, unless a new attempt was requested meanwhile.
    pub(crate) fn handle_exhausted_published(&mut self, exhausted: &Exhausted) {
        let (id, position) = (exhausted.subscription.id, exhausted.position);
        let is_over = |queue: &SubscriptionQueue| {
            queue.attempts.retries.get(position).is_none() && !queue.is_in_progress(position)
        };
        if exhausted.waited && self.queues.get(&id).is_some_and(is_over) {
            self.results.set_retry(id, position, None);
        }
    }

    /// Takes the deliveries for which the driver must append `hookhub.delivery.exhausted`.
    pub(crate) fn poll_exhausted(&mut self) -> Vec<Exhausted> {
        std::mem::take(&mut self.exhausted)
    }

    /// Queues a change of status to match the circuit breaker: `failing` while open, `active` while closed.
    fn update_status(&mut self, id: SubscriptionId) {
        let Some(queue) = self.queues.get_mut(&id).filter(|queue| !queue.is_changing) else {
            return;
        };
        let failing_since = queue.attempts.receiver.failing_since();
        let transition = match (queue.subscription.status, failing_since) {
            (Status::Active, Some(_)) => StatusTransition::Failing,
            (Status::Failing, None) => StatusTransition::Recovered,
            _ => return,
        };
        queue.is_changing = true;
        self.transitions.push((Arc::clone(&queue.subscription), transition));
    }

    /// Queues `transition`, and starts no more attempts, even before the database has the change.
    fn disable(&mut self, id: SubscriptionId, transition: StatusTransition) {
        if let Some(queue) = self.queues.get_mut(&id)
            && let Some(former) = queue.halt()
        {
            queue.is_changing = true;
            self.transitions.push((former, transition));
        }
    }

    /// Takes the changes of status to write, each with the subscription before the change.
    pub(crate) fn poll_transitions(&mut self) -> Vec<(Arc<Subscription>, StatusTransition)> {
        std::mem::take(&mut self.transitions)
    }

    /// The change is in the database, or was dropped because it no longer applies.
    pub(crate) fn handle_transition_applied(&mut self, id: SubscriptionId) {
        if let Some(queue) = self.queues.get_mut(&id) {
            queue.is_changing = false;
            self.update_status(id);
            self.reschedule(id);
        }
    }
}
