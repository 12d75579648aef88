//! Telling the subscriptions that retention overtakes what they lose, before it goes.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use tokio::time::Instant;

use crate::domain::event::matcher::Matcher;
use crate::domain::id::SubscriptionId;
use crate::domain::position::Position;
use crate::domain::subscription::gap::Gap;
use crate::domain::subscription::version::Version;
use crate::store::expiry::{Overtaken, Tally};
use crate::store::{Store, StoreError};

/// How many events are counted at a time.
const PAGE: u16 = 10_000;
/// How often long work says how far it is.
const REPORT_EVERY: Duration = Duration::from_secs(10);

/// The events of one subscription in the part of the log that goes.
#[derive(Debug, Clone, Copy)]
struct Lost {
    events: u64,
    first: Position,
    last: Position,
}

/// Tells every subscription that has not dealt with all its events up to `gone`, and moves it there. How many events
/// were lost, added up over those who are told.
pub(crate) async fn tell(store: &Store, gone: Position) -> Result<u64, StoreError> {
    let overtaken = store.select_lagging(gone).await?;
    if overtaken.is_empty() {
        return Ok(0);
    }
    let lost = count(store, &overtaken, gone).await?;
    let mut told = 0;
    for one in &overtaken {
        let dealt = store.select_resolved(one, gone).await?;
        let matched = lost.get(&one.id);
        let events =
            matched.map_or(0, |lost| lost.events).saturating_sub(dealt.settled) + dealt.waiting;
        let ends = matched.map(|lost| (lost.first, lost.last)).into_iter().chain(dealt.retries);
        let ends = ends.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)));
        if let (Some((first, last)), 1..) = (ends, events)
            && store.record_gap(one.id, gone, &Gap::new(one.id, events, first, last)).await?
        {
            tracing::warn!(subscription = %one.id, events, "events are gone that a subscription did not get");
            told += events;
        }
    }
    Ok(told)
}

/// Counts what each of them is meant to get of the log after its cursor, up to `gone`.
async fn count(
    store: &Store,
    overtaken: &[Overtaken],
    gone: Position,
) -> Result<HashMap<SubscriptionId, Lost>, StoreError> {
    let mut counter = Counter::new(store, overtaken, gone).await?;
    let (mut read, mut report_at) = (0, Instant::now() + REPORT_EVERY);
    while let Some((start, end)) = counter.next_stretch() {
        let mut after = start;
        loop {
            let page = store.select_event_counts(after, end, PAGE).await?;
            let events: u64 = page.iter().map(|tally| tally.events).sum();
            after = page.iter().map(|tally| tally.last).max().unwrap_or(end);
            for tally in &page {
                counter.take(tally);
            }
            read += events;
            if Instant::now() >= report_at {
                tracing::info!(read, at = %after.time(), up_to = %gone.time(), "counting what retention takes");
                report_at = Instant::now() + REPORT_EVERY;
            }
            if events < PAGE.into() {
                break;
            }
        }
    }
    Ok(counter.lost)
}

/// Matches stretches of the log within which nobody's patterns change.
struct Counter<'a> {
    overtaken: HashMap<SubscriptionId, (&'a Overtaken, Vec<Version>)>,
    /// Where a subscription comes in, or its patterns change.
    edges: BTreeMap<Position, Vec<SubscriptionId>>,
    gone: Position,
    in_force: Matcher<SubscriptionId>,
    lost: HashMap<SubscriptionId, Lost>,
    /// Everyone that comes in at or below is in.
    at: Position,
}

impl<'a> Counter<'a> {
    async fn new(
        store: &Store,
        overtaken: &'a [Overtaken],
        gone: Position,
    ) -> Result<Self, StoreError> {
        let ids: Vec<i64> = overtaken.iter().map(|one| one.id.stored()).collect();
        let mut by_id: HashMap<_, _> =
            overtaken.iter().map(|one| (one.id, (one, Vec::new()))).collect();
        let mut edges: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for one in overtaken {
            edges.entry(one.after).or_default().push(one.id);
        }
        for (id, version) in store.select_versions(&ids).await? {
            if let Some((one, versions)) = by_id.get_mut(&id) {
                edges.entry(version.since.max(one.after)).or_default().push(id);
                versions.push(version);
            }
        }
        drop(edges.split_off(&gone));
        Ok(Self {
            overtaken: by_id,
            edges,
            gone,
            in_force: Matcher::default(),
            lost: HashMap::new(),
            at: Position::START,
        })
    }

    /// Goes on to the next stretch: above the first, up to the second.
    fn next_stretch(&mut self) -> Option<(Position, Position)> {
        let (start, ids) = self.edges.pop_first()?;
        self.at = start;
        for id in ids {
            let Some((one, versions)) = self.overtaken.get(&id) else { continue };
            if let Some(version) = versions.iter().rev().find(|version| version.since <= start) {
                self.in_force.set(id, &one.tenant, &version.event_types);
            }
        }
        let end = self.edges.first_key_value().map_or(self.gone, |(next, _)| *next);
        Some((start, end))
    }

    fn take(&mut self, tally: &Tally) {
        let ids = match tally.about {
            Some(id) => {
                let meant = self.overtaken.get(&id).is_some_and(|(one, _)| one.after <= self.at);
                meant.then_some(id).into_iter().collect()
            }
            None => self.in_force.matches(&tally.tenant, &tally.event_type),
        };
        for id in ids {
            let lost = self.lost.entry(id).or_insert(Lost {
                events: 0,
                first: tally.first,
                last: tally.last,
            });
            lost.events += tally.events;
            lost.first = lost.first.min(tally.first);
            lost.last = lost.last.max(tally.last);
        }
    }
}
