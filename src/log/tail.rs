//! The tail: the newest events in memory, contiguous and bounded. Every reader that has caught up reads from it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::observer::Observers;
use crate::domain::delivery::retry_schedule::reconnect_delays;
use crate::domain::event::Event;
use crate::domain::event::page::{PageLimit, Scan, Stretch};
use crate::domain::position::Position;
use crate::store::{Store, StoreError};

/// How many bytes of events the tail holds.
const MAX_BYTES: usize = 64 << 20;
/// How many events the tail holds.
const MAX_EVENTS: usize = 65_536;
/// How often the table is read without a notification; one may have been lost.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// How much of the log is loaded at the start.
const PRELOAD_LIMIT: PageLimit = PageLimit { events: 10_000, bytes: 16 << 20 };
/// How much one read of the table returns.
const PAGE_LIMIT: PageLimit = PageLimit { events: 2_000, bytes: 4 << 20 };

/// All events above `floor` and up to `last`, without a gap.
#[derive(Debug)]
struct TailBuffer {
    events: VecDeque<Arc<Event>>,
    bytes: usize,
    floor: Position,
    last: Position,
}

impl TailBuffer {
    /// Returns an empty buffer; the next event that it accepts is the first one after `head`.
    fn empty_at(head: Position) -> Self {
        Self { events: VecDeque::new(), bytes: 0, floor: head, last: head }
    }
}

/// The newest events of the log. The buffer is contiguous: a committed batch enters from memory only if it directly
/// follows the last event. Otherwise the missing range is read from the table.
#[derive(Debug)]
pub(super) struct Tail {
    buffer: Mutex<TailBuffer>,
    observers: Observers,
    head: watch::Sender<Position>,
    read_now: Notify,
}

impl Tail {
    /// Creates an empty tail for events after `head`. `observers` see each entry before any reader can.
    pub(super) fn new(head: Position, observers: Observers) -> Self {
        let buffer = Mutex::new(TailBuffer::empty_at(head));
        Self { buffer, observers, head: watch::Sender::new(head), read_now: Notify::new() }
    }

    /// Removes all events. The next event that the tail accepts is the first one after `head`.
    pub(super) fn reset_to(&self, head: Position) {
        *self.buffer() = TailBuffer::empty_at(head);
        self.head.send_replace(head);
    }

    /// Adds events that this node has just committed. `previous` is the last position before them, or `None` if
    /// unknown. If they do not directly follow the buffer, requests a read of the table instead.
    pub(super) fn add_committed(&self, previous: Option<Position>, events: Vec<Arc<Event>>) {
        let mut buffer = self.buffer();
        if previous == Some(buffer.last) {
            buffer.push(events, &self.observers);
            let last = buffer.last;
            drop(buffer);
            self.head.send_replace(last);
        } else if events.last().is_some_and(|event| event.position > buffer.last) {
            drop(buffer);
            self.read_now.notify_one();
        }
    }

    /// Adds events read from the table: all above `from` and up to `stretch.scanned`. Ignores those already there.
    fn add_read(&self, from: Position, stretch: Stretch) {
        let mut buffer = self.buffer();
        if from <= buffer.last && stretch.scanned > buffer.last {
            let last = buffer.last;
            let new = stretch.events.into_iter().filter(|event| event.position > last);
            buffer.push(new.collect(), &self.observers);
            let last = buffer.last;
            drop(buffer);
            self.head.send_replace(last);
        }
    }

