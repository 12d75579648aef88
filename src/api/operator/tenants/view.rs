//! The JSON of a tenant, and the checks that its endpoints share.

use serde_json::{Value, json};

use crate::api::auth::tenant::is_tenant_name;
use crate::api::http::query::invalid;
use crate::api::problem::Problem;
use crate::api::state::Api;
use crate::store::tenants::{StoredTenant, TenantDefinition, TenantUsage};

/// Returns the JSON of a tenant. `quotas` are the tenant's own; `in_force` are the quotas that this node applies.
pub(super) fn view(api: &Api, name: &str, stored: Option<&StoredTenant>) -> Value {
    let definition = stored.map(|stored| stored.definition.clone()).unwrap_or_default();
    json!({
        "name": name,
        "description": definition.description,
        "quotas": definition.quotas,
        "in_force": api.quotas.quotas_of(name),
        "created_at": stored.map(|stored| stored.created_at),
        "updated_at": stored.map(|stored| stored.updated_at),
    })
}

/// Returns the JSON of a tenant's definition for the audit log.
pub(super) fn audit_view(definition: &TenantDefinition) -> Value {
    json!({ "description": definition.description, "quotas": definition.quotas })
}

/// Checks the tenant name in a path. 400 if it is not a tenant name.
pub(super) fn parse_name(path: &str) -> Result<&str, Problem> {
    if is_tenant_name(path) {
        return Ok(path);
    }
    Err(invalid("name", "a tenant name has 1 to 64 letters, digits, _, . and -"))
}

/// Whether a tenant has neither keys nor subscriptions.
pub(super) fn is_unused(TenantUsage { keys, subscriptions }: TenantUsage) -> bool {
    keys == 0 && subscriptions == 0
}

/// Creates a 404 `not_found` problem for a tenant without definition, keys and subscriptions.
pub(super) fn no_such_tenant() -> Problem {
    Problem::not_found("tenant: it has no definition, no keys and no subscriptions")
}
