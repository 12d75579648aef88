//! Tenants that an operator has configured, and the usage of every tenant.

use super::{Store, StoreError};
use crate::domain::access::audit::AuditEntry;
use crate::domain::access::quota::OwnQuotas;
use crate::domain::time::UnixMillis;

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TenantDefinition {
    pub description: Option<String>,
    pub quotas: OwnQuotas,
}

#[derive(Debug, Clone)]
pub struct StoredTenant {
    pub definition: TenantDefinition,
    pub created_at: UnixMillis,
    pub updated_at: UnixMillis,
}

#[derive(Debug, Clone)]
pub struct TenantRecord {
    /// The version of the tenant's last change. Each change of any tenant has a higher version than those before it.
    pub version: i64,
    /// `None` if it is deleted.
    pub tenant: Option<StoredTenant>,
}

#[derive(Debug, Clone)]
pub struct QuotaChange {
    pub name: String,
    pub quotas: OwnQuotas,
    pub version: i64,
}

/// The usage of a tenant on all nodes.
#[derive(Debug, Clone, Copy)]
pub struct TenantUsage {
    /// Unrevoked keys.
    pub keys: i64,
    pub subscriptions: i64,
}

fn quotas_from_columns(
    [events_per_s, subscriptions, streams, event_bytes]: [Option<i32>; 4],
) -> OwnQuotas {
    let read = |stored: Option<i32>| stored.map(|stored| u32::try_from(stored).unwrap_or_default());
    OwnQuotas {
        events_per_s: read(events_per_s),
        subscriptions: read(subscriptions),
        streams: read(streams),
        event_bytes: read(event_bytes),
    }
}

fn stored_tenant(
    description: Option<String>,
    quotas: OwnQuotas,
    created_at: i64,
    updated_at: i64,
) -> StoredTenant {
    StoredTenant {
        definition: TenantDefinition { description, quotas },
        created_at: UnixMillis::from_i64(created_at),
        updated_at: UnixMillis::from_i64(updated_at),
    }
}

/// Converts a quota to a column value; one that is too large becomes the maximum.
fn quota_column(quota: Option<u32>) -> Option<i32> {
    quota.map(|quota| i32::try_from(quota).unwrap_or(i32::MAX))
}

impl Store {
    /// Selects a tenant's row; `None` if no settings were ever stored for the tenant.
    pub async fn select_tenant(&self, name: &str) -> Result<Option<TenantRecord>, StoreError> {
        let row = self.fetch_optional(sqlx::query!(
            "SELECT description, events_per_s, subscriptions, streams, event_bytes, created_at, updated_at,
                    version, deleted
             FROM tenants WHERE name = $1",
            name
        ));
        Ok(row.await?.map(|row| {
            let own = [row.events_per_s, row.subscriptions, row.streams, row.event_bytes];
            let tenant = stored_tenant(
                row.description,
                quotas_from_columns(own),
                row.created_at,
                row.updated_at,
            );
            TenantRecord { version: row.version, tenant: (!row.deleted).then_some(tenant) }
        }))
    }

