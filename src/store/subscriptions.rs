//! Subscriptions: changes, each with its log entry, and queries.

use std::sync::Arc;

use uuid::Uuid;

use super::encryption::{read_definition, write_definition};
use super::{Store, StoreError};
use crate::domain::access::audit::AuditEntry;
use crate::domain::encryption::AssociatedData;
use crate::domain::event::event_type::Pattern;
use crate::domain::id::SubscriptionId;
use crate::domain::position::Position;
use crate::domain::subscription::change::{Change, ChangeResult};
use crate::domain::subscription::channel::Channel;
use crate::domain::subscription::version::Version;
use crate::domain::subscription::{Status, Subscription};
use crate::domain::time::UnixMillis;

#[derive(Debug, Clone, Default)]
pub struct SubscriptionFilter {
    /// One of the subscription's patterns, literally.
    pub event_type: Option<String>,
    pub status: Option<Status>,
    pub callback_url: Option<String>,
}

/// The state of a subscription, which may be deleted.
#[derive(Debug, Clone)]
pub struct SubscriptionSummary {
    pub id: SubscriptionId,
    /// The last status if it is deleted.
    pub status: Status,
    /// Otherwise it is a pull subscription.
    pub is_webhook: bool,
    pub deleted_at: Option<Position>,
}

struct SubscriptionRow {
    id: i64,
    tenant: String,
    definition: String,
    status: String,
    disabled_reason: Option<String>,
    changed_at: i64,
}

/// Returns the value for the column `callback_url`; `None` for a pull subscription.
///
/// The queries of this file use `callback_url IS NOT NULL` to find subscriptions to which the hub delivers. A channel
/// that delivers without a callback URL needs a column of its own.
fn callback_url_column(channel: &Channel) -> Option<&str> {
    match channel {
        Channel::Pull { .. } => None,
        Channel::Webhook(webhook) => Some(webhook.url.as_str()),
    }
}

/// Parses the column `status` of the subscription `id`.
fn read_status(id: SubscriptionId, column: &str) -> Result<Status, StoreError> {
    column.parse().map_err(|_unknown| StoreError::Unreadable(format!("subscription {id}: status")))
}

impl Store {
    /// Decrypts rows, in the same order. Fails at the first that cannot be read.
    fn read_all(&self, rows: Vec<SubscriptionRow>) -> Result<Vec<Subscription>, StoreError> {
        rows.into_iter().map(|row| self.decrypt_row(row)).collect()
    }

    /// Decrypts a row's definition and builds the subscription. Signing secrets that have expired are left out.
    fn decrypt_row(&self, row: SubscriptionRow) -> Result<Subscription, StoreError> {
        let id = SubscriptionId::from_stored(row.id);
        let data = AssociatedData::Definition { tenant: &row.tenant, id: row.id };
        let definition =
            read_definition(&self.decrypt(row.definition.as_bytes(), data)?, UnixMillis::now())?;
        let status = read_status(id, &row.status)?;
        Ok(Subscription {
            id,
            tenant: row.tenant.into(),
            definition,
            status,
            disabled_reason: row.disabled_reason,
            changed_at: Position::from_stored(row.changed_at),
        })
    }

    /// The encrypted definition after the change, and when its earlier signing secrets expire, in milliseconds since
    /// 1970. Both are empty if the change deletes the subscription.
    fn encrypt_definition(&self, change: &Change) -> Result<(String, Vec<i64>), StoreError> {
        if change.deleted {
            return Ok((String::new(), Vec::new()));
        }
        let Subscription { id, tenant, definition, .. } = &change.subscription;
        let data = AssociatedData::Definition { tenant, id: id.stored() };
        let encrypted = self.encrypt(&write_definition(definition)?, data)?;
        let earlier = definition.signing().earlier().iter();
        Ok((encrypted, earlier.map(|one| one.expires_at.as_i64()).collect()))
    }

