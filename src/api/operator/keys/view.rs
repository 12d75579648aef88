//! The JSON of a key.

use serde_json::{Value, json};

use crate::domain::access::scope::Scope;
use crate::domain::event::event_type::Pattern;
use crate::store::keys::StoredKey;

/// Returns the JSON of a key without its text, of which the hub stores only a hash.
pub(super) fn view(key: &StoredKey) -> Value {
    let event_types: Option<Vec<&str>> =
        key.event_types.as_ref().map(|patterns| patterns.iter().map(Pattern::as_str).collect());
    json!({
        "id": key.id.to_string(),
        "name": key.name,
        "tenant": key.tenant,
        "scopes": key.scopes.iter().map(Scope::name).collect::<Vec<_>>(),
        "event_types": event_types,
        "created_at": key.created_at,
        "expires_at": key.expires_at,
        "last_used_at": key.last_used_at,
    })
}