    /// Stores a tenant's settings and the audit entry, in one commit. `None`, without effect, if the row's version is
    /// not `expected` (`None`: no row).
    pub async fn upsert_tenant(
        &self,
        name: &str,
        definition: &TenantDefinition,
        expected: Option<i64>,
        audit: &AuditEntry,
    ) -> Result<Option<StoredTenant>, StoreError> {
        let own = definition.quotas;
        let row = self.fetch_optional(sqlx::query!(
            "WITH put AS (
                 INSERT INTO tenants AS t
                     (name, description, events_per_s, subscriptions, streams, event_bytes, created_at, updated_at,
                      version)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $7, next_tenant_version())
                 ON CONFLICT (name) DO UPDATE
                 SET description = excluded.description, events_per_s = excluded.events_per_s,
                     subscriptions = excluded.subscriptions, streams = excluded.streams,
                     event_bytes = excluded.event_bytes, updated_at = excluded.updated_at,
                     version = excluded.version, deleted = false,
                     created_at = CASE WHEN t.deleted THEN excluded.created_at ELSE t.created_at END
                 WHERE t.version = $8
                 RETURNING created_at, updated_at
             ), audited AS (
                 INSERT INTO audit
                 SELECT entry.* FROM json_populate_record(NULL::audit, $9::text::json) entry, put
             )
             SELECT created_at, updated_at FROM put",
            name,
            definition.description,
            quota_column(own.events_per_s),
            quota_column(own.subscriptions),
            quota_column(own.streams),
            quota_column(own.event_bytes),
            UnixMillis::now().as_i64(),
            expected,
            audit.to_row(),
        ));
        let TenantDefinition { description, quotas } = definition.clone();
        let put = row
            .await?
            .map(|row| stored_tenant(description, quotas, row.created_at, row.updated_at));
        Ok(put)
    }

    /// Marks a tenant's settings as deleted and inserts the audit entry, in one commit. False, without effect, if there
    /// are no settings, or if the tenant has unrevoked keys or subscriptions.
    pub async fn delete_tenant(&self, name: &str, audit: &AuditEntry) -> Result<bool, StoreError> {
        self.count_affected(sqlx::query!(
            "WITH deleted AS (
                 UPDATE tenants
                 SET description = NULL, events_per_s = NULL, subscriptions = NULL, streams = NULL,
                     event_bytes = NULL, version = next_tenant_version(), deleted = true
                 WHERE name = $1 AND NOT deleted
                   AND NOT EXISTS (SELECT FROM keys k WHERE k.tenant = $1 AND NOT k.revoked)
                   AND NOT EXISTS (SELECT FROM subscription_counts c WHERE c.tenant = $1 AND c.held > 0)
                 RETURNING name
             )
             INSERT INTO audit
             SELECT entry.* FROM json_populate_record(NULL::audit, $2::text::json) entry, deleted",
            name,
            audit.to_row(),
        ))
        .await
        .map(|rows| rows > 0)
    }

    /// Counts a tenant's unrevoked keys and its subscriptions. A tenant that does not exist has zero of each.
    pub async fn select_tenant_usage(&self, name: &str) -> Result<TenantUsage, StoreError> {
        self.fetch_one(sqlx::query_as!(
            TenantUsage,
            r#"SELECT (SELECT count(*) FROM keys WHERE tenant = $1 AND NOT revoked) AS "keys!",
                      coalesce((SELECT held FROM subscription_counts WHERE tenant = $1), 0)::bigint AS "subscriptions!""#,
            name
        ))
        .await
    }

    /// Selects up to `limit` tenants with settings, an unrevoked key or a subscription, by name above `after`. Each is
    /// an index look-up, so the cost of a page does not depend on the number of tenants.
    pub async fn select_tenants(
        &self,
        after: &str,
        limit: i32,
    ) -> Result<Vec<(String, Option<StoredTenant>)>, StoreError> {
        let rows = self.fetch_all(sqlx::query!(
            r#"WITH RECURSIVE names AS (
                   SELECT $1::text AS name, 0 AS n
                   UNION ALL
                   SELECT least(
                              (SELECT min(t.name) FROM tenants t WHERE t.name > p.name AND NOT t.deleted),
                              (SELECT min(k.tenant) FROM keys k WHERE k.tenant > p.name AND NOT k.revoked),
                              (SELECT min(c.tenant) FROM subscription_counts c WHERE c.tenant > p.name AND c.held > 0)
                          ), p.n + 1
                   FROM names p WHERE p.name IS NOT NULL AND p.n < $2
               )
               SELECT n.name AS "name!", t.description, t.events_per_s, t.subscriptions, t.streams, t.event_bytes,
                      t.created_at AS "created_at?", t.updated_at AS "updated_at?"
               FROM names n LEFT JOIN tenants t ON t.name = n.name AND NOT t.deleted
               WHERE n.n > 0 AND n.name IS NOT NULL
               ORDER BY n.n"#,
            after,
            limit,
        ));
        let listed = rows.await?.into_iter().map(|row| {
            let own = [row.events_per_s, row.subscriptions, row.streams, row.event_bytes];
            let settings = row.created_at.zip(row.updated_at).map(|(created_at, updated_at)| {
                stored_tenant(row.description, quotas_from_columns(own), created_at, updated_at)
            });
            (row.name, settings)
        });
        Ok(listed.collect())
    }

    /// Selects the current quotas of all tenants whose row changed after version `since`, in the order of the changes.
    /// Deleted tenants are included, without quotas.
    pub async fn select_quota_changes(&self, since: i64) -> Result<Vec<QuotaChange>, StoreError> {
        let rows = self.fetch_all(sqlx::query!(
            "SELECT name, events_per_s, subscriptions, streams, event_bytes, version
             FROM tenants WHERE version > $1 ORDER BY version",
            since
        ));
        let changes = rows.await?.into_iter().map(|row| {
            let own = [row.events_per_s, row.subscriptions, row.streams, row.event_bytes];
            QuotaChange { name: row.name, quotas: quotas_from_columns(own), version: row.version }
        });
        Ok(changes.collect())
    }
}
