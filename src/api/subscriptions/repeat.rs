//! The response to a repeated request: the subscription as the first request with the same idempotency key left it.

use serde_json::{Value, json};

use crate::api::auth::context::Context;
use crate::api::auth::visibility::require_visible;
use crate::api::problem::{ApiResult, Code, Problem};
use crate::domain::id::SubscriptionId;
use crate::domain::position::Position;

pub(super) struct FirstView {
    pub(super) id: Option<SubscriptionId>,
    pub(super) view: Value,
}

/// The subscription as it was after the first request, from that request's log entry at `position`. The secret is the
/// current one, because the log holds no secrets. 500 without the entry.
pub(super) async fn first_view(
    context: &Context,
    position: Option<Position>,
) -> ApiResult<FirstView> {
    let Context { api, caller, .. } = context;
    let positions: Vec<i64> = position.iter().map(|position| position.stored()).collect();
    let entry = api.store.read_at(&positions, Some(&caller.tenant)).await?.into_iter().next();
    let (Some(entry), Some(position)) = (entry, position) else {
        return Err(missing_entry());
    };
    if let Some(id) = entry.about {
        require_visible(api, caller, id).await?;
    }
    let mut data: Value = serde_json::from_slice(&entry.data()).unwrap_or_default();
    let mut view = data.get_mut("subscription").map(Value::take).unwrap_or_default();
    if let (Some(members), Some(id)) = (view.as_object_mut(), entry.about) {
        members.insert("updated_at".into(), json!(position.time().max(id.time())));
        if let Some(current) = api.store.select_subscription(&entry.tenant, id).await? {
            members.insert("secret".into(), json!(current.definition.signing().secret().reveal()));
        }
    }
    Ok(FirstView { id: entry.about, view })
}

pub(crate) fn missing_entry() -> Problem {
    Problem::new(Code::Internal, "the log entry of the first request does not exist")
}
