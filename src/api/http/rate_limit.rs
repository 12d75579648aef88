//! The rate limit on publishing: the tenant's quota `events_per_s`.

use crate::api::auth::caller::Caller;
use crate::api::problem::{ApiResult, Code, Problem};
use crate::api::state::Api;
use crate::domain::access::token_bucket::RateLimitStatus;

/// Takes `events` tokens of the caller's tenant; else 429, and none are taken. `rate`: in events per second. `None`
/// without a rate or without events: nothing is limited.
pub(crate) fn admit(
    api: &Api,
    caller: &Caller,
    rate: Option<u32>,
    events: usize,
) -> ApiResult<Option<RateLimitStatus>> {
    let Some(rate) = rate.filter(|_| events > 0) else { return Ok(None) };
    let count = u32::try_from(events).unwrap_or(u32::MAX);
    api.quotas.take_tokens(&caller.tenant, rate, count).map(Some).map_err(|refused| {
        let RateLimitStatus { limit, remaining, reset_s } = refused;
        if limit == 0 {
            let detail = "this tenant may not publish: its quota events_per_s is 0";
            return Problem::over_quota(Code::QuotaExceeded, refused, detail);
        }
        let detail = format!(
            "this tenant may publish {limit} events per second on each node (quota events_per_s); the request has \
             {events} events and {remaining} are allowed now; retry in {reset_s} s"
        );
        Problem::over_quota(Code::RateLimited, refused, detail)
    })
}
