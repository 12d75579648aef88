//! Effects: what the driver does with the network and the database. Each runs as a task, most end with a
//! [`Completion`].

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
use crate::domain::delivery::replay::RecordedDelivery;
use crate::domain::delivery::retry_schedule::reconnect_delays;
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

/// One read of a lagging subscription.
const READ_LIMIT: PageLimit = PageLimit { events: 2_000, bytes: 1 << 20 };
/// One read of a replay. Smaller, because all of its events become due retries at once.
const REPLAY_LIMIT: PageLimit = PageLimit { events: 100, bytes: 1 << 20 };
/// How long a failed read waits before it completes, because the engine repeats it at once.
const RETRY_DELAY: Duration = Duration::from_millis(500);

/// The result of an effect.
pub(super) enum Completion {
    AttemptEnded(Box<AttemptResult>),
    EventsFetched {
        fetches: Vec<FetchEvent>,
        events: Result<Vec<Arc<Event>>, StoreError>,
    },
    RangeRead {
        range: ReadRange,
        result: Result<Stretch, StoreError>,
    },
    /// With the events come the recorded states of their deliveries to the subscription.
    ReplayRangeRead {
        range: ReadReplayRange,
        result: Result<(Stretch, Vec<RecordedDelivery>), StoreError>,
    },
    /// The flush is committed for those of its shards that this node still owns.
    Flushed {
        shards: Vec<u16>,
        owned: Vec<u16>,
    },
    SharesCounted(Result<Shares, StoreError>),
    ShardsLoaded {
        shards: Vec<OwnedShard>,
        result: Result<(Vec<LoadedSubscription>, DeliveryState), StoreError>,
    },
    TransitionApplied(SubscriptionId),
    ExhaustedPublished(Exhausted),
    VerificationEnded(Box<VerificationResult>),
}

/// The live nodes, and the shards that this node has just acquired.
pub(super) struct Shares {
    pub(super) live_nodes: usize,
    pub(super) acquired: Vec<OwnedShard>,
}

/// The maximum number of shards for each node, rounded up. 0 nodes count as 1.
pub(super) fn fair_share(live_nodes: usize) -> usize {
    usize::from(SHARDS).div_ceil(live_nodes.max(1))
}

/// Sends one webhook request and measures its latency. `counter` is part of the attempt's id and makes it unique.
///
/// For an ordered subscription, the attempt fails as a timeout as soon as the lease is no longer trusted, because the
/// next owner of the shard sends the events that follow.
pub(super) async fn send_webhook(
    deliverer: Deliverer,
    lease: Lease,
    start: StartAttempt,
    counter: u32,
) -> Completion {
    let StartAttempt { subscription, event, number, term } = start;
    let (now, started) = (UnixMillis::now(), Instant::now());
    let exchange = deliverer.post(&subscription, &event, number, now);
    let Exchange { outcome, response } = if subscription.definition.delivery().is_ordered() {
        let cut_off = || {
            let reason = "this node could not renew its lease during the exchange";
            Exchange::failed(ErrorClass::Timeout, &reason)
        };
        lease.run_while_trusted(exchange).await.unwrap_or_else(cut_off)
    } else {
        exchange.await
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
        latency_ms: u32::try_from(started.elapsed().as_millis()).unwrap_or(u32::MAX),
        status,
        error,
        response,
    };
    Completion::AttemptEnded(Box::new(AttemptResult { attempt, outcome, term }))
}

pub(super) async fn verify_receiver(verifier: Verifier, request: VerifyReceiver) -> Completion {
    let attempted_at = UnixMillis::now();
    let outcome = verifier.verify(&request.subscription).await;
    Completion::VerificationEnded(Box::new(VerificationResult { request, attempted_at, outcome }))
}

/// An error is logged, and the write is not repeated: only `GET /v1/subscriptions/{id}` reads the record.
pub(super) async fn record_failed_verification(store: Store, failed: FailedVerification) {
    tracing::info!(subscription = %failed.subscription, error = %failed.error, "receiver not verified");
    if let Err(error) = store.upsert_verification(&failed).await {
        tracing::warn!(%error, "cannot record a failed verification");
    }
}

