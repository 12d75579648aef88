//! The newest events in memory: contiguous, bounded, and read by everyone who is up to date.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::observer::Observers;
use crate::domain::delivery::retry_schedule::reconnect_waits;
use crate::domain::event::Event;
use crate::domain::event::page::{PageLimit, Scan, Stretch};
use crate::domain::position::Position;
use crate::store::Store;

/// How many bytes of events are kept in memory.
const MOST_BYTES: usize = 64 << 20;
/// How many events are kept in memory.
const MOST_EVENTS: usize = 65_536;
/// How often the table is looked at when nothing was heard of; another node may have appended.
const POLL: Duration = Duration::from_secs(1);
/// How much of the log is brought into memory at the start.
const PRELOAD_LIMIT: PageLimit = PageLimit { events: 10_000, bytes: 16 << 20 };
/// How much one look at the table brings.
const PAGE_LIMIT: PageLimit = PageLimit { events: 2_000, bytes: 4 << 20 };

/// Events above `floor`, without a gap.
#[derive(Debug)]
struct Kept {
    events: VecDeque<Arc<Event>>,
    bytes: usize,
    floor: Position,
    last: Position,
}

impl Kept {
    fn beginning_at(head: Position) -> Self {
        Self { events: VecDeque::new(), bytes: 0, floor: head, last: head }
    }
}

/// The end of the log. What it holds is contiguous: a batch is taken over in memory only when it follows directly on
/// what is there, else the table is read first.
#[derive(Debug)]
pub(super) struct Tail {
    kept: Mutex<Kept>,
    observers: Observers,
    head: watch::Sender<Position>,
    gap: Notify,
}

impl Tail {
    /// A tail that begins at the log's `head`. `observers` see each entry before any reader can.
    pub(super) fn new(head: Position, observers: Observers) -> Self {
        let kept = Mutex::new(Kept::beginning_at(head));
        Self { kept, observers, head: watch::Sender::new(head), gap: Notify::new() }
    }

    /// Forgets all events, and goes on from `head`.
    pub(super) fn begin_at(&self, head: Position) {
        *self.kept() = Kept::beginning_at(head);
        self.head.send_replace(head);
    }

    /// Takes over events just committed, given the position that was last before them.
    pub(super) fn offer(&self, previous: Option<Position>, events: Vec<Arc<Event>>) {
        let mut kept = self.kept();
        if previous == Some(kept.last) {
            kept.push(events, &self.observers);
            let last = kept.last;
            drop(kept);
            self.head.send_replace(last);
        } else if events.last().is_some_and(|event| event.position > kept.last) {
            drop(kept);
            self.gap.notify_one();
        }
    }

    /// Takes over what the table holds after `from`, up to `scanned`.
    fn fill(&self, from: Position, stretch: Stretch) {
        let mut kept = self.kept();
        if from <= kept.last && stretch.scanned > kept.last {
            let known = kept.last;
            let new = stretch.events.into_iter().filter(|event| event.position > known);
            kept.push(new.collect(), &self.observers);
            let last = kept.last;
            drop(kept);
            self.head.send_replace(last);
        }
    }

    /// What memory holds of a scan; `None` when it does not reach back that far.
    pub(super) fn read_after(&self, scan: Scan<'_>) -> Option<Stretch> {
        let kept = self.kept();
        if scan.after < kept.floor {
            return None;
        }
        let start = kept.events.partition_point(|event| event.position <= scan.after);
        let mut stretch = Stretch { events: Vec::new(), scanned: scan.after, complete: true };
        let mut bytes = 0;
        for (event, number) in kept.events.range(start..).zip(1..) {
            bytes += event.body.len();
            if event.position > scan.up_to {
                break;
            }
            if number > u32::from(scan.limit.events)
                || (number > 1 && bytes > usize::try_from(scan.limit.bytes).unwrap_or(0))
            {
                stretch.complete = false;
                break;
            }
            stretch.scanned = event.position;
            if scan.tenant.is_none_or(|tenant| tenant == &*event.tenant) {
                stretch.events.push(Arc::clone(event));
            }
        }
        Some(stretch)
    }

    /// Whether memory holds all that comes after `position`, and begins no later: then nothing after it is forgotten.
    pub(super) fn is_recent(&self, position: Position) -> bool {
        let kept = self.kept();
        let oldest = kept.events.front().map(|event| event.position.previous());
        oldest.is_some_and(|oldest| (oldest..=kept.last).contains(&position))
    }

    /// Takes over the newest events before anybody reads: those who come back after a restart find them in memory.
    pub(super) async fn preload(&self, store: &Store) -> Result<(), crate::store::StoreError> {
        let up_to = self.head();
        let scan = Scan { after: Position::START, up_to, tenant: None, limit: PRELOAD_LIMIT };
        let stretch = store.read_before(scan).await?;
        let mut kept = self.kept();
        kept.floor = if stretch.complete { Position::START } else { stretch.scanned.previous() };
        kept.bytes = stretch.events.iter().map(|event| event.body.len()).sum();
        kept.events = stretch.events.into_iter().rev().collect();
        drop(kept);
        Ok(())
    }

    /// Forgets what the table no longer has, up to `gone`.
    pub(super) fn forget(&self, gone: Position) {
        let mut kept = self.kept();
        while kept.events.front().is_some_and(|event| event.position <= gone) {
            kept.drop_oldest();
        }
    }

