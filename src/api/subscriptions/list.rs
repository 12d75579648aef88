//! `GET /v1/subscriptions`.

use actix_web::HttpResponse;
use serde_json::{Value, json};

use crate::api::auth::context::Authorized;
use crate::api::auth::visibility::invisible;
use crate::api::http::input::Parameters;
use crate::api::http::list::Page;
use crate::api::http::query::invalid;
use crate::api::problem::Problem;
use crate::domain::id::SubscriptionId;
use crate::domain::subscription::Status;
use crate::domain::subscription::view::SubscriptionView;
use crate::store::subscriptions::SubscriptionFilter;

/// `GET /v1/subscriptions`: lists the subscriptions that the caller may see, oldest first.
pub(super) async fn list(
    Authorized(context, parameters): Authorized<Parameters>,
) -> Result<HttpResponse, Problem> {
    let query = parameters.known(&["event_type", "status", "callback_url", "after", "limit"])?;
    let limit = query.limit()?;
    let status = query.text("status").map(|name| {
        Status::from_name(name).ok_or_else(|| {
            invalid("status", "expected active, failing, paused, disabled or unverified")
        })
    });
    let filter = SubscriptionFilter {
        event_type: query.text("event_type").map(str::to_owned),
        status: status.transpose()?,
        callback_url: query.text("callback_url").map(str::to_owned),
    };
    let after = query.parsed::<SubscriptionId>("after")?.map_or(0, SubscriptionId::stored);
    let (api, caller) = (&context.api, &context.caller);
    let found = api
        .store
        .select_subscriptions(&caller.tenant, &filter, after, i64::from(limit) + 1)
        .await?;
    let page = Page::new(found, limit, |last| last.id.to_string());
    let invisible = invisible(api, caller, page.items.iter().map(|found| found.id)).await?;
    let visible = page.items.iter().filter(|found| !invisible.contains(&found.id));
    let data: Vec<Value> = visible.map(|found| json!(SubscriptionView::of(found))).collect();
    Ok(query.list(&data, page.next_cursor.as_deref()))
}
