//! What the session sends out to be done: each errand comes back as a message.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::feed;
use super::lease::Lease;
use crate::delivery::engine::{
    AttemptResult, FetchEvent, LoadedSubscription, ReadRange, ReadReplayRange, StartAttempt,
    VerificationResult, VerifyReceiver,
};
use crate::delivery::verification::Verifier;
use crate::delivery::webhook::{Deliverer, Exchange};
use crate::domain::delivery::attempt::Attempt;
use crate::domain::delivery::exhausted::Exhausted;
use crate::domain::delivery::flush::Flush;
use crate::domain::delivery::outcome::{ErrorClass, Outcome};
use crate::domain::delivery::replay::Tried;
use crate::domain::delivery::retry_schedule::reconnect_waits;
use crate::domain::delivery::shard::{OwnedShard, SHARDS};
use crate::domain::delivery::state::DeliveryState;
use crate::domain::event::Event;
use crate::domain::event::page::{PageLimit, Scan, Stretch};
use crate::domain::id::{AttemptId, SubscriptionId};
use crate::domain::position::Position;
use crate::domain::subscription::verification::FailedVerification;
use crate::domain::time::UnixMillis;
use crate::log::Log;
use crate::store::{Store, StoreError};

/// How much a subscription that is behind reads at a time.
const READ_LIMIT: PageLimit = PageLimit { events: 2_000, bytes: 1 << 20 };
/// How much a replay reads at a time: what that brings waits for its try all at once.
const REPLAY_LIMIT: PageLimit = PageLimit { events: 100, bytes: 1 << 20 };
/// How long to wait before what could not be read is asked for again.
const AGAIN_AFTER: Duration = Duration::from_millis(500);
/// How long to wait before a commit is tried again, at most.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// What comes back.
pub(crate) enum Message {
    /// An attempt has ended.
    Ended(Box<AttemptResult>),
    /// Events were fetched.
    Fetched(Vec<FetchEvent>, Result<Vec<Arc<Event>>, StoreError>),
    /// The log was read on for a subscription.
    Read(ReadRange, Result<Stretch, StoreError>),
    /// The log was read on for a replay, with what is on record of its deliveries.
    ReplayRead(ReadReplayRange, Result<(Stretch, Vec<Tried>), StoreError>),
    /// Results of these shards are recorded; the ones in the second list are still owned.
    Flushed(Vec<u16>, Vec<u16>),
    /// How many nodes there are, and which shards were taken.
    Shared(Result<(usize, Vec<OwnedShard>), StoreError>),
    /// Where the subscriptions of taken shards stand.
    Loaded(Vec<OwnedShard>, Result<(Vec<LoadedSubscription>, DeliveryState), StoreError>),
    /// A change of status is made.
    TransitionApplied(SubscriptionId),
    /// It is told that a delivery was given up.
    Told(Exhausted),
    /// A receiver was asked for its consent.
    Asked(Box<VerificationResult>),
}

/// How many shards one of so many nodes owns, at most.
pub(crate) fn fair_share(nodes: usize) -> usize {
    usize::from(SHARDS).div_ceil(nodes.max(1))
}

/// Makes a POST. One that is ordered goes on only while this node may act as its owner, for the next owner sends what
/// comes after it.
pub(crate) async fn post(
    deliverer: Deliverer,
    lease: Lease,
    start: StartAttempt,
    counter: u32,
) -> Message {
    let StartAttempt { subscription, event, number, term } = start;
    let (now, began) = (UnixMillis::now(), Instant::now());
    let posting = deliverer.post(&subscription, &event, number, now);
    let Exchange { outcome, response } = if subscription.definition.delivery().is_ordered() {
        let cut_off = || {
            let why = "this node lost touch with the database during the exchange";
            Exchange::failed(ErrorClass::Timeout, &why)
        };
        lease.run_while_trusted(posting).await.unwrap_or_else(cut_off)
    } else {
        posting.await
    };
    let (status, error) = match outcome {
        Outcome::Answered { status, .. } => (Some(status), None),
        Outcome::Failed(class) => (None, Some(class)),
    };
    let attempt = Attempt {
        id: AttemptId::new(now, counter),
        subscription: subscription.id,
        position: event.position,
        number,
        latency_ms: u32::try_from(began.elapsed().as_millis()).unwrap_or(u32::MAX),
        status,
        error,
        response,
    };
    Message::Ended(Box::new(AttemptResult { attempt, outcome, term }))
}

/// Asks a receiver for its consent.
pub(crate) async fn ask(verifier: Verifier, ask: VerifyReceiver) -> Message {
    let at = UnixMillis::now();
    let reply = verifier.verify(&ask.subscription).await;
    Message::Asked(Box::new(VerificationResult { ask, at, reply }))
}

