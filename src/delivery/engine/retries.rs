//! Deliveries of one subscription that wait for another attempt: which are due, and which run.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use crate::domain::delivery::retry::Retry;
use crate::domain::position::Position;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Waiting,
    /// Due retries start in ascending order of this number.
    Due(i64),
    Running,
}

#[derive(Debug)]
struct Entry {
    retry: Retry,
    stage: Stage,
}

/// The retries of one subscription, by the position of their event.
///
/// Of the retries with one order key only the first in the log may start. `ready` holds the due retries that may
/// start, so that no operation scans the others.
#[derive(Debug, Default)]
pub(super) struct Retries {
    entries: BTreeMap<Position, Entry>,
    by_order_key: HashMap<i64, BTreeSet<Position>>,
    ready: BTreeMap<i64, Position>,
    running: usize,
    /// The numbers of [`Stage::Due`]: the next one at the end of the queue, and the next one before its start.
    next_last: i64,
    next_first: i64,
}

impl Retries {
    /// Running ones are included.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn running(&self) -> usize {
        self.running
    }

    /// The event's retry, in any stage.
    pub(super) fn get(&self, position: Position) -> Option<Retry> {
        self.entries.get(&position).map(|entry| entry.retry)
    }

    pub(super) fn is_running(&self, position: Position) -> bool {
        self.entries.get(&position).is_some_and(|entry| entry.stage == Stage::Running)
    }

    pub(super) fn positions(&self) -> HashSet<Position> {
        self.entries.keys().copied().collect()
    }

    /// In log order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Position, Retry)> {
        self.entries.iter().map(|(position, entry)| (*position, entry.retry))
    }

    pub(super) fn oldest(&self) -> Option<Position> {
        self.entries.first_key_value().map(|(position, _)| *position)
    }

    /// `None`: no retry may start. An earlier event's retry with the same order key prevents a start.
    pub(super) fn next_due(&self) -> Option<Position> {
        self.ready.first_key_value().map(|(_, position)| *position)
    }

    /// `false` if a retry was replaced, which keeps its stage.
    pub(super) fn set(&mut self, position: Position, retry: Retry) -> bool {
        if let Some(entry) = self.entries.get_mut(&position) {
            if entry.retry.order_key == retry.order_key {
                entry.retry = retry;
            } else {
                let stage = entry.stage;
                self.remove(position);
                self.insert(position, Entry { retry, stage });
            }
            return false;
        }
        self.insert(position, Entry { retry, stage: Stage::Waiting });
        true
    }

    /// The retry starts after all that are due already. Does nothing unless it waits.
    pub(super) fn mark_due(&mut self, position: Position) {
        if self.entries.get(&position).is_some_and(|entry| entry.stage == Stage::Waiting) {
            self.set_stage(position, Stage::Due(self.next_last));
            self.next_last += 1;
        }
    }

    /// Even if the retry is not due yet.
    pub(super) fn start(&mut self, position: Position) {
        self.set_stage(position, Stage::Running);
    }

    /// Makes a running retry the first due one. `false`, without a change, if it was not running.
    pub(super) fn return_slot(&mut self, position: Position) -> bool {
        let was_running = self.is_running(position);
        if was_running {
            self.next_first -= 1;
            self.set_stage(position, Stage::Due(self.next_first));
        }
        was_running
    }

    /// Takes a retry whose attempt has ended. `None`: no retry of this event runs.
    pub(super) fn end(&mut self, position: Position) -> Option<Retry> {
        if self.is_running(position) { self.remove(position) } else { None }
    }

    /// Takes the retries at or below `up_to`. Running retries stay.
    pub(super) fn expire(&mut self, up_to: Position) -> Vec<(Position, Retry)> {
        let is_waiting = |(_, entry): &(&Position, &Entry)| entry.stage != Stage::Running;
        let expired: Vec<(Position, Retry)> = self
            .entries
            .range(..=up_to)
            .filter(is_waiting)
            .map(|(position, entry)| (*position, entry.retry))
            .collect();
        for (position, _) in &expired {
            self.remove(*position);
        }
        expired
    }

    fn set_stage(&mut self, position: Position, stage: Stage) {
        if let Some(entry) = self.entries.get_mut(&position) {
            self.running -= usize::from(entry.stage == Stage::Running);
            if let Stage::Due(number) = entry.stage {
                self.ready.remove(&number);
            }
            entry.stage = stage;
            self.running += usize::from(stage == Stage::Running);
            self.update_ready(position);
        }
    }

    /// The event must not have a retry.
    fn insert(&mut self, position: Position, entry: Entry) {
        let key = entry.retry.order_key;
        self.running += usize::from(entry.stage == Stage::Running);
        self.entries.insert(position, entry);
        if let Some(key) = key {
            let former_first = self.first_of(key);
            self.by_order_key.entry(key).or_default().insert(position);
            self.update_all([former_first]);
        }
        self.update_ready(position);
    }

    /// The next retry with the same order key may then start.
    fn remove(&mut self, position: Position) -> Option<Retry> {
        let Entry { retry, stage } = self.entries.remove(&position)?;
        self.running -= usize::from(stage == Stage::Running);
        if let Stage::Due(number) = stage {
            self.ready.remove(&number);
        }
        if let Some(key) = retry.order_key
            && let Some(positions) = self.by_order_key.get_mut(&key)
        {
            positions.remove(&position);
            if positions.is_empty() {
                self.by_order_key.remove(&key);
            }
            self.update_all([self.first_of(key)]);
        }
        Some(retry)
    }

    /// The lowest position with a retry of this order key.
    fn first_of(&self, key: i64) -> Option<Position> {
        self.by_order_key.get(&key)?.first().copied()
    }

    fn update_all(&mut self, positions: impl IntoIterator<Item = Option<Position>>) {
        for position in positions.into_iter().flatten() {
            self.update_ready(position);
        }
    }

    /// Adds the retry to `ready` if it is due and the first with its order key; otherwise removes it from there.
    fn update_ready(&mut self, position: Position) {
        let Some(Entry { retry, stage: Stage::Due(number) }) = self.entries.get(&position) else {
            return;
        };
        if retry.order_key.is_none_or(|key| self.first_of(key) == Some(position)) {
            self.ready.insert(*number, position);
        } else {
            self.ready.remove(number);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;
    use crate::domain::time::UnixMillis;

    fn at(number: usize) -> Position {
        Position::START.advanced(number)
    }

    fn retry(order_key: Option<i64>) -> Retry {
        let (due, first_attempt) = (UnixMillis::EPOCH, UnixMillis::EPOCH);
        Retry { attempts: 1, due, first_attempt, order_key }
    }

    #[test]
    fn only_the_first_retry_of_an_order_key_starts() {
        let mut retries = Retries::default();
        for (number, key) in [(1, Some(7)), (2, Some(7)), (3, Some(8)), (4, None)] {
            assert!(retries.set(at(number), retry(key)));
        }
        for number in [2, 3, 4, 1] {
            retries.mark_due(at(number));
        }
        assert_eq!(retries.next_due(), Some(at(3)), "2 waits for 1");
        retries.start(at(3));
        assert_eq!(retries.next_due(), Some(at(4)));
        retries.start(at(4));
        assert_eq!(retries.next_due(), Some(at(1)));
        retries.start(at(1));
        assert_eq!(retries.next_due(), None, "1 runs");
        retries.end(at(1));
        assert_eq!(retries.next_due(), Some(at(2)));
    }

    /// The same rules by scanning, as the reference.
    #[derive(Default)]
    struct Scanned {
        retries: BTreeMap<Position, Retry>,
        due: VecDeque<Position>,
        running: HashSet<Position>,
    }

    impl Scanned {
        fn next_due(&self) -> Option<Position> {
            let is_first = |position: &&Position| {
                let key = self.retries[*position].order_key;
                key.is_none()
                    || self.retries.range(..**position).all(|(_, retry)| retry.order_key != key)
            };
            self.due.iter().find(is_first).copied()
        }
    }

    proptest! {
        #[test]
        fn retries_start_in_the_order_that_a_scan_finds(
            steps in prop::collection::vec((0..7u8, 1..20usize, prop::option::of(0..3i64)), 1..200)
        ) {
            let (mut retries, mut scanned) = (Retries::default(), Scanned::default());
            for (step, number, key) in steps {
                let position = at(number);
                let is_running = scanned.running.contains(&position);
                match step {
                    0 | 1 => {
                        let is_new = scanned.retries.insert(position, retry(key)).is_none();
                        prop_assert_eq!(retries.set(position, retry(key)), is_new);
                    }
                    2 => {
                        retries.mark_due(position);
                        let waits = scanned.retries.contains_key(&position) && !is_running;
                        if waits && !scanned.due.contains(&position) {
                            scanned.due.push_back(position);
                        }
                    }
                    3 => if let Some(next) = scanned.next_due().or(scanned.retries.keys().next().copied()) {
                        retries.start(next);
                        scanned.due.retain(|due| *due != next);
                        scanned.running.insert(next);
                    },
                    4 => {
                        prop_assert_eq!(retries.return_slot(position), is_running);
                        if scanned.running.remove(&position) {
                            scanned.due.push_front(position);
                        }
                    }
                    5 => {
                        let ended = scanned.running.remove(&position).then(|| scanned.retries.remove(&position)).flatten();
                        prop_assert_eq!(retries.end(position), ended);
                    }
                    _ => {
                        let expired: Vec<_> = scanned.retries.range(..=position)
                            .filter(|(position, _)| !scanned.running.contains(*position))
                            .map(|(position, retry)| (*position, *retry)).collect();
                        scanned.retries.retain(|position, _| expired.iter().all(|(other, _)| other != position));
                        scanned.due.retain(|position| scanned.retries.contains_key(position));
                        prop_assert_eq!(retries.expire(position), expired);
                    }
                }
                prop_assert_eq!(retries.next_due(), scanned.next_due());
                prop_assert_eq!(retries.running(), scanned.running.len());
                prop_assert_eq!(retries.positions(), scanned.retries.keys().copied().collect::<HashSet<_>>());
            }
        }
    }
}
