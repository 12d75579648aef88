//! API keys. Only their hashes are stored.

use std::sync::Arc;

use uuid::Uuid;

use super::{Store, StoreError};
use crate::domain::access::audit::AuditEntry;
use crate::domain::access::idempotency::RequestKey;
use crate::domain::access::revocation::KEY_REVOKED;
use crate::domain::access::scope::{Scope, Scopes};
use crate::domain::event::event_type::Pattern;
use crate::domain::id::KeyId;
use crate::domain::position::Position;
use crate::domain::time::UnixMillis;

#[derive(Debug, Clone)]
pub struct StoredKey {
    pub id: KeyId,
    pub tenant: String,
    /// A description for people.
    pub name: String,
    pub scopes: Scopes,
    /// Patterns of the events it may access; `None`: all.
    pub event_types: Option<Arc<[Pattern]>>,
    pub created_at: UnixMillis,
    /// `None`: valid until it is revoked.
    pub expires_at: Option<UnixMillis>,
    /// Accurate to a minute.
    pub last_used_at: Option<UnixMillis>,
    pub revoked: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Revoked {
    /// Whether this call revoked the key; false if an earlier call did.
    pub is_new: bool,
    /// A node that has read the log up to here rejects the key.
    pub position: Position,
    /// The last position drawn before the position of the entry; `None` when unknown.
    pub previous: Option<Position>,
}

struct KeyRow {
    id: i64,
    tenant: String,
    name: String,
    scopes: Vec<String>,
    event_types: Option<Vec<String>>,
    created_at: i64,
    expires_at: Option<i64>,
    last_used_at: Option<i64>,
    revoked: bool,
}

impl TryFrom<KeyRow> for StoredKey {
    type Error = StoreError;

    /// Fails with [`StoreError::Unreadable`] if a stored scope or pattern is invalid.
    fn try_from(row: KeyRow) -> Result<Self, StoreError> {
        let id = KeyId::from_stored(row.id);
        let unreadable = |what: &str| StoreError::Unreadable(format!("key {id}: {what}"));
        let scopes: Result<Scopes, _> = row.scopes.iter().map(|name| name.parse()).collect();
        let patterns = |texts: Vec<String>| -> Result<Arc<[Pattern]>, StoreError> {
            texts
                .iter()
                .map(|text| text.parse().map_err(|_bad| unreadable("event types")))
                .collect()
        };
        Ok(Self {
            id,
            tenant: row.tenant,
            name: row.name,
            scopes: scopes.map_err(|_unknown| unreadable("scopes"))?,
            event_types: row.event_types.map(patterns).transpose()?,
            created_at: UnixMillis::from_i64(row.created_at),
            expires_at: row.expires_at.map(UnixMillis::from_i64),
            last_used_at: row.last_used_at.map(UnixMillis::from_i64),
            revoked: row.revoked,
        })
    }
}

impl Store {
    /// Inserts a key with its audit entry and, for an idempotent request, the response body to store, in one commit.
    /// False, without effect, if another request used the idempotency key first.
    pub async fn insert_key(
        &self,
        key: &StoredKey,
        hash: &[u8],
        answer: Option<(&RequestKey, &str)>,
        audit: &AuditEntry,
    ) -> Result<bool, StoreError> {
        let encrypt = |(request, answer): (&RequestKey, &str)| {
            self.encrypt_response(&key.tenant, &request.key, answer)
        };
        let encrypted = answer.map(encrypt).transpose()?;
        let scopes: Vec<&str> = key.scopes.iter().map(Scope::name).collect();
        let event_types: Option<Vec<&str>> =
            key.event_types.as_ref().map(|patterns| patterns.iter().map(Pattern::as_str).collect());
        self.fetch_scalar(sqlx::query_scalar!(
            r#"WITH answered AS (
                   INSERT INTO idempotency_keys AS k (tenant, key, fingerprint, answer)
                   SELECT $2, $9, $10, $11 WHERE $9::text IS NOT NULL
                   ON CONFLICT (tenant, key) DO UPDATE
                   SET fingerprint = excluded.fingerprint, position = NULL, answer = excluded.answer,
                       created_at = excluded.created_at
                   WHERE k.created_at <= clock_timestamp() - interval '24 hours'
                   RETURNING k.key
               ), made AS (
                   INSERT INTO keys (id, tenant, name, hash, scopes, event_types, created_at, expires_at)
                   SELECT $1, $2, $3, $4, $5, $6, $7, $8
                   WHERE $9::text IS NULL OR EXISTS (SELECT FROM answered)
                   RETURNING id
               ), audited AS (
                   INSERT INTO audit
                   SELECT entry.* FROM json_populate_record(NULL::audit, $12::text::json) entry, made
               )
               SELECT EXISTS (SELECT FROM made) AS "made!""#,
            key.id.stored(),
            key.tenant,
            key.name,
            hash,
            &scopes as _,
            event_types as _,
            key.created_at.as_i64(),
            key.expires_at.map(UnixMillis::as_i64),
            answer.map(|(request, _)| &*request.key),
            answer.map(|(request, _)| &*request.fingerprint),
            encrypted,
            audit.to_row(),
        ))
        .await
    }