/// Notes a handshake that brought no consent. What is not noted is merely not shown.
pub(crate) async fn note_verification(store: Store, tried: FailedVerification) {
    tracing::info!(subscription = %tried.subscription, error = %tried.error, "a receiver has not agreed to what it will be sent");
    if let Err(error) = store.upsert_verification(&tried).await {
        tracing::warn!(%error, "cannot note how far a handshake is");
    }
}

/// Fetches events to be tried.
pub(crate) async fn fetch(store: Store, wanted: Vec<FetchEvent>) -> Message {
    let mut positions: Vec<i64> = wanted.iter().map(|fetch| fetch.position.stored()).collect();
    positions.sort_unstable();
    positions.dedup();
    let events = store.read_at(&positions, None).await;
    if events.is_err() {
        sleep(AGAIN_AFTER).await;
    }
    Message::Fetched(wanted, events)
}

/// Reads on for a subscription that is behind.
pub(crate) async fn read(log: Log, read: ReadRange) -> Message {
    let tenant = Some(&*read.subscription.tenant);
    let scan = Scan { after: read.after, up_to: read.up_to, tenant, limit: READ_LIMIT };
    let stretch = log.read_after(scan).await;
    if stretch.is_err() {
        sleep(AGAIN_AFTER).await;
    }
    Message::Read(read, stretch)
}

/// Reads on for a replay.
pub(crate) async fn read_replay(log: Log, store: Store, read: ReadReplayRange) -> Message {
    let page = async {
        let tenant = Some(&*read.subscription.tenant);
        let scan = Scan { after: read.after, up_to: read.up_to, tenant, limit: REPLAY_LIMIT };
        let stretch = log.read_after(scan).await?;
        let positions: Vec<i64> =
            stretch.events.iter().map(|event| event.position.stored()).collect();
        let tried = store.select_attempted(read.subscription.id, &positions).await?;
        Ok((stretch, tried))
    };
    let page = page.await;
    if page.is_err() {
        sleep(AGAIN_AFTER).await;
    }
    Message::ReplayRead(read, page)
}

/// Writes a flush, however long the database stays away.
pub(crate) async fn record(store: Store, mut flush: Flush) -> Message {
    let shards: Vec<u16> = flush.shards.iter().map(|(shard, ..)| *shard).collect();
    let mut waits = reconnect_waits();
    loop {
        match store.flush(&flush).await {
            Ok(owned) => return Message::Flushed(shards, owned),
            Err(error) => {
                tracing::warn!(%error, "cannot record results; trying again");
                flush.send_again();
                sleep(waits.next().unwrap_or(LONGEST_WAIT)).await;
            }
        }
    }
}

/// Takes shards that are free, up to a fair share.
pub(crate) async fn share(store: Store, node: Uuid, held: Vec<u16>) -> Message {
    let share = async {
        let nodes = store.count_live_nodes().await?;
        let most = fair_share(nodes).saturating_sub(held.len());
        let taken =
            if most == 0 { Vec::new() } else { store.acquire_shards(node, &held, most).await? };
        Ok((nodes, taken))
    };
    Message::Shared(share.await)
}

/// Reads where the subscriptions of these shards stand.
pub(crate) async fn load(store: Store, owned: Vec<OwnedShard>) -> Message {
    let loaded = async {
        let shards: Vec<i16> =
            owned.iter().filter_map(|owned| i16::try_from(owned.shard).ok()).collect();
        // In this order: a subscription made in between is not among these, and comes by its entry in the log. The
        // other way round it would be here, and the cursor of its own not.
        let subscriptions = store.select_webhooks_of_shards(&shards).await?;
        let ids: Vec<i64> =
            subscriptions.iter().map(|subscription| subscription.id.stored()).collect();
        let versions = store.select_versions(&ids).await?;
        let state = store.select_delivery_state(&ids).await?;
        Ok((feed::join(subscriptions, versions), state))
    };
    let loaded = loaded.await;
    Message::Loaded(owned, loaded)
}

/// Gives shards back. Where that fails, this node finds them on record as its own, and takes them up again.
pub(crate) async fn release(store: Store, node: Uuid, shards: Vec<(u16, i64)>) {
    if let Err(error) = store.release_shards(node, &shards).await {
        tracing::warn!(%error, "cannot give shards back");
    }
}

/// Tells the other nodes how far this one has acted on the log.
pub(crate) async fn tell_acted(store: Store, node: Uuid, position: Position) {
    if let Err(error) = store.update_acted_on(node, position).await {
        tracing::warn!(%error, "other nodes are not told how far this one has acted on the log");
    }
}
