//! A node's lease on its shards: renewed every second, believed for less time than it is granted.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::access::keys::Keys;
use crate::log::Log;
use crate::store::Store;
use crate::store::nodes::{Identity, NodeName};

/// How long the lease is granted from each renewal.
pub(crate) const GRANTED: Duration = Duration::from_millis(4_500);
/// How long it is believed, counted from before the renewal was sent.
const BELIEVED: Duration = Duration::from_secs(3);
/// How often it is renewed.
const EVERY: Duration = Duration::from_secs(1);

#[derive(Debug, Clone)]
struct Renewed {
    until: Instant,
    by: Option<Identity>,
}

/// Until when this node may act as the owner of its shards.
#[derive(Debug, Clone)]
pub(crate) struct Lease {
    renewed: watch::Receiver<Renewed>,
}

impl Lease {
    /// Whether the lease is to be believed now.
    pub(crate) fn holds(&self) -> bool {
        self.until() > Instant::now()
    }

    fn until(&self) -> Instant {
        self.renewed.borrow().until
    }

    /// Whether it was another server that renewed it than `known`, or the same in another life; that is known from now
    /// on.
    pub(crate) fn is_by_another(&self, known: &mut Option<Identity>) -> bool {
        let by = self.renewed.borrow().by.clone();
        let another = known.is_some() && by.is_some() && *known != by;
        *known = by.or(known.take());
        another
    }

    /// Waits for the next renewal, or for its end when nobody renews any more.
    pub(crate) async fn renewed(&mut self) -> bool {
        self.renewed.changed().await.is_ok()
    }

    /// Lets `work` go on while the lease is to be believed, and not a step further, also after this process was stopped
    /// for a while. `None`: it was not to be believed any more.
    pub(crate) async fn while_held<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let mut work = pin!(work);
        loop {
            let until = self.until();
            let mut end = pin!(sleep_until(until));
            let step = poll_fn(|context| {
                if Instant::now() >= until || end.as_mut().poll(context).is_ready() {
                    return Poll::Ready(None);
                }
                work.as_mut().poll(context).map(Some)
            });
            match step.await {
                None if self.holds() => {}
                done => return done,
            }
        }
    }
}

/// A lease that does not hold yet, and the task that keeps renewing it for as long as the lease is in use.
pub(crate) fn keep(
    store: Store,
    node: NodeName,
    log: Log,
    keys: Keys,
) -> (Lease, impl Future<Output = ()>) {
    let (sender, renewed) = watch::channel(Renewed { until: Instant::now(), by: None });
    (Lease { renewed }, renew(store, node, log, keys, sender))
}

async fn renew(
    store: Store,
    node: NodeName,
    log: Log,
    keys: Keys,
    renewed: watch::Sender<Renewed>,
) {
    loop {
        let asked = Instant::now();
        match store.renew_lease(&node, GRANTED, log.head()).await {
            Ok(by) => {
                keys.lease_runs_until(asked + BELIEVED);
                renewed.send_replace(Renewed { until: asked + BELIEVED, by: Some(by) });
            }
            Err(error) => tracing::warn!(%error, "cannot renew the lease on this node's shards"),
        }
        tokio::select! {
            () = sleep_until(asked + EVERY) => {}
            () = renewed.closed() => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    const SHORT: Duration = Duration::from_millis(40);

    #[tokio::test]
    async fn work_goes_on_while_the_lease_is_renewed_and_ends_with_it() {
        let begin = Instant::now();
        let (sender, renewed) = watch::channel(Renewed { until: begin + SHORT, by: None });
        let lease = Lease { renewed };
        sender.send_replace(Renewed { until: begin + SHORT * 2, by: None });
        assert_eq!(lease.while_held(pending::<()>()).await, None);
        assert!(begin.elapsed() >= SHORT * 2);
        assert_eq!(lease.while_held(async { 7 }).await, None, "not even a first step");
    }

    #[tokio::test]
    async fn a_renewal_while_work_is_under_way_lets_it_go_on() {
        let begin = Instant::now();
        let (sender, renewed) = watch::channel(Renewed { until: begin + SHORT, by: None });
        let lease = Lease { renewed };
        let work = async {
            sender.send_replace(Renewed { until: begin + SHORT * 100, by: None });
            sleep_until(begin + SHORT * 2).await;
        };
        assert_eq!(lease.while_held(work).await, Some(()));
    }

    #[test]
    fn another_server_is_noticed_once() {
        let identity = |timeline: &str| Identity { system: 7, timeline: timeline.to_owned() };
        let now = Instant::now();
        let (sender, renewed) = watch::channel(Renewed { until: now, by: None });
        let (lease, mut known) = (Lease { renewed }, None);
        assert!(!lease.is_by_another(&mut known), "nobody has answered yet");
        for (timeline, another) in [("1", false), ("1", false), ("2", true), ("2", false)] {
            sender.send_replace(Renewed { until: now, by: Some(identity(timeline)) });
            assert_eq!(lease.is_by_another(&mut known), another);
        }
    }
}
