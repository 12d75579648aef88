//! Events of one subscription that wait for their first attempt. Events with one order key start in log order, one at a
//! time.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crate::domain::event::Event;
use crate::domain::position::Position;

/// With this many events in memory a subscription is full. One read of a lagging subscription may add more.
const MAX_READY_EVENTS: usize = 1_000;
/// With this many bytes of events in memory a subscription is full.
pub(super) const MAX_READY_BYTES: usize = 1 << 20;
/// A lagging subscription reads on once fewer events wait in memory.
pub(super) const READ_ON_BELOW: usize = 250;
/// With this many events behind busy order keys, kept as positions, a subscription is full.
const MAX_HELD: usize = 65_536;

/// The event of a first attempt.
#[derive(Debug)]
pub(super) enum FirstAttempt {
    Event(Arc<Event>),
    /// The event at this position must be fetched.
    Position(Position),
}

/// Events that wait for their first attempt.
///
/// Of the events with one order key only the first may start, and only while the key is not busy. An event that comes
/// to the front while its key is busy is kept as a position only: it holds back no other key, and memory stays bounded.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    ready: VecDeque<(Option<i64>, Arc<Event>)>,
    bytes: usize,
    /// By order key: the events behind a busy key.
    held: HashMap<i64, VecDeque<Position>>,
    held_count: usize,
    /// Events whose key has become free. The key is busy again, on their behalf.
    freed: VecDeque<(i64, Position)>,
    /// By order key: how many events run, wait for a retry or are in `freed`.
    busy: HashMap<i64, usize>,
}

impl Lanes {
    /// The position must be above those of all events added earlier. `key`: the event's order key.
    pub(super) fn push(&mut self, key: Option<i64>, event: &Arc<Event>) {
        self.bytes += event.body.len();
        self.ready.push_back((key, Arc::clone(event)));
    }

    /// Whether [`Self::start`] returns an event.
    pub(super) fn has_first(&mut self) -> bool {
        self.hold_busy();
        !self.freed.is_empty() || !self.ready.is_empty()
    }

    /// Takes the next event, whose order key becomes busy. Events that waited for a busy key come first.
    pub(super) fn start(&mut self) -> Option<(FirstAttempt, Option<i64>)> {
        if let Some((key, position)) = self.freed.pop_front() {
            return Some((FirstAttempt::Position(position), Some(key)));
        }
        self.hold_busy();
        let (key, event) = self.ready.pop_front()?;
        self.bytes -= event.body.len();
        if let Some(key) = key {
            self.occupy(key);
        }
        Some((FirstAttempt::Event(event), key))
    }

    /// Puts back an event that could not be fetched. Its order key stays busy.
    pub(super) fn return_slot(&mut self, key: i64, position: Position) {
        self.freed.push_front((key, position));
    }

    /// Moves events from the front of `ready` to `held` while their order key is busy.
    fn hold_busy(&mut self) {
        while let Some((Some(key), event)) = self.ready.front()
            && self.busy.contains_key(key)
        {
            self.held.entry(*key).or_default().push_back(event.position);
            self.held_count += 1;
            self.bytes -= event.body.len();
            self.ready.pop_front();
        }
    }

    /// Counts an event with this order key that runs or waits for a retry. The key is busy while the count is not zero.
    pub(super) fn occupy(&mut self, key: i64) {
        *self.busy.entry(key).or_default() += 1;
    }

    /// Reverts one [`Self::occupy`]. At zero, the next event that waits for the key may start and keeps it busy.
    pub(super) fn release(&mut self, key: i64) {
        let Some(count) = self.busy.get_mut(&key) else { return };
        *count -= 1;
        if *count > 0 {
            return;
        }
        let Entry::Occupied(mut held) = self.held.entry(key) else {
            self.busy.remove(&key);
            return;
        };
        if let Some(position) = held.get_mut().pop_front() {
            self.held_count -= 1;
            self.freed.push_back((key, position));
            *count += 1;
        }
        if held.get().is_empty() {
            held.remove();
        }
    }

    /// Removes the events at or below `up_to`, and returns their positions.
    pub(super) fn expire(&mut self, up_to: Position) -> Vec<Position> {
        let mut expired = Vec::new();
        while let Some((_, event)) = self.ready.pop_front_if(|(_, event)| event.position <= up_to) {
            self.bytes -= event.body.len();
            expired.push(event.position);
        }
        for held in self.held.values_mut() {
            while let Some(position) = held.pop_front_if(|position| *position <= up_to) {
                self.held_count -= 1;
                expired.push(position);
            }
        }
        self.held.retain(|_, held| !held.is_empty());
        let (freed, kept) = self.freed.drain(..).partition(|(_, position)| *position <= up_to);
        self.freed = kept;
        for (key, position) in freed {
            expired.push(position);
            self.release(key);
        }
        expired
    }

