//! The body of a request for a key.

use std::sync::Arc;
use std::time::Duration;

use crate::api::http::fields::Fields;
use crate::api::http::input::JsonBody;
use crate::api::http::patterns::patterns;
use crate::api::problem::Problem;
use crate::domain::access::scope::{Scope, Scopes};
use crate::domain::event::event_type::Pattern;
use crate::domain::time::UnixMillis;

const MAX_NAME_CHARS: usize = 200;
/// Ten years.
const MAX_LIFETIME_S: u32 = 315_360_000;

/// The definition of a new key.
pub(super) struct KeyInput {
    pub(super) name: String,
    pub(super) scopes: Scopes,
    pub(super) event_types: Option<Arc<[Pattern]>>,
    pub(super) expires_at: Option<UnixMillis>,
}

impl KeyInput {
    /// Parses the body of a request for a new key. `now` is the base of `expires_in_s`. 422 for invalid fields.
    pub(super) fn parse(body: &JsonBody, now: UnixMillis) -> Result<Self, Problem> {
        let mut fields = body.fields()?;
        let name = fields.text("name", MAX_NAME_CHARS).value().unwrap_or_default();
        if name.is_empty() && !fields.is_faulty() {
            fields.fault("name", "is missing; expected a name for people to recognise the key by");
        }
        let scopes = scopes(&mut fields);
        let event_types: Option<Arc<[Pattern]>> =
            patterns(&mut fields, "event_types").value().map(Arc::from);
        if event_types.is_some() && scopes.allow(Scope::Admin) {
            let detail =
                "cannot limit a key with the scope admin; leave out event_types, or that scope";
            fields.fault("event_types", detail);
        }
        let expires_at = expires_at(&mut fields, now);
        fields.finish()?;
        Ok(Self { name, scopes, event_types, expires_at })
    }
}

/// Takes the field `scopes`. The default is every scope except admin.
fn scopes(fields: &mut Fields) -> Scopes {
    let Some(items) = fields.list("scopes", Scope::ALL.len()).value() else {
        return Scopes::of_a_tenant();
    };
    let mut scopes = Vec::new();
    if items.is_empty() {
        fields.fault("scopes", "expected at least one scope");
    }
    for (index, item) in items.iter().enumerate() {
        if let Some(scope) = item.as_str().and_then(Scope::from_name) {
            scopes.push(scope);
        } else {
            let known = Scope::ALL.map(Scope::name).join(", ");
            fields.fault(format!("scopes/{index}"), format!("expected one of {known}"));
        }
    }
    scopes.into_iter().collect()
}

/// Takes `expires_at` or `expires_in_s`. `None`: the key never expires.
fn expires_at(fields: &mut Fields, now: UnixMillis) -> Option<UnixMillis> {
    let at = fields.text("expires_at", 64).value();
    let in_s = fields.number("expires_in_s", 1..=MAX_LIFETIME_S).value();
    let latest = now.after(Duration::from_secs(MAX_LIFETIME_S.into()));
    match (at.as_deref().map(UnixMillis::parse), in_s) {
        (None, None) => None,
        (None, Some(in_s)) => Some(now.after(Duration::from_secs(in_s.into()))),
        (Some(Some(at)), None) if at > now && at <= latest => Some(at),
        (Some(_), None) => {
            fields.fault("expires_at", "expected an RFC 3339 time in the future, within ten years");
            None
        }
        (Some(_), Some(_)) => {
            fields.fault("expires_in_s", "cannot be combined with expires_at; send one of them");
            None
        }
    }
}
