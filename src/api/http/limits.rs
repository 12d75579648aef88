//! The rate at which a tenant publishes: what goes over it is refused, and publishers are told how they stand, in the
//! fields of draft-ietf-httpapi-ratelimit-headers-06, section 3.

use crate::api::auth::caller::Caller;
use crate::api::problem::{Code, Problem};
use crate::api::state::Api;
use crate::domain::access::token_bucket::RateLimitStatus;

/// Lets so many events of the caller's tenant through, or refuses all of them. `None`: it has no limit, or
/// there are none.
pub(crate) fn admit(
    api: &Api,
    caller: &Caller,
    rate: Option<u32>,
    events: usize,
) -> Result<Option<RateLimitStatus>, Problem> {
    let Some(rate) = rate.filter(|_| events > 0) else { return Ok(None) };
    let count = u32::try_from(events).unwrap_or(u32::MAX);
    api.quotas.take(&caller.tenant, rate, count).map(Some).map_err(|refused| {
        let RateLimitStatus { limit, remaining, reset_s } = refused;
        if limit == 0 {
            let detail = "this tenant may publish nothing at present (its quota events_per_s is 0)";
            return Problem::over_quota(Code::QuotaExceeded, refused, detail);
        }
        let detail = format!(
            "this tenant may publish {limit} events per second to each node (its quota events_per_s); these are \
             {events}, and {remaining} may come now: send them again in {reset_s} s"
        );
        Problem::over_quota(Code::RateLimited, refused, detail)
    })
}
