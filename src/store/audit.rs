//! The audit log: appended to, and read.

use super::{Store, StoreError, within};
use crate::domain::access::audit::AuditEntry;
use crate::domain::id::AuditId;

/// An entry as it is kept; `before` and `after` are JSON.
#[derive(Debug)]
pub struct AuditRow {
    /// Its id, which tells when.
    pub id: i64,
    /// With which key.
    pub key: String,
    /// From where.
    pub address: Option<String>,
    /// By which program.
    pub user_agent: Option<String>,
    /// By which request.
    pub request_id: Option<String>,
    /// What was done.
    pub action: String,
    /// To what.
    pub target: String,
    /// What differs, as it was.
    pub before: Option<String>,
    /// What differs, as it is since.
    pub after: Option<String>,
}

/// Which entries to list.
#[derive(Debug, Default)]
pub struct AuditFilter {
    /// Those about this id or name.
    pub target: Option<String>,
    /// Those with this action.
    pub action: Option<String>,
    /// Those of this key.
    pub key: Option<String>,
    /// Those below.
    pub below: Option<AuditId>,
}

impl Store {
    /// Notes a change that has no transaction of its own, before it is made.
    pub async fn insert_audit(&self, entry: &AuditEntry) -> Result<(), StoreError> {
        within(
            sqlx::query!(
                "INSERT INTO audit SELECT entry.* FROM json_populate_record(NULL::audit, $1::text::json) entry",
                entry.to_row(),
            )
            .execute(&self.pool),
        )
        .await
        .map(drop)
    }

    /// A tenant's entries, newest first.
    pub async fn select_audit(
        &self,
        tenant: &str,
        filter: &AuditFilter,
        limit: i64,
    ) -> Result<Vec<AuditRow>, StoreError> {
        within(
            sqlx::query_as!(
                AuditRow,
                r#"SELECT id, key, address, user_agent, request_id, action, target,
                          before::text AS before, after::text AS after
                   FROM audit
                   WHERE tenant = $1 AND ($2::bigint IS NULL OR id < $2)
                     AND ($3::text IS NULL OR target = $3)
                     AND ($4::text IS NULL OR action = $4)
                     AND ($5::text IS NULL OR key = $5)
                   ORDER BY id DESC LIMIT $6"#,
                tenant,
                filter.below.map(AuditId::stored),
                filter.target,
                filter.action,
                filter.key,
                limit,
            )
            .fetch_all(&self.pool),
        )
        .await
    }
}
