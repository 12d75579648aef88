//! What was answered under a request's own key, and which requests under one run.

use std::fmt;
use std::sync::Arc;

use uuid::Uuid;

use super::{Store, StoreError, within};
use crate::domain::access::idempotency::RequestKey;
use crate::domain::encryption::AssociatedData;
use crate::domain::position::Position;

/// What a request came to that was made before under the same key.
pub struct Kept {
    /// Tells whether the same was asked.
    pub fingerprint: Vec<u8>,
    /// Its first entry in the log, where it made any.
    pub position: Option<Position>,
    /// The answer's body, where that cannot be built from the log.
    pub answer: Option<Vec<u8>>,
}

impl fmt::Debug for Kept {
    /// Without the answer, which may hold a key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kept").field("position", &self.position).finish_non_exhaustive()
    }
}

struct KeptRow {
    fingerprint: Vec<u8>,
    position: Option<i64>,
    answer: Option<Vec<u8>>,
}

/// How the other nodes know a request that runs under a key.
#[derive(Debug, Clone)]
pub struct ClaimName {
    /// Whose key it is.
    pub tenant: Arc<str>,
    /// The key.
    pub key: String,
    /// The claim's own.
    pub token: Uuid,
}

impl Store {
    /// What is kept under a key from the last 24 hours.
    pub async fn select_stored_response(
        &self,
        tenant: &str,
        key: &str,
    ) -> Result<Option<Kept>, StoreError> {
        let row = within(
            sqlx::query_as!(
                KeptRow,
                "SELECT fingerprint, position, answer FROM idempotency_keys
                 WHERE tenant = $1 AND key = $2 AND created_at > clock_timestamp() - interval '24 hours'",
                tenant,
                key,
            )
            .fetch_optional(&self.pool),
        )
        .await?;
        let Some(row) = row else { return Ok(None) };
        let open = |sealed: Vec<u8>| self.decrypt(&sealed, AssociatedData::Answer { tenant, key });
        Ok(Some(Kept {
            fingerprint: row.fingerprint,
            position: row.position.map(Position::from_stored),
            answer: row.answer.map(open).transpose()?,
        }))
    }

    /// An answer as it is kept: it may hold a secret, so it is sealed.
    pub(super) fn encrypt_response(
        &self,
        tenant: &str,
        key: &str,
        answer: &str,
    ) -> Result<Vec<u8>, StoreError> {
        let sealed = self.encrypt(answer.as_bytes(), AssociatedData::Answer { tenant, key })?;
        Ok(sealed.into_bytes())
    }

    /// Keeps what is answered to a request that is on record nowhere else. False, and nothing is kept, when another
    /// request under its key was there first.
    pub async fn insert_stored_response(
        &self,
        tenant: &str,
        request: &RequestKey,
        answer: &str,
    ) -> Result<bool, StoreError> {
        let sealed = self.encrypt_response(tenant, &request.key, answer)?;
        within(
            sqlx::query!(
                "INSERT INTO idempotency_keys AS k (tenant, key, fingerprint, answer) VALUES ($1, $2, $3, $4)
                 ON CONFLICT (tenant, key) DO UPDATE
                 SET fingerprint = excluded.fingerprint, position = NULL, answer = excluded.answer,
                     created_at = excluded.created_at
                 WHERE k.created_at <= clock_timestamp() - interval '24 hours'",
                tenant,
                request.key,
                request.fingerprint,
                sealed,
            )
            .execute(&self.pool),
        )
        .await
        .map(|done| done.rows_affected() > 0)
    }

    /// Shows the other nodes that a request under a key runs on `node`. False: one runs on another node. Where it is on
    /// record what was done under the key, none runs any more.
    pub async fn insert_claim(
        &self,
        tenant: &str,
        key: &str,
        node: Uuid,
        token: Uuid,
    ) -> Result<bool, StoreError> {
        within(
            sqlx::query!(
                "INSERT INTO idempotency_claims AS c (tenant, key, node, token) VALUES ($1, $2, $3, $4)
                 ON CONFLICT (tenant, key) DO UPDATE SET node = excluded.node, token = excluded.token
                 WHERE c.node = excluded.node
                    OR NOT EXISTS (SELECT FROM nodes n WHERE n.id = c.node AND n.leased_until >= clock_timestamp())
                    OR EXISTS (
                        SELECT FROM idempotency_keys k WHERE k.tenant = c.tenant AND k.key = c.key
                           AND k.created_at > clock_timestamp() - interval '24 hours'
                    )",
                tenant,
                key,
                node,
                token,
            )
            .execute(&self.pool),
        )
        .await
        .map(|done| done.rows_affected() > 0)
    }

    /// These requests do not run any more.
    pub async fn delete_claims(&self, ended: &[ClaimName]) -> Result<(), StoreError> {
        let tenants: Vec<&str> = ended.iter().map(|name| &*name.tenant).collect();
        let keys: Vec<&str> = ended.iter().map(|name| name.key.as_str()).collect();
        let tokens: Vec<Uuid> = ended.iter().map(|name| name.token).collect();
        within(
            sqlx::query!(
                "DELETE FROM idempotency_claims c USING unnest($1::text[], $2::text[], $3::uuid[]) e(tenant, key, token)
                 WHERE c.tenant = e.tenant AND c.key = e.key AND c.token = e.token",
                &tenants as _,
                &keys as _,
                &tokens,
            )
            .execute(&self.pool),
        )
        .await
        .map(drop)
    }

    /// Forgets the claims of nodes that are no more.
    pub async fn delete_dead_claims(&self) -> Result<u64, StoreError> {
        within(
            sqlx::query!(
                "DELETE FROM idempotency_claims c WHERE NOT EXISTS (SELECT FROM nodes n WHERE n.id = c.node)"
            )
            .execute(&self.pool),
        )
        .await
        .map(|done| done.rows_affected())
    }

    /// Forgets a bounded number of keys that are over 24 hours old, and says how many.
    pub async fn delete_old_responses(&self) -> Result<u64, StoreError> {
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
