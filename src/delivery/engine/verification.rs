//! Verification of receivers: which are verified next, and what follows from the result.

use std::sync::Arc;
use std::time::Duration;

use super::{Engine, VerificationResult, VerifyReceiver};
use crate::domain::delivery::retry_schedule::RetrySchedule;
use crate::domain::delivery::shard::shard_of;
use crate::domain::id::SubscriptionId;
use crate::domain::subscription::Subscription;
use crate::domain::subscription::transition::{GONE_REASON, StatusTransition};
use crate::domain::subscription::verification::{FailedVerification, VerificationOutcome};
use crate::domain::time::UnixMillis;

/// The hub tries to verify a receiver for at most this long after the latest request.
const MAX_VERIFICATION_TIME: Duration = Duration::from_secs(24 * 3_600);

impl Engine {
    /// Starts or stops the verification to match the loaded or changed subscription.
    pub(super) fn update_verification(&mut self, subscription: &Subscription) {
        let Subscription { id, tenant, .. } = subscription;
        let requested_at = subscription.verification_requested_at();
        self.verifications.update(*id, tenant, requested_at, self.now);
    }

    /// The next receiver to verify. `None`: no verification is due, or the limits on running ones are reached.
    pub(crate) fn poll_verification(&mut self) -> Option<VerifyReceiver> {
        while let Some(id) = self.verifications.start() {
            let shard = shard_of(id);
            let subscription = self.queues.get(&id).map(|queue| Arc::clone(&queue.subscription));
            let term = self.ownership.term(shard).filter(|_| self.ownership.is_active(shard));
            match subscription.zip(term) {
                Some((subscription, term)) => return Some(VerifyReceiver { subscription, term }),
                // The shard's next owner verifies it.
                None => self.verifications.abandon(id),
            }
        }
        None
    }

    /// Returns the failure, which the caller records for the subscription's owner; `None` after a success or for an
    /// outdated result. A 410 also disables the subscription.
    pub(crate) fn handle_verification(
        &mut self,
        result: &VerificationResult,
        now: UnixMillis,
    ) -> Option<FailedVerification> {
        let VerificationResult { request, attempted_at, outcome } = result;
        let VerifyReceiver { subscription, term } = request;
        self.verifications.end(&subscription.tenant);
        let id = subscription.id;
        let queue = self.queues.get(&id)?;
        let definition = &queue.subscription.definition;
        if !definition.has_same_verification(&subscription.definition)
            || !definition.awaits_verification()
        {
            return None;
        }
        let requested_at = definition.channel.verification()?.requested_at;
        let schedule = definition.delivery().retry_schedule(&self.schedule).into_owned();
        let give_up_after = schedule.give_up_after.min(MAX_VERIFICATION_TIME);
        let schedule = RetrySchedule { give_up_after, ..schedule };
        let (error, next_attempt_at) = match outcome {
            VerificationOutcome::Verified(verified) => {
                self.end_verification(id, StatusTransition::Verified(verified.clone()));
                return None;
            }
            VerificationOutcome::Gone => {
                self.end_verification(id, StatusTransition::Gone);
                (GONE_REASON.to_owned(), None)
            }
            VerificationOutcome::Unverified { reason, at_least } => {
                (reason.clone(), self.verifications.retry(id, &schedule, now, *at_least))
            }
        };
        Some(FailedVerification {
            subscription: id,
            term: *term,
            requested_at,
            attempted_at: *attempted_at,
            error,
            next_attempt_at,
        })
    }

    fn end_verification(&mut self, id: SubscriptionId, transition: StatusTransition) {
        self.verifications.rest(id);
        if let Some(queue) = self.queues.get_mut(&id) {
            queue.is_changing = true;
            self.transitions.push((Arc::clone(&queue.subscription), transition));
        }
    }
}
