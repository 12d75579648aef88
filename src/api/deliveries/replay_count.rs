//! Counting the deliveries that a replay will make again.

use std::sync::Arc;

use crate::api::problem::ApiResult;
use crate::api::state::Api;
use crate::domain::delivery::replay::ReplayFilter;
use crate::domain::event::Event;
use crate::domain::event::page::{PageLimit, Scan};
use crate::domain::position::Position;
use crate::domain::subscription::Subscription;
use crate::domain::subscription::version::matches_event;

/// The maximum size of one page of the log that the count reads.
const PAGE_LIMIT: PageLimit = PageLimit { events: 5_000, bytes: 8 << 20 };
/// The maximum number of log pages that one count reads.
const MAX_PAGES: usize = 400;

/// The part of the log that a replay covers: the events above `after`, up to and including `until`.
#[derive(Debug, Clone, Copy)]
pub(super) struct ReplayRange {
    pub(super) after: Position,
    pub(super) until: Position,
}

pub(super) struct DeliveryCount {
    pub(super) deliveries: u64,
    /// Whether the count covers the whole range.
    pub(super) is_complete: bool,
}

/// Counts the deliveries that a replay with the filter `only` will make again, on at most [`MAX_PAGES`] pages of the
/// log.
pub(super) async fn count(
    api: &Api,
    subscription: &Subscription,
    range: ReplayRange,
    only: ReplayFilter,
) -> ApiResult<DeliveryCount> {
    let (id, tenant) = (subscription.id, &*subscription.tenant);
    let versions = api.store.select_versions_of(id).await?;
    let (mut after, mut deliveries) = (range.after, 0);
    for _ in 0..MAX_PAGES {
        let scan = Scan { after, up_to: range.until, tenant: Some(tenant), limit: PAGE_LIMIT };
        let stretch = api.log.read_after(scan).await?;
        let matches = |event: &&Arc<Event>| matches_event(event, id, tenant, &versions);
        let positions: Vec<i64> =
            stretch.events.iter().filter(matches).map(|event| event.position.stored()).collect();
        let attempted = api.store.select_attempted(id, &positions).await?;
        // A delivery that waits for its next attempt is made anyway, so the replay does not add it.
        let finished = attempted.iter().filter(|one| !one.is_waiting);
        deliveries += match only {
            ReplayFilter::All => finished.count(),
            ReplayFilter::Undelivered => finished.filter(|one| !one.is_delivered).count(),
        };
        after = stretch.scanned;
        if stretch.complete {
            return Ok(delivery_count(deliveries, true));
        }
    }
    Ok(delivery_count(deliveries, false))
}

fn delivery_count(deliveries: usize, is_complete: bool) -> DeliveryCount {
    DeliveryCount { deliveries: u64::try_from(deliveries).unwrap_or(u64::MAX), is_complete }
}