/// Reads the events of attempts whose event is not in memory. An error is returned after [`RETRY_DELAY`].
pub(super) async fn fetch_events(store: Store, fetches: Vec<FetchEvent>) -> Completion {
    let mut positions: Vec<i64> = fetches.iter().map(|fetch| fetch.position.stored()).collect();
    positions.sort_unstable();
    positions.dedup();
    let events = store.read_at(&positions, None).await;
    if events.is_err() {
        sleep(RETRY_DELAY).await;
    }
    Completion::EventsFetched { fetches, events }
}

/// Reads the log for a lagging subscription. An error is returned after [`RETRY_DELAY`].
pub(super) async fn read_range(log: Log, range: ReadRange) -> Completion {
    let tenant = Some(&*range.subscription.tenant);
    let scan = Scan { after: range.after, up_to: range.up_to, tenant, limit: READ_LIMIT };
    let result = log.read_after(scan).await;
    if result.is_err() {
        sleep(RETRY_DELAY).await;
    }
    Completion::RangeRead { range, result }
}

/// Reads the log for a replay, and the recorded deliveries of its events. An error is returned after [`RETRY_DELAY`].
pub(super) async fn read_replay_range(
    log: Log,
    store: Store,
    range: ReadReplayRange,
) -> Completion {
    let result = async {
        let tenant = Some(&*range.subscription.tenant);
        let scan = Scan { after: range.after, up_to: range.up_to, tenant, limit: REPLAY_LIMIT };
        let stretch = log.read_after(scan).await?;
        let positions: Vec<i64> =
            stretch.events.iter().map(|event| event.position.stored()).collect();
        let recorded = store.select_attempted(range.subscription.id, &positions).await?;
        Ok((stretch, recorded))
    };
    let result = result.await;
    if result.is_err() {
        sleep(RETRY_DELAY).await;
    }
    Completion::ReplayRangeRead { range, result }
}

/// Retries until the database accepts the flush. The completion names the shards that this node still owns.
pub(super) async fn write_flush(store: Store, mut flush: Flush) -> Completion {
    let shards: Vec<u16> = flush.shards.iter().map(|(shard, ..)| *shard).collect();
    let mut waits = reconnect_delays();
    loop {
        match store.flush(&flush).await {
            Ok(owned) => return Completion::Flushed { shards, owned },
            Err(error) => {
                tracing::warn!(%error, "cannot record delivery results; retrying");
                flush.prepare_resend();
                sleep(waits.next().unwrap_or_default()).await;
            }
        }
    }
}

/// Acquires free shards until this node has its fair share or no shard is free. `held`: the shards it already owns.
pub(super) async fn acquire_shards(store: Store, node: Uuid, held: Vec<u16>) -> Completion {
    let shares = async {
        let live_nodes = store.count_live_nodes().await?;
        let missing = fair_share(live_nodes).saturating_sub(held.len());
        let acquired = if missing == 0 {
            Vec::new()
        } else {
            store.acquire_shards(node, &held, missing).await?
        };
        Ok(Shares { live_nodes, acquired })
    };
    Completion::SharesCounted(shares.await)
}

pub(super) async fn load_shards(store: Store, shards: Vec<OwnedShard>) -> Completion {
    let result = async {
        let numbers: Vec<i16> =
            shards.iter().filter_map(|owned| i16::try_from(owned.shard).ok()).collect();
        // Subscriptions first: one that is created meanwhile comes by its entry in the log. In the opposite order it
        // could be loaded without its cursor.
        let subscriptions = store.select_webhooks_of_shards(&numbers).await?;
        let ids: Vec<i64> =
            subscriptions.iter().map(|subscription| subscription.id.stored()).collect();
        let versions = store.select_versions(&ids).await?;
        let state = store.select_delivery_state(&ids).await?;
        Ok((feed::join(subscriptions, versions), state))
    };
    let result = result.await;
    Completion::ShardsLoaded { shards, result }
}

/// Releases shards, each given with its term. After an error, which is logged, this node acquires them again, or after
/// its stop another node does.
pub(super) async fn release_shards(store: Store, node: Uuid, shards: Vec<(u16, i64)>) {
    if let Err(error) = store.release_shards(node, &shards).await {
        tracing::warn!(%error, "cannot release shards");
    }
}

/// An error is logged, and the write is not repeated.
pub(super) async fn record_applied_position(store: Store, node: Uuid, position: Position) {
    if let Err(error) = store.update_acted_on(node, position).await {
        tracing::warn!(%error, "cannot record how far this node has applied the log");
    }
}
