//! The log as the driver reads it: in order, and every change of a subscription comes with the subscription's state at
//! the time of the read, which may include later changes.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::mpsc;

use crate::delivery::engine::{LoadedSubscription, SubscriptionSnapshot};
use crate::domain::delivery::retry_schedule::reconnect_delays;
use crate::domain::event::Event;
use crate::domain::event::page::{PageLimit, Scan};
use crate::domain::id::SubscriptionId;
use crate::domain::position::Position;
use crate::domain::subscription::Subscription;
use crate::domain::subscription::command::Command;
use crate::domain::subscription::version::Version;
use crate::log::Log;
use crate::store::{Store, StoreError};

/// One page of the feed.
const PAGE_LIMIT: PageLimit = PageLimit { events: 500, bytes: 4 << 20 };

/// One entry of the log.
#[derive(Debug)]
pub(super) enum LogEntry {
    Event(Arc<Event>),
    /// A subscription was created, changed or deleted.
    Change {
        event: Arc<Event>,
        id: SubscriptionId,
        /// `None` if the subscription is deleted or is not a webhook.
        snapshot: Option<Box<SubscriptionSnapshot>>,
    },
    /// A command to the owner of a subscription's shard, such as a replay.
    Command {
        event: Arc<Event>,
        id: SubscriptionId,
        command: Command,
    },
}

impl LogEntry {
    pub(super) fn event(&self) -> &Arc<Event> {
        match self {
            Self::Event(event) | Self::Change { event, .. } | Self::Command { event, .. } => event,
        }
    }
}

/// Sends the log after `after` page by page. After an error, reads again. Returns when `entries` is closed.
pub(super) async fn run(
    log: Log,
    store: Store,
    mut after: Position,
    entries: mpsc::Sender<Vec<LogEntry>>,
) {
    let mut waits = reconnect_delays();
    loop {
        match read_page(&log, &store, after).await {
            Ok(page) => {
                waits = reconnect_delays();
                after = page.scanned;
                if !page.entries.is_empty() && entries.send(page.entries).await.is_err() {
                    return;
                }
                if page.is_complete {
                    tokio::select! {
                        () = log.wait_past(after) => {}
                        () = entries.closed() => return,
                    }
                }
            }
            Err(error) => {
                tracing::warn!(%error, "cannot read the log; retrying");
                tokio::select! {
                    () = tokio::time::sleep(waits.next().unwrap_or_default()) => {}
                    () = entries.closed() => return,
                }
            }
        }
    }
}

struct Page {
    entries: Vec<LogEntry>,
    /// The last examined position.
    scanned: Position,
    /// Whether the page ends at the end of the log.
    is_complete: bool,
}

async fn read_page(log: &Log, store: &Store, after: Position) -> Result<Page, StoreError> {
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
    let changed = if ids.is_empty() { HashMap::new() } else { read_snapshots(store, &ids).await? };
    let entries = stretch.events.into_iter().map(|event| log_entry(event, &changed)).collect();
    Ok(Page { entries, scanned: stretch.scanned, is_complete: stretch.complete })
}

/// `changed`: the subscriptions that this page of the log changes, without those deleted or without a webhook.
fn log_entry(
    event: Arc<Event>,
    changed: &HashMap<SubscriptionId, SubscriptionSnapshot>,
) -> LogEntry {
    match event.about {
        Some(id) if event.changes_subscription().is_some() => {
            let snapshot = changed.get(&id).cloned().map(Box::new);
            LogEntry::Change { event, id, snapshot }
        }
        Some(id) => match Command::from_event(&event) {
            Some(command) => LogEntry::Command { event, id, command },
            None => LogEntry::Event(event),
        },
        None => LogEntry::Event(event),
    }
}

/// Omits subscriptions that are deleted or have no webhook.
async fn read_snapshots(
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

/// Combines each subscription with its versions.
pub(super) fn join(
    subscriptions: Vec<Subscription>,
    versions: Vec<(SubscriptionId, Version)>,
) -> Vec<LoadedSubscription> {
    let mut by_id: HashMap<SubscriptionId, Vec<Version>> = HashMap::new();
    for (id, version) in versions {
        by_id.entry(id).or_default().push(version);
    }
    let load = |subscription: Subscription| {
        let versions = by_id.remove(&subscription.id).unwrap_or_default();
        LoadedSubscription { subscription, versions }
    };
    subscriptions.into_iter().map(load).collect()
}