    /// Selects a key of any tenant by its SHA-256 hash, even if it is revoked or expired.
    pub async fn select_key_by_hash(&self, hash: &[u8]) -> Result<Option<StoredKey>, StoreError> {
        self.fetch_optional(sqlx::query_as!(
            KeyRow,
            "SELECT id, tenant, name, scopes, event_types, created_at, expires_at, last_used_at, revoked FROM keys
             WHERE hash = $1",
            hash
        ))
        .await?
        .map(StoredKey::try_from)
        .transpose()
    }

    /// Selects a key of any tenant, even if it is revoked or expired; `None` if no such key exists.
    pub async fn select_key_by_id(&self, id: KeyId) -> Result<Option<StoredKey>, StoreError> {
        self.fetch_optional(sqlx::query_as!(
            KeyRow,
            "SELECT id, tenant, name, scopes, event_types, created_at, expires_at, last_used_at, revoked FROM keys
             WHERE id = $1",
            id.stored(),
        ))
        .await?
        .map(StoredKey::try_from)
        .transpose()
    }

    /// Selects the ids among `ids` of keys that exist and are not revoked. They may be expired.
    pub async fn select_unrevoked_keys(&self, ids: &[i64]) -> Result<Vec<KeyId>, StoreError> {
        self.fetch_scalars(sqlx::query_scalar!(
            "SELECT id FROM keys WHERE id = ANY($1) AND NOT revoked",
            ids
        ))
        .await
        .map(|ids| ids.into_iter().map(KeyId::from_stored).collect())
    }

    /// Selects up to `limit` unrevoked keys of a tenant with ids above `after`, oldest first.
    pub async fn select_keys(
        &self,
        tenant: &str,
        after: i64,
        limit: i64,
    ) -> Result<Vec<StoredKey>, StoreError> {
        self.fetch_all(sqlx::query_as!(
            KeyRow,
            "SELECT id, tenant, name, scopes, event_types, created_at, expires_at, last_used_at, revoked FROM keys
             WHERE tenant = $1 AND id > $2 AND NOT revoked ORDER BY id LIMIT $3",
            tenant,
            after,
            limit,
        ))
        .await?
        .into_iter()
        .map(StoredKey::try_from)
        .collect()
    }

    /// Revokes a key, and appends its log entry and its audit entry, in one commit. Returns `None` if no such key
    /// exists; a key that is revoked already is not changed.
    ///
    /// `token` identifies the append, as in [`AppendBatch::token`](super::log::AppendBatch::token). Safe to repeat
    /// after [`StoreError::Unavailable`]; if the first call was committed, the result is not `is_new`.
    pub async fn revoke_key(
        &self,
        token: Uuid,
        key: &StoredKey,
        entry_data: &[u8],
        audit: &AuditEntry,
    ) -> Result<Option<Revoked>, StoreError> {
        let row = self.fetch_optional(sqlx::query!(
            r#"WITH revoked AS (
                   SELECT * FROM key_revoke($1, $2, $3, $4, $5)
               ), audited AS (
                   INSERT INTO audit
                   SELECT entry.* FROM json_populate_record(NULL::audit, $6::text::json) entry, revoked
                   WHERE made
               )
               SELECT made AS "made!", "position" AS "position!", previous FROM revoked"#,
            token,
            key.tenant,
            key.id.stored(),
            KEY_REVOKED,
            entry_data,
            audit.to_row(),
        ))
        .await?;
        Ok(row.map(|row| Revoked {
            is_new: row.made,
            position: Position::from_stored(row.position),
            previous: row.previous.map(Position::from_stored),
        }))
    }

    /// Updates the time of last use of the keys `ids` to the time at the same index of `times`, in milliseconds since
    /// 1970. A time never moves back.
    pub async fn update_last_uses(&self, ids: &[i64], times: &[i64]) -> Result<(), StoreError> {
        self.execute(sqlx::query!(
            "UPDATE keys k SET last_used_at = greatest(k.last_used_at, used.at)
             FROM unnest($1::bigint[], $2::bigint[]) used(id, at) WHERE k.id = used.id",
            ids,
            times,
        ))
        .await
    }
}
