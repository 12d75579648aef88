//! The audit log. Its table is append-only.

use super::{Store, StoreError};
use crate::domain::access::audit::AuditEntry;
use crate::domain::id::AuditId;

/// A stored entry. `before` and `after` are JSON: the fields that differ, or all if the object was created or deleted.
#[derive(Debug)]
pub struct AuditRow {
    pub id: i64,
    pub key: String,
    pub address: Option<String>,
    pub user_agent: Option<String>,
    pub request_id: Option<String>,
    pub action: String,
    pub target: String,
    pub before: Option<String>,
    pub after: Option<String>,
}

#[derive(Debug, Default)]
pub struct AuditFilter {
    /// The id or name of the changed object.
    pub target: Option<String>,
    pub action: Option<String>,
    pub key: Option<String>,
    /// Exclusive upper bound.
    pub below: Option<AuditId>,
}

impl Store {
    /// Inserts an entry in a commit of its own. Statements of changes insert their entries themselves; call this before
    /// an action that has no such statement.
    pub async fn insert_audit(&self, entry: &AuditEntry) -> Result<(), StoreError> {
        self.execute(sqlx::query!(
            "INSERT INTO audit SELECT entry.* FROM json_populate_record(NULL::audit, $1::text::json) entry",
            entry.to_row(),
        )).await
    }

    /// Selects up to `limit` entries of a tenant that match `filter`, newest first.
    pub async fn select_audit(
        &self,
        tenant: &str,
        filter: &AuditFilter,
        limit: i64,
    ) -> Result<Vec<AuditRow>, StoreError> {
        self.fetch_all(sqlx::query_as!(
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
        ))
        .await
    }
}
