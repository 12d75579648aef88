//! A node's lease: the right to act as the owner of its shards for a short time.
//!
//! One row in `nodes` is the lease of all shards that a node owns. [`keep_renewed`] renews it once a second. Postgres
//! grants it for 4.5 s, and the node trusts it for 3 s only:
//!
//! ```text
//!           sends the renewal
//!           |    receives the answer
//! node A ---t0---t1-----------------------------t0+3 s
//! monotonic |<---------- TRUSTED_FOR ---------->| A stops acting as the owner
//! clock     |                                   |
//!           |                                   |<- at least 1.5 s ->|
//! Postgres ------T0--------------------------------------------------T0+4.5 s
//! DB clock       |<----------------- GRANTED_FOR ------------------->| another node may take over
//!                runs the statement
//! ```
//!
//! **A node that cannot renew stops before another node may take over.** A counts its 3 s from `t0`, before it sends
//! the renewal. Postgres counts its 4.5 s from `T0`, when the statement runs, which is never before `t0`. So the trust
//! ends at least 1.5 s before the grant, however long the answer takes. If the answer is lost, only the grant grows.
//! One renewal may fail without an interruption.
//!
//! **Without trust** the driver acquires no shards and starts no attempts, reads or verifications.
//! [`Lease::run_while_trusted`] cuts off attempts in flight to ordered subscriptions, because the next owner sends the
//! events that follow. Other attempts in flight continue, also those whose event is still being fetched: at worst the
//! receiver gets an event twice under one `webhook-id`.
//!
//! **Clock skew between nodes does not matter.** No node uses its wall clock for its lease, or compares times with
//! another node. Each node measures durations with its monotonic clock ([`Instant`]). Only SQL decides whether a lease
//! has ended, by `clock_timestamp()` of the one database server. The margin of 1.5 s absorbs different clock rates and
//! a step of the server's clock. A failover replaces that clock, so both servers must agree to within 1.5 s.
//!
//! **The term fences late writes.** `take_shards` raises the term of each shard that it gives to a node. A flush names
//! the terms, locks the shards that still have them, and writes only rows of those shards, all in one statement
//! (`store/flush.sql`). So a takeover comes before a flush and fences it, or waits for it. The release of a shard and
//! the record of a failed verification check the term too. Two writes name no term: the version of the subscription
//! fences a status change, and `hookhub.delivery.exhausted` may be published twice.
//!
//! **After an interruption** the lease can be trusted again although another node has taken shards. The node learns it
//! from the next flush of such a shard, which it no longer owns, and forgets the shard. Until then it may repeat
//! deliveries, but it cannot record them.
//!
//! The cached API keys of a node are trusted as long as its lease: a revocation waits for every node whose lease is
//! granted.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::access::keys::Keys;
use crate::log::Log;
use crate::store::Store;
use crate::store::nodes::{NodeName, ServerIdentity};

/// How long Postgres grants the lease, from the time at which the renewal runs.
pub(in crate::delivery) const GRANTED_FOR: Duration = Duration::from_millis(4_500);
/// How long the node trusts the lease, from the time at which it sends the renewal.
const TRUSTED_FOR: Duration = Duration::from_secs(3);
const RENEWAL_INTERVAL: Duration = Duration::from_secs(1);

#[derive(Debug, Clone)]
struct Renewal {
    trusted_until: Instant,
    server: Option<ServerIdentity>,
}

/// The node's side of the lease. Clones follow the same renewals.
#[derive(Debug, Clone)]
pub(in crate::delivery) struct Lease {
    renewal: watch::Receiver<Renewal>,
}

impl Lease {
    /// Whether this node may now act as the owner of its shards: the last renewal of its lease is recent enough.
    pub(in crate::delivery) fn is_trusted(&self) -> bool {
        self.trusted_until() > Instant::now()
    }

    fn trusted_until(&self) -> Instant {
        self.renewal.borrow().trusted_until
    }

    /// Whether the last renewal came from another database server or timeline than `known`, and stores that server in
    /// `known`. Returns `false` if `known` was `None`.
    pub(in crate::delivery) fn detect_failover(&self, known: &mut Option<ServerIdentity>) -> bool {
        let server = self.renewal.borrow().server.clone();
        let has_changed = known.is_some() && server.is_some() && *known != server;
        *known = server.or(known.take());
        has_changed
    }

