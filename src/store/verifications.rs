//! The progress of pending verifications, for display to the subscription's owner.

use super::{Store, StoreError};
use crate::domain::delivery::shard::shard_of;
use crate::domain::id::SubscriptionId;
use crate::domain::subscription::verification::FailedVerification;
use crate::domain::time::UnixMillis;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerificationProgress {
    pub attempts: u32,
    pub last_attempt_at: UnixMillis,
    pub last_error: String,
    /// `None`: the hub makes another attempt only on request.
    pub next_attempt_at: Option<UnixMillis>,
}

impl Store {
    /// Stores a failed attempt and counts it, unless the shard's term is no longer `failed.term`.
    pub async fn upsert_verification(&self, failed: &FailedVerification) -> Result<(), StoreError> {
        self.execute(sqlx::query!(
            "INSERT INTO verifications AS v
                 (subscription, asked_at, attempts, last_attempt_at, last_error, next_attempt_at)
             SELECT $1, $2, 1, $3, $4, $5 FROM shards s WHERE s.shard = $6 AND s.term = $7
             ON CONFLICT (subscription) DO UPDATE
             SET attempts = CASE WHEN v.asked_at = excluded.asked_at THEN v.attempts + 1 ELSE 1 END,
                 asked_at = excluded.asked_at, last_attempt_at = excluded.last_attempt_at,
                 last_error = excluded.last_error, next_attempt_at = excluded.next_attempt_at",
            failed.subscription.stored(),
            failed.requested_at.as_i64(),
            failed.attempted_at.as_i64(),
            failed.error,
            failed.next_attempt_at.map(UnixMillis::as_i64),
            i16::try_from(shard_of(failed.subscription)).unwrap_or(i16::MAX),
            failed.term,
        ))
        .await
    }

    /// Selects the progress of the verification requested at `requested_at`; `None` before its first attempt.
    pub async fn select_verification(
        &self,
        subscription: SubscriptionId,
        requested_at: UnixMillis,
    ) -> Result<Option<VerificationProgress>, StoreError> {
        let row = self.fetch_optional(sqlx::query!(
            "SELECT attempts, last_attempt_at, last_error, next_attempt_at FROM verifications
             WHERE subscription = $1 AND asked_at = $2",
            subscription.stored(),
            requested_at.as_i64(),
        ));
        Ok(row.await?.map(|row| VerificationProgress {
            attempts: row.attempts.unsigned_abs(),
            last_attempt_at: UnixMillis::from_i64(row.last_attempt_at),
            last_error: row.last_error,
            next_attempt_at: row.next_attempt_at.map(UnixMillis::from_i64),
        }))
    }

    /// Deletes the progress of active, failing and deleted subscriptions. Returns the number of rows.
    pub async fn delete_verifications(&self) -> Result<u64, StoreError> {
        self.count_affected(sqlx::query!(
            "DELETE FROM verifications v USING subscriptions s
             WHERE s.id = v.subscription AND (s.deleted OR s.status IN ('active', 'failing'))"
        ))
        .await
    }
}
