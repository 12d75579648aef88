//! Who changed what, and from where: entries of the audit log.

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::domain::id::AuditId;
use crate::domain::subscription::Subscription;
use crate::domain::subscription::view::{MASK, SubscriptionView};
use crate::domain::time::UnixMillis;

/// Who asked for a change, and from where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Actor {
    /// The id of the key, `admin` for the operator's own, `hub` for the hub itself, `receiver` for one that agreed.
    pub key: String,
    /// The client's address.
    pub address: Option<String>,
    /// What the client calls itself.
    pub user_agent: Option<String>,
    /// The request's id.
    pub request_id: Option<String>,
}

impl Actor {
    /// The hub itself.
    pub fn hub() -> Self {
        Self { key: "hub".to_owned(), address: None, user_agent: None, request_id: None }
    }
}

/// One entry of the audit log.
#[derive(Debug, Clone, Serialize)]
pub struct AuditEntry {
    id: i64,
    token: String,
    tenant: String,
    #[serde(flatten)]
    actor: Actor,
    action: String,
    target: String,
    before: Option<Value>,
    after: Option<Value>,
}

impl AuditEntry {
    /// That `actor` did `action` (such as `key.revoked`) to `target`, an id or a name, at `now`. `token` is the
    /// change's own: an entry that is kept twice with the same is one.
    pub fn new(
        now: UnixMillis,
        token: Uuid,
        actor: &Actor,
        tenant: &str,
        action: &str,
        target: &impl ToString,
    ) -> Self {
        Self {
            id: AuditId::new(now, token.as_fields().0).stored(),
            token: token.to_string(),
            tenant: tenant.to_owned(),
            actor: actor.clone(),
            action: action.to_owned(),
            target: target.to_string(),
            before: None,
            after: None,
        }
    }

    /// As JSON with the names of the table's columns.
    pub fn to_row(&self) -> String {
        json!(self).to_string()
    }

    /// With what was before and what is after; of two, the members that differ.
    #[must_use]
    pub fn with(self, before: Option<Value>, after: Option<Value>) -> Self {
        let (before, after) = match (before, after) {
            (Some(Value::Object(before)), Some(Value::Object(after))) => {
                let differ = |name: &&String| before.get(*name) != after.get(*name);
                let names: BTreeSet<_> = before.keys().chain(after.keys()).filter(differ).collect();
                (Some(only(&names, &before)), Some(only(&names, &after)))
            }
            other => other,
        };
        Self { before, after, ..self }
    }

    /// With what a subscription was and is. What its views hide is masked, but seen to have changed.
    #[must_use]
    pub fn with_subscription(
        self,
        before: Option<&Subscription>,
        after: Option<&Subscription>,
    ) -> Self {
        let (Some(before), Some(after)) = (before, after) else {
            return self.with(before.map(view), after.map(view));
        };
        let (old, new) = (Seen::of(before), Seen::of(after));
        let differ = |name: &&String| {
            old.stored.get(*name) != new.stored.get(*name)
                || old.view.get(*name) != new.view.get(*name)
        };
        let names = [&old.stored, &new.stored, &old.view, &new.view];
        let names: BTreeSet<_> = names.into_iter().flat_map(Map::keys).filter(differ).collect();
        let (before, after) = (Some(old.shown(&names)), Some(new.shown(&names)));
        Self { before, after, ..self }
    }
}

fn only(names: &BTreeSet<&String>, of: &Map<String, Value>) -> Value {
    let member = |name: &&String| of.get(*name).map(|value| ((*name).clone(), value.clone()));
    names.iter().filter_map(member).collect()
}

fn view(subscription: &Subscription) -> Value {
    json!(SubscriptionView::in_entry(subscription))
}

/// A subscription as it is stored, which is compared, and as it may be shown.
struct Seen {
    stored: Map<String, Value>,
    view: Map<String, Value>,
}

impl Seen {
    fn of(subscription: &Subscription) -> Self {
        let members = |value| match value {
            Value::Object(members) => members,
            _ => Map::new(),
        };
        Self { stored: members(json!(subscription.definition)), view: members(view(subscription)) }
    }

    /// These members, those masked that are not to be seen.
    fn shown(&self, names: &BTreeSet<&String>) -> Value {
        let member = |name: &&String| {
            let hidden =
                || self.stored.get(*name).filter(|value| !value.is_null()).map(|_| json!(MASK));
            let value = self.view.get(*name).cloned().or_else(hidden)?;
            Some(((*name).clone(), value))
        };
        names.iter().filter_map(member).collect()
    }
}