    /// Has the table looked at: another node may have appended.
    pub(super) fn read_on(&self) {
        self.gap.notify_one();
    }

    /// The newest position.
    pub(super) fn head(&self) -> Position {
        *self.head.borrow()
    }

    /// Waits until the newest position is above `position`.
    pub(super) async fn wait_past(&self, position: Position) {
        let mut head = self.head.subscribe();
        // The sender lives as long as self does.
        drop(head.wait_for(|head| *head > position).await);
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn push(&mut self, events: Vec<Arc<Event>>, observers: &Observers) {
        for event in events {
            observers.entry(&event);
            self.last = event.position;
            self.bytes += event.body.len();
            self.events.push_back(event);
        }
        while self.bytes > MOST_BYTES || self.events.len() > MOST_EVENTS {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        if let Some(oldest) = self.events.pop_front() {
            self.bytes -= oldest.body.len();
            self.floor = oldest.position;
        }
    }
}

/// Fills gaps from the table: when told of one, and now and then in any case.
pub(super) async fn follow(tail: Arc<Tail>, store: Store, stop: CancellationToken) {
    let mut waits = reconnect_waits();
    loop {
        let pause = match read_on(&tail, &store).await {
            Ok(()) => {
                waits = reconnect_waits();
                POLL
            }
            Err(error) => {
                tracing::warn!(%error, "cannot read the log's end");
                waits.next().unwrap_or(POLL)
            }
        };
        tokio::select! {
            () = tail.gap.notified() => {}
            () = tokio::time::sleep(pause) => {}
            () = stop.cancelled() => return,
        }
    }
}

async fn read_on(tail: &Tail, store: &Store) -> Result<(), crate::store::StoreError> {
    loop {
        let after = tail.kept().last;
        let scan = Scan { after, up_to: Position::END, tenant: None, limit: PAGE_LIMIT };
        let stretch = store.read_after(scan).await?;
        let complete = stretch.complete;
        tail.fill(after, stretch);
        if complete {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::domain::event::NewEvent;
    use crate::domain::event::event_type::EventType;

    fn event(position: i64) -> Arc<Event> {
        let new = NewEvent {
            event_type: EventType::from_stored("a"),
            about: None,
            occurred_at: None,
            data: Bytes::from_static(b"1"),
        };
        Arc::new(Event::placed(at(position), &"t".into(), &new))
    }

    fn at(position: i64) -> Position {
        Position::from_stored(position)
    }

    fn positions(tail: &Tail, after: i64) -> Option<Vec<i64>> {
        let scan = Scan {
            after: at(after),
            up_to: Position::END,
            tenant: None,
            limit: PageLimit { events: 100, bytes: 1 << 20 },
        };
        tail.read_after(scan)
            .map(|stretch| stretch.events.iter().map(|event| event.position.stored()).collect())
    }

    #[test]
    fn a_batch_that_follows_directly_is_taken_over() {
        let tail = Tail::new(at(10), Observers::default());
        tail.offer(Some(at(10)), vec![event(11), event(12)]);
        assert_eq!(tail.head(), at(12));
        assert_eq!(positions(&tail, 10), Some(vec![11, 12]));
        assert_eq!(positions(&tail, 11), Some(vec![12]));
        assert_eq!(positions(&tail, 9), None, "memory does not reach back that far");
    }

    #[test]
    fn a_batch_after_a_gap_waits_until_the_gap_is_read() {
        let tail = Tail::new(at(10), Observers::default());
        tail.offer(Some(at(11)), vec![event(12)]);
        assert_eq!(tail.head(), at(10), "nobody sees 12 before 11");
        tail.fill(
            at(10),
            Stretch { events: vec![event(11), event(12)], scanned: at(12), complete: true },
        );
        assert_eq!(positions(&tail, 10), Some(vec![11, 12]));
    }

    #[test]
    fn what_is_known_already_is_not_taken_twice() {
        let tail = Tail::new(at(10), Observers::default());
        tail.offer(Some(at(10)), vec![event(11), event(12)]);
        tail.fill(
            at(10),
            Stretch {
                events: vec![event(11), event(12), event(13)],
                scanned: at(13),
                complete: true,
            },
        );
        tail.offer(Some(at(11)), vec![event(12)]);
        assert_eq!(positions(&tail, 10), Some(vec![11, 12, 13]));
    }

    #[test]
    fn what_is_gone_is_forgotten_and_what_comes_next_still_follows() {
        let tail = Tail::new(at(10), Observers::default());
        tail.offer(Some(at(10)), vec![event(11), event(12), event(14)]);
        tail.forget(at(13));
        assert_eq!(positions(&tail, 11), None);
        assert_eq!(positions(&tail, 12), Some(vec![14]));
        tail.forget(at(14));
        tail.offer(Some(at(14)), vec![event(15)]);
        assert_eq!(positions(&tail, 14), Some(vec![15]));
    }

    #[test]
    fn memory_is_bounded_and_the_floor_rises() {
        let tail = Tail::new(at(0), Observers::default());
        let count = i64::try_from(MOST_EVENTS).unwrap() + 5;
        tail.offer(Some(at(0)), (1..=count).map(event).collect());
        assert_eq!(tail.kept().events.len(), MOST_EVENTS);
        assert!(positions(&tail, 4).is_none());
        assert_eq!(positions(&tail, 5).unwrap().first(), Some(&6));
    }
}
