//! `GET /v1/attempts`.

use actix_web::HttpResponse;
use serde_json::Value;

use super::view::attempt_view;
use crate::api::auth::context::Authorized;
use crate::api::auth::visibility::invisible;
use crate::api::http::input::Parameters;
use crate::api::http::list::Page;
use crate::api::http::query::{Query, invalid};
use crate::api::problem::Problem;
use crate::domain::id::SubscriptionId;
use crate::domain::position::Position;
use crate::store::deliveries::AttemptFilter;

/// `GET /v1/attempts`: lists the attempts of the tenant's deliveries, newest first by event and attempt number.
pub(super) async fn list(
    Authorized(context, parameters): Authorized<Parameters>,
) -> Result<HttpResponse, Problem> {
    let query = parameters.known(&["subscription", "event", "status_class", "after", "limit"])?;
    let limit = query.limit()?;
    let status_class = status_class(&query)?;
    let after = query.text("after").map(|text| {
        parse_cursor(text).ok_or_else(|| {
            invalid("after", "expected the next_cursor of an earlier list of attempts")
        })
    });
    let filter =
        AttemptFilter { event: query.parsed("event")?, status_class, after: after.transpose()? };
    let subscription = query.parsed("subscription")?;
    let (api, caller) = (&context.api, &context.caller);
    let found = api
        .store
        .select_attempts(&caller.tenant, subscription, filter, i64::from(limit) + 1)
        .await?;
    let page = Page::new(found, limit, |last| {
        let last = &last.attempt;
        format!("{}.{}.{}", last.position, last.number, last.subscription)
    });
    let attempts = || page.items.iter().map(|known| &known.attempt);
    let invisible = invisible(api, caller, attempts().map(|one| one.subscription)).await?;
    let visible = attempts().filter(|one| !invisible.contains(&one.subscription));
    let data: Vec<Value> = visible.map(attempt_view).collect();
    Ok(query.list(&data, page.next_cursor.as_deref()))
}

/// Parses the query parameter `status_class`. Returns the first digit of the status code, 0 for attempts without a
/// response, or `None` without the parameter.
fn status_class(query: &Query) -> Result<Option<i16>, Problem> {
    match query.text("status_class") {
        None => Ok(None),
        Some("none") => Ok(Some(0)),
        Some(class @ ("1xx" | "2xx" | "3xx" | "4xx" | "5xx")) => {
            Ok(class.get(..1).and_then(|digit| digit.parse().ok()))
        }
        Some(_) => Err(invalid(
            "status_class",
            "expected 2xx, 3xx, 4xx, 5xx, or none for attempts without a response",
        )),
    }
}

/// Parses the cursor of a list of attempts: the event's position, the attempt number and the subscription of the last
/// attempt.
fn parse_cursor(text: &str) -> Option<(Position, u16, SubscriptionId)> {
    let mut parts = text.split('.');
    let cursor =
        (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    parts.next().is_none().then_some(cursor)
}
