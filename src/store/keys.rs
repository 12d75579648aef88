//! API keys, known by their hash alone.

use super::log::RequestKey;
use super::{Store, StoreError, within};
use crate::values::id::KeyId;
use crate::values::time::UnixMillis;

/// An API key as it is kept.
#[derive(Debug, Clone)]
pub struct StoredKey {
    /// Its id.
    pub id: KeyId,
    /// Whose it is.
    pub tenant: String,
    /// A note for people.
    pub name: String,
    /// When it was made.
    pub created_at: UnixMillis,
}

struct KeyRow {
    id: i64,
    tenant: String,
    name: String,
    created_at: i64,
}

impl From<KeyRow> for StoredKey {
    fn from(row: KeyRow) -> Self {
        Self {
            id: KeyId::from_stored(row.id),
            tenant: row.tenant,
            name: row.name,
            created_at: UnixMillis::from_i64(row.created_at),
        }
    }
}

impl Store {
    /// Keeps a new key, and under the request's own key what is answered. False, and nothing is kept, when another
    /// request under that key was there first.
    pub async fn insert_key(
        &self,
        key: &StoredKey,
        hash: &[u8],
        answer: Option<(&RequestKey, &str)>,
    ) -> Result<bool, StoreError> {
        let seal = |(request, answer): (&RequestKey, &str)| {
            self.seal_answer(&key.tenant, &request.key, answer)
        };
        let sealed = answer.map(seal).transpose()?;
        within(
            sqlx::query!(
                "WITH answered AS (
                     INSERT INTO idempotency_keys AS k (tenant, key, fingerprint, answer)
                     SELECT $2, $6, $7, $8 WHERE $6::text IS NOT NULL
                     ON CONFLICT (tenant, key) DO UPDATE
                     SET fingerprint = excluded.fingerprint, position = NULL, answer = excluded.answer,
                         created_at = excluded.created_at
                     WHERE k.created_at <= clock_timestamp() - interval '24 hours'
                     RETURNING k.key
                 )
                 INSERT INTO keys (id, tenant, name, hash, created_at)
                 SELECT $1, $2, $3, $4, $5 WHERE $6::text IS NULL OR EXISTS (SELECT FROM answered)",
                key.id.stored(),
                key.tenant,
                key.name,
                hash,
                key.created_at.as_i64(),
                answer.map(|(request, _)| &*request.key),
                answer.map(|(request, _)| &*request.fingerprint),
                sealed,
            )
            .execute(&self.pool),
        )
        .await
        .map(|done| done.rows_affected() > 0)
    }

    /// The key with that hash, unless it was revoked.
    pub async fn key_by_hash(&self, hash: &[u8]) -> Result<Option<StoredKey>, StoreError> {
        within(
            sqlx::query_as!(
                KeyRow,
                "SELECT id, tenant, name, created_at FROM keys WHERE hash = $1 AND NOT revoked",
                hash
            )
            .fetch_optional(&self.pool),
        )
        .await
        .map(|row| row.map(StoredKey::from))
    }

    /// A tenant's keys above an id, oldest first.
    pub async fn list_keys(
        &self,
        tenant: &str,
        after: i64,
        limit: i64,
    ) -> Result<Vec<StoredKey>, StoreError> {
        within(
            sqlx::query_as!(
                KeyRow,
                "SELECT id, tenant, name, created_at FROM keys
                 WHERE tenant = $1 AND id > $2 AND NOT revoked ORDER BY id LIMIT $3",
                tenant,
                after,
                limit,
            )
            .fetch_all(&self.pool),
        )
        .await
        .map(|rows| rows.into_iter().map(StoredKey::from).collect())
    }

    /// Revokes a tenant's key; whether there was one.
    pub async fn revoke_key(&self, tenant: &str, id: KeyId) -> Result<bool, StoreError> {
        within(
            sqlx::query!(
                "UPDATE keys SET revoked = true WHERE tenant = $1 AND id = $2",
                tenant,
                id.stored()
            )
            .execute(&self.pool),
        )
        .await
        .map(|done| done.rows_affected() > 0)
    }
}
