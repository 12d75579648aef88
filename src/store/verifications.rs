//! How far handshakes have come that receivers have not agreed to, for their owners to look at.

use super::{Store, StoreError, within};
use crate::domain::delivery::shard::shard_of;
use crate::domain::id::SubscriptionId;
use crate::domain::subscription::verification::FailedVerification;
use crate::domain::time::UnixMillis;

/// How far a handshake has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verification {
    /// How often the receiver was asked.
    pub attempts: u32,
    /// When that was last.
    pub last_attempt_at: UnixMillis,
    /// What came of it.
    pub last_error: String,
    /// When it is asked again, if it is.
    pub next_attempt_at: Option<UnixMillis>,
}

impl Store {
    /// Notes an attempt, if the shard is still owned in its term.
    pub async fn upsert_verification(&self, tried: &FailedVerification) -> Result<(), StoreError> {
        within(
            sqlx::query!(
                "INSERT INTO verifications AS v
                     (subscription, asked_at, attempts, last_attempt_at, last_error, next_attempt_at)
                 SELECT $1, $2, 1, $3, $4, $5 FROM shards s WHERE s.shard = $6 AND s.term = $7
                 ON CONFLICT (subscription) DO UPDATE
                 SET attempts = CASE WHEN v.asked_at = excluded.asked_at THEN v.attempts + 1 ELSE 1 END,
                     asked_at = excluded.asked_at, last_attempt_at = excluded.last_attempt_at,
                     last_error = excluded.last_error, next_attempt_at = excluded.next_attempt_at",
                tried.subscription.stored(),
                tried.requested_at.as_i64(),
                tried.attempted_at.as_i64(),
                tried.error,
                tried.next_attempt_at.map(UnixMillis::as_i64),
                i16::try_from(shard_of(tried.subscription)).unwrap_or(i16::MAX),
                tried.term,
            )
            .execute(&self.pool),
        )
        .await
        .map(drop)
    }

    /// How far the handshake of a subscription has come that is asked for since then; `None` before its first attempt.
    pub async fn select_verification(
        &self,
        subscription: SubscriptionId,
        asked_at: UnixMillis,
    ) -> Result<Option<Verification>, StoreError> {
        let row = within(
            sqlx::query!(
                "SELECT attempts, last_attempt_at, last_error, next_attempt_at FROM verifications
                 WHERE subscription = $1 AND asked_at = $2",
                subscription.stored(),
                asked_at.as_i64(),
            )
            .fetch_optional(&self.pool),
        );
        Ok(row.await?.map(|row| Verification {
            attempts: row.attempts.unsigned_abs(),
            last_attempt_at: UnixMillis::from_i64(row.last_attempt_at),
            last_error: row.last_error,
            next_attempt_at: row.next_attempt_at.map(UnixMillis::from_i64),
        }))
    }

    /// Forgets the handshakes that were agreed to, or whose subscriptions are deleted.
    pub async fn delete_verifications(&self) -> Result<u64, StoreError> {
        within(
            sqlx::query!(
                "DELETE FROM verifications v USING subscriptions s
                 WHERE s.id = v.subscription AND (s.deleted OR s.status IN ('active', 'failing'))"
            )
            .execute(&self.pool),
        )
        .await
        .map(|done| done.rows_affected())
    }
}