    /// Reads forward from memory; `None` if the buffer does not hold every event after `scan.after`.
    pub(super) fn read_after(&self, scan: Scan<'_>) -> Option<Stretch> {
        let buffer = self.buffer();
        if scan.after < buffer.floor {
            return None;
        }
        let start = buffer.events.partition_point(|event| event.position <= scan.after);
        let mut stretch = Stretch { events: Vec::new(), scanned: scan.after, complete: true };
        let mut bytes = 0;
        for (event, number) in buffer.events.range(start..).zip(1..) {
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

    /// If true, the buffer holds every event after `position`, and `position` is not above its last event. Always false
    /// if the buffer is empty.
    pub(super) fn is_recent(&self, position: Position) -> bool {
        let buffer = self.buffer();
        let oldest = buffer.events.front().map(|event| event.position.previous());
        oldest.is_some_and(|oldest| (oldest..=buffer.last).contains(&position))
    }

    /// Loads the newest events of the table before the first reader, so that clients can resume from memory. The
    /// observers do not see them.
    pub(super) async fn preload(&self, store: &Store) -> Result<(), StoreError> {
        let up_to = self.head();
        let scan = Scan { after: Position::START, up_to, tenant: None, limit: PRELOAD_LIMIT };
        let stretch = store.read_before(scan).await?;
        let mut buffer = self.buffer();
        buffer.floor = if stretch.complete { Position::START } else { stretch.scanned.previous() };
        buffer.bytes = stretch.events.iter().map(|event| event.body.len()).sum();
        buffer.events = stretch.events.into_iter().rev().collect();
        drop(buffer);
        Ok(())
    }

    /// Removes the events at or below `expired_up_to`, after retention has expired them.
    pub(super) fn drop_expired(&self, expired_up_to: Position) {
        let mut buffer = self.buffer();
        while buffer.events.front().is_some_and(|event| event.position <= expired_up_to) {
            buffer.drop_oldest();
        }
    }

    /// Makes [`follow`] read the table now.
    pub(super) fn request_read(&self) {
        self.read_now.notify_one();
    }

    /// Returns the position of the newest event that readers on this node can see.
    pub(super) fn head(&self) -> Position {
        *self.head.borrow()
    }

    /// Waits, without a time limit, until [`Self::head`] is above `position`.
    pub(super) async fn wait_past(&self, position: Position) {
        let mut head = self.head.subscribe();
        // Cannot fail: self owns the sender.
        drop(head.wait_for(|head| *head > position).await);
    }

    fn buffer(&self) -> MutexGuard<'_, TailBuffer> {
        self.buffer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TailBuffer {
    /// Appends events that the observers see first. Drops the oldest events above the limits of the buffer.
    fn push(&mut self, events: Vec<Arc<Event>>, observers: &Observers) {
        for event in events {
            observers.notify_entry(&event);
            self.last = event.position;
            self.bytes += event.body.len();
            self.events.push_back(event);
        }
        while self.bytes > MAX_BYTES || self.events.len() > MAX_EVENTS {
            self.drop_oldest();
        }
    }

    /// The floor rises to the dropped event's position: the buffer holds every event above it.
    fn drop_oldest(&mut self) {
        if let Some(oldest) = self.events.pop_front() {
            self.bytes -= oldest.body.len();
            self.floor = oldest.position;
        }
    }
}

/// Reads new events from the table into the tail, until `stop`: on each request, and every [`POLL_INTERVAL`].
pub(super) async fn follow(tail: Arc<Tail>, store: Store, stop: CancellationToken) {
    let mut waits = reconnect_delays();
    loop {
        let pause = match read_new_events(&tail, &store).await {
            Ok(()) => {
                waits = reconnect_delays();
                POLL_INTERVAL
            }
            Err(error) => {
                tracing::warn!(%error, "cannot read the end of the log");
                waits.next().unwrap_or(POLL_INTERVAL)
            }
        };
        tokio::select! {
            () = tail.read_now.notified() => {}
            () = tokio::time::sleep(pause) => {}
            () = stop.cancelled() => return,
        }
    }
}

/// Reads from the last event of the tail to the end of the log.
async fn read_new_events(tail: &Tail, store: &Store) -> Result<(), StoreError> {
    loop {
        let after = tail.buffer().last;
        let scan = Scan { after, up_to: Position::END, tenant: None, limit: PAGE_LIMIT };
        let stretch = store.read_after(scan).await?;
        let complete = stretch.complete;
        tail.add_read(after, stretch);
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
        Arc::new(Event::at(at(position), &"t".into(), &new))
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
    fn a_batch_that_follows_directly_enters_from_memory() {
        let tail = Tail::new(at(10), Observers::default());
        tail.add_committed(Some(at(10)), vec![event(11), event(12)]);
        assert_eq!(tail.head(), at(12));
        assert_eq!(positions(&tail, 10), Some(vec![11, 12]));
        assert_eq!(positions(&tail, 11), Some(vec![12]));
        assert_eq!(positions(&tail, 9), None, "memory does not reach back that far");
    }

    #[test]
    fn a_batch_after_a_gap_becomes_visible_only_after_the_gap_is_read() {
        let tail = Tail::new(at(10), Observers::default());
        tail.add_committed(Some(at(11)), vec![event(12)]);
        assert_eq!(tail.head(), at(10), "no reader sees 12 before 11");
        tail.add_read(
            at(10),
            Stretch { events: vec![event(11), event(12)], scanned: at(12), complete: true },
        );
        assert_eq!(positions(&tail, 10), Some(vec![11, 12]));
    }

    #[test]
    fn events_already_in_the_tail_are_not_added_twice() {
        let tail = Tail::new(at(10), Observers::default());
        tail.add_committed(Some(at(10)), vec![event(11), event(12)]);
        tail.add_read(
            at(10),
            Stretch {
                events: vec![event(11), event(12), event(13)],
                scanned: at(13),
                complete: true,
            },
        );
        tail.add_committed(Some(at(11)), vec![event(12)]);
        assert_eq!(positions(&tail, 10), Some(vec![11, 12, 13]));
    }

    #[test]
    fn after_expired_events_are_dropped_the_next_batch_still_follows() {
        let tail = Tail::new(at(10), Observers::default());
        tail.add_committed(Some(at(10)), vec![event(11), event(12), event(14)]);
        tail.drop_expired(at(13));
        assert_eq!(positions(&tail, 11), None);
        assert_eq!(positions(&tail, 12), Some(vec![14]));
        tail.drop_expired(at(14));
        tail.add_committed(Some(at(14)), vec![event(15)]);
        assert_eq!(positions(&tail, 14), Some(vec![15]));
    }

    #[test]
    fn the_tail_is_bounded_and_its_floor_rises() {
        let tail = Tail::new(at(0), Observers::default());
        let count = i64::try_from(MAX_EVENTS).unwrap() + 5;
        tail.add_committed(Some(at(0)), (1..=count).map(event).collect());
        assert_eq!(tail.buffer().events.len(), MAX_EVENTS);
        assert!(positions(&tail, 4).is_none());
        assert_eq!(positions(&tail, 5).unwrap().first(), Some(&6));
    }
}