    /// Includes events that wait only as positions.
    pub(super) fn len(&self) -> usize {
        self.ready.len() + self.held_count + self.freed.len()
    }

    /// The number of events in memory.
    pub(super) fn ready_count(&self) -> usize {
        self.ready.len()
    }

    /// The size of the events in memory.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn is_full(&self) -> bool {
        self.ready.len() >= MAX_READY_EVENTS
            || self.bytes >= MAX_READY_BYTES
            || self.held_count >= MAX_HELD
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::domain::event::NewEvent;
    use crate::domain::event::event_type::EventType;

    fn event(number: usize) -> Arc<Event> {
        let new = NewEvent {
            event_type: EventType::from_stored("a"),
            about: None,
            occurred_at: None,
            data: Bytes::from_static(b"1"),
        };
        Arc::new(Event::at(Position::START.advanced(number), &"t".into(), &new))
    }

    fn position_of(first: &FirstAttempt) -> Position {
        match first {
            FirstAttempt::Event(event) => event.position,
            FirstAttempt::Position(position) => *position,
        }
    }

    #[test]
    fn a_busy_key_holds_back_no_other_key_and_fills_no_memory() {
        let mut lanes = Lanes::default();
        lanes.push(Some(7), &event(1));
        let (first, key) = lanes.start().unwrap();
        assert_eq!((position_of(&first), key), (Position::START.advanced(1), Some(7)));
        for number in 2..=5_000 {
            lanes.push(Some(7), &event(number));
            assert!(!lanes.has_first());
        }
        assert_eq!((lanes.ready_count(), lanes.bytes()), (0, 0));
        lanes.push(Some(8), &event(5_001));
        assert_eq!(position_of(&lanes.start().unwrap().0), Position::START.advanced(5_001));
        lanes.release(7);
        assert_eq!(position_of(&lanes.start().unwrap().0), Position::START.advanced(2));
        assert!(!lanes.has_first(), "one after the other");
    }

    #[test]
    fn an_expired_event_makes_way_for_the_next_of_its_key() {
        let mut lanes = Lanes::default();
        for number in 1..=10 {
            lanes.push(Some(0), &event(number));
        }
        lanes.start().unwrap();
        assert!(!lanes.has_first());
        let expired = lanes.expire(Position::START.advanced(6));
        assert_eq!(expired.len(), 5, "all but the running one");
        lanes.release(0);
        assert_eq!(position_of(&lanes.start().unwrap().0), Position::START.advanced(7));
    }

    proptest! {
        #[test]
        fn each_key_keeps_its_order_with_one_event_running(
            keys in prop::collection::vec(0i64..4, 1..60), choices in prop::collection::vec(any::<u8>(), 300),
        ) {
            let (mut lanes, mut next) = (Lanes::default(), 0);
            let mut running: Vec<(i64, Position)> = Vec::new();
            let mut done: HashMap<i64, Vec<Position>> = HashMap::new();
            for choice in choices {
                match choice % 3 {
                    0 if next < keys.len() => {
                        next += 1;
                        lanes.push(Some(keys[next - 1]), &event(next));
                    }
                    1 => if let Some((first, Some(key))) = lanes.start() {
                        prop_assert!(running.iter().all(|(other, _)| *other != key));
                        running.push((key, position_of(&first)));
                    },
                    _ if !running.is_empty() => {
                        let (key, position) = running.swap_remove(usize::from(choice) % running.len());
                        done.entry(key).or_default().push(position);
                        lanes.release(key);
                    }
                    _ => {}
                }
            }
            while next < keys.len() {
                next += 1;
                lanes.push(Some(keys[next - 1]), &event(next));
            }
            loop {
                for (key, position) in running.drain(..) {
                    done.entry(key).or_default().push(position);
                    lanes.release(key);
                }
                let Some((first, Some(key))) = lanes.start() else { break };
                running.push((key, position_of(&first)));
            }
            prop_assert_eq!(done.values().map(Vec::len).sum::<usize>(), keys.len());
            prop_assert!(done.values().all(|order| order.is_sorted()));
        }
    }
}