    /// Commits a change with its log and audit entries. `token` and `after` are as in
    /// [`AppendBatch`](super::log::AppendBatch). Safe to repeat after [`StoreError::Unavailable`].
    pub async fn change_subscription(
        &self,
        token: Uuid,
        after: Position,
        change: &Change,
        audit: &AuditEntry,
    ) -> Result<ChangeResult, StoreError> {
        let subscription = &change.subscription;
        let definition = &subscription.definition;
        let (stored, secret_ends) = self.encrypt_definition(change)?;
        let event_types: Vec<&str> = definition.event_types.iter().map(Pattern::as_str).collect();
        let row = self.fetch_optional(sqlx::query!(
            r#"WITH changed AS (
                   SELECT made.* FROM subscription_room($9, $10, $20, $3) AS tenant, subscription_change(
                       $1, $2, $3, $4, $5, $6, $7, $8, $9, tenant, $11, $12, $13, $14, $15, $16, $17
                   ) made
               ), noted AS (
                   INSERT INTO secret_ends (subscription, ends_at)
                   SELECT $9, ends_at FROM changed, unnest($18::bigint[]) ends_at ON CONFLICT DO NOTHING
               ), audited AS (
                   INSERT INTO audit
                   SELECT entry.* FROM json_populate_record(NULL::audit, $19::text::json) entry, changed
                   WHERE result = 'changed'
                   ON CONFLICT (token) DO NOTHING
               )
               SELECT result AS "result!", "position", fingerprint, previous FROM changed"#,
            token,
            after.stored(),
            change.key.as_ref().map(|key| &*key.key),
            change.key.as_ref().map(|key| &*key.fingerprint),
            change.entry_type.as_str(),
            &*change.entry_data,
            change.expected.map(Position::stored),
            change.starts_after.map(Position::stored),
            subscription.id.stored(),
            &*subscription.tenant,
            i16::try_from(subscription.shard()).unwrap_or_default(),
            callback_url_column(&definition.channel),
            &event_types as _,
            stored,
            subscription.status.name(),
            subscription.disabled_reason,
            change.deleted,
            &secret_ends,
            audit.to_row(),
            change.max_subscriptions.map(i64::from),
        ))
        .await?;
        let Some(row) = row else { return Ok(ChangeResult::QuotaExceeded) };
        let position = Position::from_stored(row.position.unwrap_or_default());
        Ok(match row.result.as_str() {
            "changed" => ChangeResult::Applied {
                position,
                previous: row.previous.map(Position::from_stored),
            },
            "replayed" => ChangeResult::Replayed {
                position,
                fingerprint: row.fingerprint.unwrap_or_default(),
            },
            _ => ChangeResult::Stale,
        })
    }

    /// Selects a tenant's subscription; `None` if the tenant has no such subscription or has deleted it.
    pub async fn select_subscription(
        &self,
        tenant: &str,
        id: SubscriptionId,
    ) -> Result<Option<Subscription>, StoreError> {
        self.fetch_optional(sqlx::query_as!(
            SubscriptionRow,
            "SELECT id, tenant, definition, status, disabled_reason, changed_at FROM subscriptions
             WHERE tenant = $1 AND id = $2 AND NOT deleted",
            tenant,
            id.stored(),
        ))
        .await?
        .map(|row| self.decrypt_row(row))
        .transpose()
    }

    /// Returns whether the tenant had this subscription and deleted it. False if the tenant never had it.
    pub async fn is_subscription_deleted(
        &self,
        tenant: &str,
        id: SubscriptionId,
    ) -> Result<bool, StoreError> {
        self.fetch_scalar(sqlx::query_scalar!(
            r#"SELECT EXISTS (SELECT FROM subscriptions WHERE tenant = $1 AND id = $2 AND deleted) AS "deleted!""#,
            tenant,
            id.stored(),
        ))
        .await
    }

    /// Selects up to `limit` subscriptions of a tenant that match `filter`, with ids above `after`, oldest first.
    /// Leaves out deleted ones.
    pub async fn select_subscriptions(
        &self,
        tenant: &str,
        filter: &SubscriptionFilter,
        after: i64,
        limit: i64,
    ) -> Result<Vec<Subscription>, StoreError> {
        self.fetch_all(sqlx::query_as!(
            SubscriptionRow,
            "SELECT id, tenant, definition, status, disabled_reason, changed_at FROM subscriptions
             WHERE tenant = $1 AND id > $2 AND NOT deleted
               AND ($3::text IS NULL OR $3 = ANY(event_types))
               AND ($4::text IS NULL OR status = $4)
               AND ($5::text IS NULL OR callback_url = $5)
             ORDER BY id LIMIT $6",
            tenant,
            after,
            filter.event_type,
            filter.status.map(Status::name),
            filter.callback_url,
            limit,
        ))
        .await
        .and_then(|rows| self.read_all(rows))
    }

    /// Selects the webhooks among the subscriptions `ids`, of any tenant. Leaves out deleted ones.
    pub async fn select_webhooks_by_id(
        &self,
        ids: &[i64],
    ) -> Result<Vec<Subscription>, StoreError> {
        self.fetch_all(sqlx::query_as!(
            SubscriptionRow,
            "SELECT id, tenant, definition, status, disabled_reason, changed_at FROM subscriptions
             WHERE id = ANY($1) AND callback_url IS NOT NULL AND NOT deleted",
            ids,
        ))
        .await
        .and_then(|rows| self.read_all(rows))
    }

    /// Selects all webhooks of these shards, of any tenant. Leaves out deleted ones.
    pub async fn select_webhooks_of_shards(
        &self,
        shards: &[i16],
    ) -> Result<Vec<Subscription>, StoreError> {
        self.fetch_all(sqlx::query_as!(
            SubscriptionRow,
            "SELECT id, tenant, definition, status, disabled_reason, changed_at FROM subscriptions
             WHERE shard = ANY($1) AND callback_url IS NOT NULL AND NOT deleted",
            shards,
        ))
        .await
        .and_then(|rows| self.read_all(rows))
    }

    /// Selects the pattern versions of these subscriptions: patterns, and the position since which they apply. Those of
    /// one subscription are oldest first.
    pub async fn select_versions(
        &self,
        ids: &[i64],
    ) -> Result<Vec<(SubscriptionId, Version)>, StoreError> {
        let rows = self.fetch_all(sqlx::query!(
            "SELECT subscription, since, event_types FROM subscription_versions
             WHERE subscription = ANY($1) ORDER BY subscription, since",
            ids,
        ));
        rows.await?
            .into_iter()
            .map(|row| {
                let patterns: Result<Arc<[_]>, _> =
                    row.event_types.iter().map(|text| text.parse()).collect();
                let event_types = patterns
                    .map_err(|error| StoreError::Unreadable(format!("event types: {error}")))?;
                let version = Version { since: Position::from_stored(row.since), event_types };
                Ok((SubscriptionId::from_stored(row.subscription), version))
            })
            .collect()
    }

    /// Selects the pattern versions of a subscription, oldest first.
    pub async fn select_versions_of(&self, id: SubscriptionId) -> Result<Vec<Version>, StoreError> {
        let versions = self.select_versions(&[id.stored()]).await?;
        Ok(versions.into_iter().map(|(_, version)| version).collect())
    }

    /// Selects up to `limit` subscriptions of a tenant with ids above `after`, deleted ones included, oldest first.
    pub async fn select_summaries(
        &self,
        tenant: &str,
        after: Option<SubscriptionId>,
        limit: i64,
    ) -> Result<Vec<SubscriptionSummary>, StoreError> {
        let rows = self.fetch_all(sqlx::query!(
            r#"SELECT id, status, deleted, changed_at, callback_url IS NOT NULL AS "is_webhook!"
               FROM subscriptions WHERE tenant = $1 AND id > $2 ORDER BY id LIMIT $3"#,
            tenant,
            after.map_or(0, SubscriptionId::stored),
            limit,
        ));
        rows.await?
            .into_iter()
            .map(|row| {
                let id = SubscriptionId::from_stored(row.id);
                let status = read_status(id, &row.status)?;
                let deleted_at = row.deleted.then(|| Position::from_stored(row.changed_at));
                Ok(SubscriptionSummary { id, status, is_webhook: row.is_webhook, deleted_at })
            })
            .collect()
    }

    /// Selects the ids of all webhooks of a tenant, oldest first, with the position of the deletion if deleted.
    pub async fn select_webhook_history(
        &self,
        tenant: &str,
    ) -> Result<Vec<(SubscriptionId, Option<Position>)>, StoreError> {
        let rows = self.fetch_all(sqlx::query!(
            "SELECT id, deleted, changed_at FROM subscriptions
             WHERE tenant = $1 AND callback_url IS NOT NULL ORDER BY id",
            tenant
        ));
        let history = rows.await?.into_iter().map(|row| {
            let deleted_at = row.deleted.then(|| Position::from_stored(row.changed_at));
            (SubscriptionId::from_stored(row.id), deleted_at)
        });
        Ok(history.collect())
    }
}
