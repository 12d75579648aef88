//! Finding a pull subscription for a caller.

use crate::api::auth::context::Context;
use crate::api::problem::{Code, Problem};
use crate::api::subscriptions::find::find_subscription;
use crate::domain::subscription::Subscription;
use crate::domain::subscription::channel::Channel;

/// Finds a pull subscription by the text of its id. 404 if the key may not see it; 409 if it has a callback URL, or is
/// paused or disabled.
pub(super) async fn find_pull_subscription(
    context: &Context,
    id: &str,
) -> Result<Subscription, Problem> {
    let subscription = find_subscription(context, id).await?;
    match subscription.definition.channel {
        Channel::Pull { .. } => {}
        Channel::Webhook(_) => return Err(not_a_pull_subscription()),
    }
    if !subscription.is_pulled() {
        let status = subscription.status.name();
        let detail =
            format!("the subscription is {status}; POST /v1/subscriptions/{id}/resume first");
        return Err(Problem::new(Code::Conflict, detail));
    }
    Ok(subscription)
}

pub(super) fn not_a_pull_subscription() -> Problem {
    Problem::new(
        Code::Conflict,
        "the subscription has a callback_url; PATCH it with {\"callback_url\": null} to pull its events",
    )
}
