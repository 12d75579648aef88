//! Entries of the audit log: the actor, the action, and the change.

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::domain::MASK;
use crate::domain::id::AuditId;
use crate::domain::subscription::Subscription;
use crate::domain::subscription::view::SubscriptionView;
use crate::domain::time::UnixMillis;

/// The author of a change: a client, a receiver or the hub itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Actor {
    /// The id of the key; `admin` for the operator's key, `hub` for the hub itself, `receiver` for a receiver that
    /// confirmed its verification.
    pub key: String,
    pub address: Option<String>,
    pub user_agent: Option<String>,
    pub request_id: Option<String>,
}

impl Actor {
    pub fn hub() -> Self {
        Self { key: "hub".to_owned(), address: None, user_agent: None, request_id: None }
    }
}

#[derive(Debug)]
pub struct Action<'a> {
    pub tenant: &'a str,
    /// Such as `key.revoked`.
    pub name: &'a str,
    /// The id or the name of the object.
    pub target: String,
}

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
    /// Creates an entry without the state before and after. The store never has two entries with the same `token`.
    pub fn new(now: UnixMillis, token: Uuid, actor: &Actor, action: Action<'_>) -> Self {
        Self {
            id: AuditId::new(now, token.as_fields().0).stored(),
            token: token.to_string(),
            tenant: action.tenant.to_owned(),
            actor: actor.clone(),
            action: action.name.to_owned(),
            target: action.target,
            before: None,
            after: None,
        }
    }

    /// JSON text: one object, whose members are named as the columns of the audit table.
    pub fn to_row(&self) -> String {
        json!(self).to_string()
    }

    /// Adds the state before and after; `None`: no object. Of two JSON objects, keeps only the members that differ.
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

    /// Like [`Self::with`], for a subscription. A changed secret counts as a difference, but is shown masked.
    #[must_use]
    pub fn with_subscription(
        self,
        before: Option<&Subscription>,
        after: Option<&Subscription>,
    ) -> Self {
        let (Some(before), Some(after)) = (before, after) else {
            return self.with(before.map(view), after.map(view));
        };
        let (old, new) = (Snapshot::of(before), Snapshot::of(after));
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

/// The members of `of` with these names; missing ones are omitted.
fn only(names: &BTreeSet<&String>, of: &Map<String, Value>) -> Value {
    let member = |name: &&String| of.get(*name).map(|value| ((*name).clone(), value.clone()));
    names.iter().filter_map(member).collect()
}

/// Returns the subscription as the JSON that a log entry shows, with masked secrets.
fn view(subscription: &Subscription) -> Value {
    json!(SubscriptionView::in_entry(subscription))
}

/// A subscription in its stored form, which is compared, and its view, which is shown.
struct Snapshot {
    stored: Map<String, Value>,
    view: Map<String, Value>,
}

impl Snapshot {
    fn of(subscription: &Subscription) -> Self {
        let members = |value| match value {
            Value::Object(members) => members,
            _ => Map::new(),
        };
        Self { stored: members(json!(subscription.definition)), view: members(view(subscription)) }
    }

    /// The members as the API shows them; one that only the stored form has, such as a secret, is [`MASK`].
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
