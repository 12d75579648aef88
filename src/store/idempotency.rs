//! Answers kept for repeats of requests.

use super::{Store, StoreError, within};
use crate::values::position::Position;
use crate::values::sealed::Place;

/// An answer that was given before under the same key.
#[derive(Debug)]
pub struct KeptAnswer {
    /// Tells whether the same was asked.
    pub fingerprint: Vec<u8>,
    /// The answer's body.
    pub answer: Option<Vec<u8>>,
    /// The first entry in the log, of a request that made any.
    pub position: Option<Position>,
}

impl Store {
    /// The answer kept under a key in the last 24 hours.
    pub async fn kept_answer(
        &self,
        tenant: &str,
        key: &str,
    ) -> Result<Option<KeptAnswer>, StoreError> {
        let kept = within(
            sqlx::query!(
                "SELECT fingerprint, answer, position FROM idempotency_keys
                 WHERE tenant = $1 AND key = $2 AND created_at > clock_timestamp() - interval '24 hours'",
                tenant,
                key,
            )
            .fetch_optional(&self.pool),
        )
        .await?;
        let Some(kept) = kept else { return Ok(None) };
        let open = |sealed: Vec<u8>| self.open(&sealed, Place::Answer { tenant, key });
        Ok(Some(KeptAnswer {
            fingerprint: kept.fingerprint,
            answer: kept.answer.map(open).transpose()?,
            position: kept.position.map(Position::from_stored),
        }))
    }

    /// An answer as it is kept: it may hold a secret, so it is sealed.
    pub(super) fn seal_answer(
        &self,
        tenant: &str,
        key: &str,
        answer: &str,
    ) -> Result<Vec<u8>, StoreError> {
        let sealed = self.seal(answer.as_bytes(), Place::Answer { tenant, key })?;
        Ok(sealed.into_bytes())
    }

    /// Forgets a bounded number of keys that are over 24 hours old, and says how many.
    pub async fn forget_old_keys(&self) -> Result<u64, StoreError> {
        within(
            sqlx::query!(
                "DELETE FROM idempotency_keys WHERE ctid = ANY(ARRAY(
                     SELECT ctid FROM idempotency_keys
                     WHERE created_at <= clock_timestamp() - interval '24 hours' LIMIT 5000
                 ))"
            )
            .execute(&self.pool),
        )
        .await
        .map(|done| done.rows_affected())
    }
}
