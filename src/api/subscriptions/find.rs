//! Finding a subscription for a caller.

use crate::api::auth::context::Context;
use crate::api::auth::visibility::require_visible;
use crate::api::problem::Problem;
use crate::domain::subscription::Subscription;

/// Finds a subscription of the caller's tenant by the text of its id. 404 if it does not exist or the key may not see
/// it.
pub(crate) async fn find_subscription(
    context: &Context,
    id: &str,
) -> Result<Subscription, Problem> {
    let Context { api, caller, .. } = context;
    let no_such = || Problem::not_found("subscription");
    let id = id.parse().map_err(|_bad| no_such())?;
    let found = api.store.select_subscription(&caller.tenant, id).await?.ok_or_else(no_such)?;
    require_visible(api, caller, id).await?;
    Ok(found)
}
