//! Idempotency keys: stored responses, and claims of requests that run now.

use std::fmt;
use std::sync::Arc;

use uuid::Uuid;

use super::{Store, StoreError};
use crate::domain::access::idempotency::RequestKey;
use crate::domain::encryption::AssociatedData;
use crate::domain::position::Position;

/// The result of an earlier request with the same idempotency key.
pub struct StoredResponse {
    /// SHA-256 of the request: a different request with the same key is rejected.
    pub fingerprint: Vec<u8>,
    /// The position of the first log entry, if the request appended any.
    pub position: Option<Position>,
    /// The response body, if it cannot be built from the log.
    pub answer: Option<Vec<u8>>,
}

impl fmt::Debug for StoredResponse {
    /// Writes the log position only, since the response may contain the text of a key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredResponse").field("position", &self.position).finish_non_exhaustive()
    }
}

struct StoredResponseRow {
    fingerprint: Vec<u8>,
    position: Option<i64>,
    answer: Option<Vec<u8>>,
}

/// A claim of a key by a request that runs.
#[derive(Debug, Clone)]
pub struct StoredClaim {
    pub tenant: Arc<str>,
    pub key: String,
    pub token: Uuid,
}

impl Store {
    /// Selects and decrypts the result that a request stored in the last 24 hours; `None` if none did.
    pub async fn select_stored_response(
        &self,
        tenant: &str,
        key: &str,
    ) -> Result<Option<StoredResponse>, StoreError> {
        let row = self.fetch_optional(sqlx::query_as!(
            StoredResponseRow,
            "SELECT fingerprint, position, answer FROM idempotency_keys
             WHERE tenant = $1 AND key = $2 AND created_at > clock_timestamp() - interval '24 hours'",
            tenant,
            key,
        ))
        .await?;
        let Some(row) = row else { return Ok(None) };
        let open =
            |encrypted: Vec<u8>| self.decrypt(&encrypted, AssociatedData::Answer { tenant, key });
        Ok(Some(StoredResponse {
            fingerprint: row.fingerprint,
            position: row.position.map(Position::from_stored),
            answer: row.answer.map(open).transpose()?,
        }))
    }

    /// Encrypts a response body, which may contain a secret, for the row of this tenant and key.
    pub(super) fn encrypt_response(
        &self,
        tenant: &str,
        key: &str,
        answer: &str,
    ) -> Result<Vec<u8>, StoreError> {
        let encrypted = self.encrypt(answer.as_bytes(), AssociatedData::Answer { tenant, key })?;
        Ok(encrypted.into_bytes())
    }

    /// Stores the body `answer`, encrypted. False, without effect, if the key was used in the last 24 hours.
    pub async fn insert_stored_response(
        &self,
        tenant: &str,
        request: &RequestKey,
        answer: &str,
    ) -> Result<bool, StoreError> {
        let encrypted = self.encrypt_response(tenant, &request.key, answer)?;
        self.count_affected(sqlx::query!(
            "INSERT INTO idempotency_keys AS k (tenant, key, fingerprint, answer) VALUES ($1, $2, $3, $4)
             ON CONFLICT (tenant, key) DO UPDATE
             SET fingerprint = excluded.fingerprint, position = NULL, answer = excluded.answer,
                 created_at = excluded.created_at
             WHERE k.created_at <= clock_timestamp() - interval '24 hours'",
            tenant,
            request.key,
            request.fingerprint,
            encrypted,
        ))
        .await
        .map(|rows| rows > 0)
    }

    /// Claims a key; `token` identifies the claim. False while a request with this key runs on another live node. The
    /// claim of a request whose response is stored does not count.
    pub async fn insert_claim(
        &self,
        tenant: &str,
        key: &str,
        node: Uuid,
        token: Uuid,
    ) -> Result<bool, StoreError> {
        self.count_affected(sqlx::query!(
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
        ))
        .await
        .map(|rows| rows > 0)
    }

    /// Deletes claims that have ended, unless another request has claimed the key since.
    pub async fn delete_claims(&self, ended: &[StoredClaim]) -> Result<(), StoreError> {
        let tenants: Vec<&str> = ended.iter().map(|name| &*name.tenant).collect();
        let keys: Vec<&str> = ended.iter().map(|name| name.key.as_str()).collect();
        let tokens: Vec<Uuid> = ended.iter().map(|name| name.token).collect();
        self.execute(sqlx::query!(
            "DELETE FROM idempotency_claims c USING unnest($1::text[], $2::text[], $3::uuid[]) e(tenant, key, token)
             WHERE c.tenant = e.tenant AND c.key = e.key AND c.token = e.token",
            &tenants as _,
            &keys as _,
            &tokens,
        )).await
    }

    /// Deletes the claims of nodes that no longer have a row in the table of nodes, and returns the number of claims.
    pub async fn delete_dead_claims(&self) -> Result<u64, StoreError> {
        self.count_affected(sqlx::query!(
            "DELETE FROM idempotency_claims c WHERE NOT EXISTS (SELECT FROM nodes n WHERE n.id = c.node)"
        ))
        .await
    }

    /// Deletes up to 5,000 responses that are over 24 hours old, and returns how many.
    pub async fn delete_old_responses(&self) -> Result<u64, StoreError> {
        self.count_affected(sqlx::query!(
            "DELETE FROM idempotency_keys WHERE ctid = ANY(ARRAY(
                 SELECT ctid FROM idempotency_keys
                 WHERE created_at <= clock_timestamp() - interval '24 hours' LIMIT 5000
             ))"
        ))
        .await
    }
}
