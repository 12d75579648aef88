//! What waits for its first try: in log order, and where the subscription is ordered, one of a kind at a time.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crate::domain::event::Event;
use crate::domain::position::Position;

/// How many events wait in memory for one subscription, and how many bytes of them.
pub(crate) const MOST_READY: (usize, usize) = (1_000, 1 << 20);
/// How many places in the log are kept of events that wait for one of the same kind before them.
const MOST_HELD: usize = 65_536;

/// An event to be tried first.
#[derive(Debug)]
pub(crate) enum First {
    /// This one.
    Ready(Arc<Event>),
    /// The one at this place, which must be fetched.
    Held(Position),
}

/// Events that wait for their first try. Of those with the same order key only the first may be begun, and only when
/// none of that key is under way; the others are kept as places in the log, so that a key which is held up holds up
/// no other, and memory stays bounded.
#[derive(Debug, Default)]
pub(crate) struct Lanes {
    ready: VecDeque<(Option<i64>, Arc<Event>)>,
    bytes: usize,
    /// By order key, those that wait for one before them.
    held: HashMap<i64, VecDeque<Position>>,
    held_count: usize,
    /// Those that were held and are no longer.
    freed: VecDeque<(i64, Position)>,
    /// How many of a key are under way: running, or waiting for another try.
    busy: HashMap<i64, usize>,
}

impl Lanes {
    /// Takes an event up, above all taken up before.
    pub(crate) fn push(&mut self, key: Option<i64>, event: &Arc<Event>) {
        self.bytes += event.body.len();
        self.ready.push_back((key, Arc::clone(event)));
    }

    /// Whether there is one that may be begun.
    pub(crate) fn has_first(&mut self) -> bool {
        self.hold_busy();
        !self.freed.is_empty() || !self.ready.is_empty()
    }

    /// Takes the next one out to begin it, with its order key, which is busy from now on: what was held up goes first.
    pub(crate) fn begin(&mut self) -> Option<(First, Option<i64>)> {
        if let Some((key, position)) = self.freed.pop_front() {
            return Some((First::Held(position), Some(key)));
        }
        self.hold_busy();
        let (key, event) = self.ready.pop_front()?;
        self.bytes -= event.body.len();
        if let Some(key) = key {
            self.occupy(key);
        }
        Some((First::Ready(event), key))
    }

    /// One that was held up could not be begun; its key stays busy.
    pub(crate) fn put_back(&mut self, key: i64, position: Position) {
        self.freed.push_front((key, position));
    }

    /// Moves those in front whose key is busy out of the way.
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

    /// One more of this key is under way.
    pub(crate) fn occupy(&mut self, key: i64) {
        *self.busy.entry(key).or_default() += 1;
    }

    /// One of this key is no longer under way. If it was the last, the next that waited for it may go, and the key stays
    /// busy.
    pub(crate) fn release(&mut self, key: i64) {
        let Some(count) = self.busy.get_mut(&key) else { return };
        *count -= 1;
        if *count > 0 {
            return;
        }
        let Entry::Occupied(mut waiting) = self.held.entry(key) else {
            self.busy.remove(&key);
            return;
        };
        if let Some(position) = waiting.get_mut().pop_front() {
            self.held_count -= 1;
            self.freed.push_back((key, position));
            *count += 1;
        }
        if waiting.get().is_empty() {
            waiting.remove();
        }
    }

    /// Lets go of what waits up to `gone`, and says what that was.
    pub(crate) fn expire(&mut self, gone: Position) -> Vec<Position> {
        let mut ended = Vec::new();
        while let Some((_, event)) = self.ready.pop_front_if(|(_, event)| event.position <= gone) {
            self.bytes -= event.body.len();
            ended.push(event.position);
        }
        for waiting in self.held.values_mut() {
            while let Some(position) = waiting.pop_front_if(|position| *position <= gone) {
                self.held_count -= 1;
                ended.push(position);
            }
        }
        self.held.retain(|_, waiting| !waiting.is_empty());
        let (freed, kept) = self.freed.drain(..).partition(|(_, position)| *position <= gone);
        self.freed = kept;
        for (key, position) in freed {
            ended.push(position);
            self.release(key);
        }
        ended
    }

    /// How many events wait.
    pub(crate) fn len(&self) -> usize {
        self.ready.len() + self.held_count + self.freed.len()
    }

    /// How many events wait in memory.
    pub(crate) fn ready(&self) -> usize {
        self.ready.len()
    }

    /// Bytes of the events that wait in memory.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether no more may be taken up.
    pub(crate) fn is_full(&self) -> bool {
        let (most, most_bytes) = MOST_READY;
        self.ready.len() >= most || self.bytes >= most_bytes || self.held_count >= MOST_HELD
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

    fn position_of(first: &First) -> Position {
        match first {
            First::Ready(event) => event.position,
            First::Held(position) => *position,
        }
    }

    #[test]
    fn a_key_that_is_held_up_holds_up_no_other_and_fills_no_memory() {
        let mut lanes = Lanes::default();
        lanes.push(Some(7), &event(1));
        let (first, key) = lanes.begin().unwrap();
        assert_eq!((position_of(&first), key), (Position::START.advanced(1), Some(7)));
        for number in 2..=5_000 {
            lanes.push(Some(7), &event(number));
            assert!(!lanes.has_first());
        }
        assert_eq!((lanes.ready(), lanes.bytes()), (0, 0));
        lanes.push(Some(8), &event(5_001));
        assert_eq!(position_of(&lanes.begin().unwrap().0), Position::START.advanced(5_001));
        lanes.release(7);
        assert_eq!(position_of(&lanes.begin().unwrap().0), Position::START.advanced(2));
        assert!(!lanes.has_first(), "one after the other");
    }

    #[test]
    fn what_is_gone_no_longer_waits_and_what_is_ordered_after_it_may_go() {
        let mut lanes = Lanes::default();
        for number in 1..=10 {
            lanes.push(Some(0), &event(number));
        }
        lanes.begin().unwrap();
        assert!(!lanes.has_first());
        let ended: Vec<_> = lanes.expire(Position::START.advanced(6));
        assert_eq!(ended.len(), 5, "all but the one under way");
        lanes.release(0);
        assert_eq!(position_of(&lanes.begin().unwrap().0), Position::START.advanced(7));
    }

    proptest! {
        #[test]
        fn each_key_keeps_its_order_with_one_under_way(
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
                    1 => if let Some((first, Some(key))) = lanes.begin() {
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
                let Some((first, Some(key))) = lanes.begin() else { break };
                running.push((key, position_of(&first)));
            }
            prop_assert_eq!(done.values().map(Vec::len).sum::<usize>(), keys.len());
            prop_assert!(done.values().all(|order| order.is_sorted()));
        }
    }
}
