//! Changing a subscription: read, decide, write, and again from the start if another request changed it in between.

use super::find::find_subscription;
use crate::api::auth::context::Context;
use crate::api::problem::Problem;
use crate::domain::subscription::Subscription;
use crate::domain::subscription::change::{Change, ChangeResult};

/// How often a request tries to write its change.
pub(super) const MAX_CHANGE_ATTEMPTS: u32 = 5;

/// Reads a subscription, applies the change that `decide` returns, and returns the subscription after it. `None`
/// changes nothing.
///
/// Repeats both steps if another request changed the subscription meanwhile; 409 after several attempts.
pub(super) async fn apply_change(
    context: &Context,
    id: &str,
    decide: impl Fn(Subscription) -> Result<Option<Change>, Problem>,
) -> Result<Subscription, Problem> {
    for _ in 0..MAX_CHANGE_ATTEMPTS {
        let current = find_subscription(context, id).await?;
        let Some(change) = decide(current.clone())? else { return Ok(current) };
        let changed = context.api.log.change(&change, Some(&current), &context.actor()).await?;
        if let ChangeResult::Applied { position, .. } = changed {
            return Ok(Subscription { changed_at: position, ..change.subscription });
        }
    }
    Err(Problem::concurrent_modification("subscription"))
}