    /// Waits for a renewal that this clone has not waited for. Returns at once if the task that renews the lease has
    /// ended.
    pub(in crate::delivery) async fn wait_for_renewal(&mut self) {
        self.renewal.changed().await.unwrap_or_default();
    }

    /// Runs `work` to its end and returns its result. Drops it and returns `None` as soon as the lease is no longer
    /// trusted.
    ///
    /// The lease is checked before each poll: after the process was stopped (SIGSTOP) for longer than the lease, `work`
    /// is not polled again.
    pub(in crate::delivery) async fn run_while_trusted<T>(
        &self,
        work: impl Future<Output = T>,
    ) -> Option<T> {
        let mut work = pin!(work);
        loop {
            let until = self.trusted_until();
            let mut end = pin!(sleep_until(until));
            let result = poll_fn(|context| {
                if Instant::now() >= until || end.as_mut().poll(context).is_ready() {
                    return Poll::Ready(None);
                }
                work.as_mut().poll(context).map(Some)
            });
            match result.await {
                None if self.is_trusted() => {}
                result => return result,
            }
        }
    }
}

/// Creates this node's lease, not trusted before its first renewal, and a future that renews it. The caller must spawn
/// the future, which ends once the lease and all its clones are dropped.
pub(in crate::delivery) fn keep_renewed(
    store: Store,
    node: NodeName,
    log: Log,
    keys: Keys,
) -> (Lease, impl Future<Output = ()>) {
    let (sender, renewal) = watch::channel(Renewal { trusted_until: Instant::now(), server: None });
    (Lease { renewal }, renew(store, node, log, keys, sender))
}

/// Renews the lease once per [`RENEWAL_INTERVAL`] and reports each renewal to `renewal`. After an error, the next
/// renewal is at the next interval. Ends when every [`Lease`] is dropped.
async fn renew(
    store: Store,
    node: NodeName,
    log: Log,
    keys: Keys,
    renewal: watch::Sender<Renewal>,
) {
    loop {
        let sent_at = Instant::now();
        let trusted_until = sent_at + TRUSTED_FOR;
        match store.renew_lease(&node, GRANTED_FOR, log.head()).await {
            Ok(server) => {
                keys.lease_runs_until(trusted_until);
                renewal.send_replace(Renewal { trusted_until, server: Some(server) });
            }
            Err(error) => tracing::warn!(%error, "cannot renew the lease on this node's shards"),
        }
        tokio::select! {
            () = sleep_until(sent_at + RENEWAL_INTERVAL) => {}
            () = renewal.closed() => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    const SHORT: Duration = Duration::from_millis(40);

    #[tokio::test]
    async fn work_runs_while_the_lease_is_renewed_and_stops_when_trust_ends() {
        let begin = Instant::now();
        let (sender, renewal) =
            watch::channel(Renewal { trusted_until: begin + SHORT, server: None });
        let lease = Lease { renewal };
        sender.send_replace(Renewal { trusted_until: begin + SHORT * 2, server: None });
        assert_eq!(lease.run_while_trusted(pending::<()>()).await, None);
        assert!(begin.elapsed() >= SHORT * 2);
        assert_eq!(lease.run_while_trusted(async { 7 }).await, None, "not even a first step");
    }

    #[tokio::test]
    async fn a_renewal_during_work_extends_it() {
        let begin = Instant::now();
        let (sender, renewal) =
            watch::channel(Renewal { trusted_until: begin + SHORT, server: None });
        let lease = Lease { renewal };
        let work = async {
            sender.send_replace(Renewal { trusted_until: begin + SHORT * 100, server: None });
            sleep_until(begin + SHORT * 2).await;
        };
        assert_eq!(lease.run_while_trusted(work).await, Some(()));
    }

    #[test]
    fn a_failover_is_detected_once() {
        let identity = |timeline: &str| ServerIdentity { system: 7, timeline: timeline.to_owned() };
        let now = Instant::now();
        let (sender, renewal) = watch::channel(Renewal { trusted_until: now, server: None });
        let (lease, mut known) = (Lease { renewal }, None);
        assert!(!lease.detect_failover(&mut known), "no server has answered yet");
        for (timeline, has_changed) in [("1", false), ("1", false), ("2", true), ("2", false)] {
            sender.send_replace(Renewal { trusted_until: now, server: Some(identity(timeline)) });
            assert_eq!(lease.detect_failover(&mut known), has_changed);
        }
    }
}
