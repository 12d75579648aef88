//! The log as the dispatcher takes it: in order, with each change of a subscription looked up.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::mpsc;

use crate::delivery::engine::{LoadedSubscription, SubscriptionSnapshot};
use crate::domain::delivery::retry_schedule::reconnect_waits;
use crate::domain::event::Event;
use crate::domain::event::page::{PageLimit, Scan};
use crate::domain::id::SubscriptionId;
use crate::domain::position::Position;
use crate::domain::subscription::Subscription;
use crate::domain::subscription::command::Request;
use crate::domain::subscription::version::Version;
use crate::log::Log;
use crate::store::{Store, StoreError};

/// How much of the log goes in one piece.
const PAGE_LIMIT: PageLimit = PageLimit { events: 500, bytes: 4 << 20 };

/// One entry of the log.
#[derive(Debug)]
pub(crate) enum Item {
    /// An event.
    Event(Arc<Event>),
    /// A change of a subscription; `None`: it is deleted, or has no callback any more.
    Change(Arc<Event>, SubscriptionId, Option<Box<SubscriptionSnapshot>>),
    /// Something is asked of whoever delivers to a subscription.
    Request(Arc<Event>, SubscriptionId, Request),
}

/// Sends the log on from `after`, piece by piece, until nobody listens.
pub(crate) async fn run(
    log: Log,
    store: Store,
    mut after: Position,
    items: mpsc::Sender<Vec<Item>>,
) {
    let mut waits = reconnect_waits();
    loop {
        match piece(&log, &store, after).await {
            Ok((piece, scanned, complete)) => {
                waits = reconnect_waits();
                after = scanned;
                if !piece.is_empty() && items.send(piece).await.is_err() {
                    return;
                }
                if complete {
                    tokio::select! {
                        () = log.wait_past(after) => {}
                        () = items.closed() => return,
                    }
                }
            }
            Err(error) => {
                tracing::warn!(%error, "cannot read on in the log");
                tokio::select! {
                    () = tokio::time::sleep(waits.next().unwrap_or_default()) => {}
                    () = items.closed() => return,
                }
            }
        }
    }
}

async fn piece(
    log: &Log,
    store: &Store,
    after: Position,
) -> Result<(Vec<Item>, Position, bool), StoreError> {
    let stretch = log
        .read_after(Scan { after, up_to: Position::END, tenant: None, limit: PAGE_LIMIT })
        .await?;
    let mut ids: Vec<i64> = stretch
        .events
        .iter()
        .filter_map(|event| event.changes_subscription())
        .map(SubscriptionId::stored)
        .collect();
    ids.dedup();
    let changed = if ids.is_empty() { HashMap::new() } else { look_up(store, &ids).await? };
    let items = stretch.events.into_iter().map(|event| item(event, &changed)).collect();
    Ok((items, stretch.scanned, stretch.complete))
}

fn item(event: Arc<Event>, changed: &HashMap<SubscriptionId, SubscriptionSnapshot>) -> Item {
    match event.about {
        Some(id) if event.changes_subscription().is_some() => {
            Item::Change(event, id, changed.get(&id).cloned().map(Box::new))
        }
        Some(id) => match Request::of(&event) {
            Some(request) => Item::Request(event, id, request),
            None => Item::Event(event),
        },
        None => Item::Event(event),
    }
}

async fn look_up(
    store: &Store,
    ids: &[i64],
) -> Result<HashMap<SubscriptionId, SubscriptionSnapshot>, StoreError> {
    let subscriptions = store.select_webhooks_by_id(ids).await?;
    let versions = store.select_versions(ids).await?;
    let state = store.select_delivery_state(ids).await?;
    let snapshot = |loaded: LoadedSubscription| {
        let id = loaded.subscription.id;
        (id, SubscriptionSnapshot { loaded, state: state.of(id) })
    };
    Ok(join(subscriptions, versions).into_iter().map(snapshot).collect())
}

/// Puts subscriptions and their versions together.
pub(crate) fn join(
    subscriptions: Vec<Subscription>,
    versions: Vec<(SubscriptionId, Version)>,
) -> Vec<LoadedSubscription> {
    let mut by_id: HashMap<SubscriptionId, Vec<Version>> = HashMap::new();
    for (id, version) in versions {
        by_id.entry(id).or_default().push(version);
    }
    let known = |subscription: Subscription| {
        let versions = by_id.remove(&subscription.id).unwrap_or_default();
        LoadedSubscription { subscription, versions }
    };
    subscriptions.into_iter().map(known).collect()
}
