//! Expiry: counts the events that each lagging subscription loses to retention, and records them as gaps.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use tokio::time::Instant;

use crate::domain::event::matcher::Matcher;
use crate::domain::id::SubscriptionId;
use crate::domain::position::Position;
use crate::domain::subscription::gap::Gap;
use crate::domain::subscription::version::Version;
use crate::store::expiry::{EventCount, LaggingSubscription};
use crate::store::{Store, StoreError};

/// How many events one statement counts.
const PAGE_SIZE: u16 = 10_000;
/// How often a long count logs its progress.
const REPORT_INTERVAL: Duration = Duration::from_secs(10);

/// The events that match one lagging subscription, in the range of the log that expires and is above its cursor.
#[derive(Debug, Clone, Copy)]
struct MatchedEvents {
    count: u64,
    first: Position,
    last: Position,
}

/// Records the gap of each subscription that loses events up to `expired_up_to`, and moves its cursor. Returns the
/// number of lost events that this call recorded.
pub(crate) async fn record_gaps(store: &Store, expired_up_to: Position) -> Result<u64, StoreError> {
    let lagging = store.select_lagging(expired_up_to).await?;
    if lagging.is_empty() {
        return Ok(0);
    }
    let matched = count_matched(store, &lagging, expired_up_to).await?;
    let mut total = 0;
    for subscription in &lagging {
        let id = subscription.id;
        let resolved = store.select_resolved(subscription, expired_up_to).await?;
        let matched = matched.get(&id);
        let unresolved = matched.map_or(0, |it| it.count).saturating_sub(resolved.resolved);
        let lost = unresolved + resolved.waiting;
        let ranges = matched.map(|it| (it.first, it.last)).into_iter().chain(resolved.retries);
        let range = ranges.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)));
        if let (Some((first, last)), 1..) = (range, lost)
            && store.record_gap(id, expired_up_to, &Gap::new(id, lost, first, last)).await?
        {
            tracing::warn!(subscription = %id, events = lost, "events expired before a subscription received them");
            total += lost;
        }
    }
    Ok(total)
}

/// Counts the events above its cursor that match each lagging subscription, whether or not they are resolved. The
/// result lacks subscriptions that no event matches.
async fn count_matched(
    store: &Store,
    lagging: &[LaggingSubscription],
    expired_up_to: Position,
) -> Result<HashMap<SubscriptionId, MatchedEvents>, StoreError> {
    let mut counter = Counter::new(store, lagging, expired_up_to).await?;
    let (mut read, mut report_at) = (0, Instant::now() + REPORT_INTERVAL);
    while let Some((start, end)) = counter.next_range() {
        let mut after = start;
        loop {
            let counts = store.select_event_counts(after, end, PAGE_SIZE).await?;
            let events: u64 = counts.iter().map(|count| count.events).sum();
            after = counts.iter().map(|count| count.last).max().unwrap_or(end);
            for count in &counts {
                counter.add(count);
            }
            read += events;
            if Instant::now() >= report_at {
                tracing::info!(read, at = %after.time(), up_to = %expired_up_to.time(), "counting expired events");
                report_at = Instant::now() + REPORT_INTERVAL;
            }
            if events < PAGE_SIZE.into() {
                break;
            }
        }
    }
    Ok(counter.matched)
}

/// Counts the matching events of ranges of the log in which no subscription's patterns change.
struct Counter<'a> {
    lagging: HashMap<SubscriptionId, (&'a LaggingSubscription, Vec<Version>)>,
    /// The positions where a subscription's range begins or its patterns change.
    edges: BTreeMap<Position, Vec<SubscriptionId>>,
    expired_up_to: Position,
    matcher: Matcher<SubscriptionId>,
    matched: HashMap<SubscriptionId, MatchedEvents>,
    /// The start of the current range.
    start: Position,
}

impl<'a> Counter<'a> {
    /// Divides the log up to `expired_up_to` into ranges in which no patterns change.
    async fn new(
        store: &Store,
        lagging: &'a [LaggingSubscription],
        expired_up_to: Position,
    ) -> Result<Self, StoreError> {
        let ids: Vec<i64> = lagging.iter().map(|one| one.id.stored()).collect();
        let mut by_id: HashMap<_, _> =
            lagging.iter().map(|one| (one.id, (one, Vec::new()))).collect();
        let mut edges: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for one in lagging {
            edges.entry(one.after).or_default().push(one.id);
        }
        for (id, version) in store.select_versions(&ids).await? {
            if let Some((one, versions)) = by_id.get_mut(&id) {
                edges.entry(version.since.max(one.after)).or_default().push(id);
                versions.push(version);
            }
        }
        drop(edges.split_off(&expired_up_to));
        Ok(Self {
            lagging: by_id,
            edges,
            expired_up_to,
            matcher: Matcher::default(),
            matched: HashMap::new(),
            start: Position::START,
        })
    }

    /// Moves on to the next range, and returns its exclusive start and inclusive end; `None` after the last range.
    fn next_range(&mut self) -> Option<(Position, Position)> {
        let (start, ids) = self.edges.pop_first()?;
        self.start = start;
        for id in ids {
            let Some((one, versions)) = self.lagging.get(&id) else { continue };
            if let Some(version) = versions.iter().rev().find(|version| version.since <= start) {
                self.matcher.set(id, &one.tenant, &version.event_types);
            }
        }
        let end = self.edges.first_key_value().map_or(self.expired_up_to, |(next, _)| *next);
        Some((start, end))
    }

    /// Adds events of the current range to each subscription that they match.
    fn add(&mut self, count: &EventCount) {
        let ids = match count.about {
            Some(id) => {
                let has_begun =
                    self.lagging.get(&id).is_some_and(|(one, _)| one.after <= self.start);
                has_begun.then_some(id).into_iter().collect()
            }
            None => self.matcher.matches(&count.tenant, &count.event_type),
        };
        for id in ids {
            let (first, last) = (count.first, count.last);
            let matched = self.matched.entry(id).or_insert(MatchedEvents { count: 0, first, last });
            matched.count += count.events;
            matched.first = matched.first.min(first);
            matched.last = matched.last.max(last);
        }
    }
}
