//! Events of one subscription that wait for another try: which are due, and which run.

use std::collections::{BTreeMap, HashSet, VecDeque};

use crate::domain::delivery::retry::Retry;
use crate::domain::position::Position;

/// What waits for another try, or has it now.
#[derive(Debug, Default)]
pub(crate) struct Retries {
    waiting: BTreeMap<Position, Retry>,
    due: VecDeque<Position>,
    running: HashSet<Position>,
}

impl Retries {
    /// How many there are, those that run included.
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// How many run.
    pub(crate) fn running(&self) -> usize {
        self.running.len()
    }

    /// What an event waits for.
    pub(crate) fn get(&self, position: Position) -> Option<Retry> {
        self.waiting.get(&position).copied()
    }

    /// Whether its try runs.
    pub(crate) fn is_running(&self, position: Position) -> bool {
        self.running.contains(&position)
    }

    /// All of them.
    pub(crate) fn positions(&self) -> HashSet<Position> {
        self.waiting.keys().copied().collect()
    }

    /// The one whose event is the oldest.
    pub(crate) fn oldest(&self) -> Option<Position> {
        self.waiting.first_key_value().map(|(position, _)| *position)
    }

    /// Sets what an event waits for; whether it did not wait before.
    pub(crate) fn set(&mut self, position: Position, retry: Retry) -> bool {
        self.waiting.insert(position, retry).is_none()
    }

    /// An event's time has come.
    pub(crate) fn fall_due(&mut self, position: Position) {
        if self.waiting.contains_key(&position)
            && !self.running.contains(&position)
            && !self.due.contains(&position)
        {
            self.due.push_back(position);
        }
    }

    /// The one that has been due longest; of those with the same order key, the first in the log.
    pub(crate) fn next_due(&self) -> Option<Position> {
        let is_first = |position: &&Position| {
            let key = self.get(**position).and_then(|retry| retry.order_key);
            let mut before = self.waiting.range(..**position);
            key.is_none() || !before.any(|(_, retry)| retry.order_key == key)
        };
        self.due.iter().find(is_first).copied()
    }

    /// A try begins.
    pub(crate) fn begin(&mut self, position: Position) {
        self.due.retain(|due| *due != position);
        self.running.insert(position);
    }

    /// A try could not be begun, and stays due; whether there was one.
    pub(crate) fn put_back(&mut self, position: Position) -> bool {
        let was_running = self.running.remove(&position);
        if was_running {
            self.due.push_front(position);
        }
        was_running
    }

    /// A try has ended: what was waited for before it; `None` when none ran.
    pub(crate) fn end(&mut self, position: Position) -> Option<Retry> {
        self.running.remove(&position).then(|| self.waiting.remove(&position)).flatten()
    }

    /// Lets go of those up to `gone` that do not run.
    pub(crate) fn expire(&mut self, gone: Position) -> Vec<(Position, Retry)> {
        let waits = |(position, _): &(&Position, &Retry)| !self.running.contains(*position);
        let ended: Vec<(Position, Retry)> = self
            .waiting
            .range(..=gone)
            .filter(waits)
            .map(|(position, retry)| (*position, *retry))
            .collect();
        for (position, _) in &ended {
            self.waiting.remove(position);
        }
        self.due.retain(|position| self.waiting.contains_key(position));
        ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::time::UnixMillis;

    #[test]
    fn of_one_order_key_only_the_first_is_tried() {
        let at = |number| Position::START.advanced(number);
        let retry = |order_key| Retry {
            attempts: 1,
            due: UnixMillis::EPOCH,
            first_attempt: UnixMillis::EPOCH,
            order_key,
        };
        let mut retries = Retries::default();
        for (number, key) in [(1, Some(7)), (2, Some(7)), (3, Some(8)), (4, None)] {
            assert!(retries.set(at(number), retry(key)));
        }
        for number in [2, 3, 4, 1] {
            retries.fall_due(at(number));
        }
        assert_eq!(retries.next_due(), Some(at(3)), "2 waits for 1");
        retries.begin(at(3));
        assert_eq!(retries.next_due(), Some(at(4)));
        retries.begin(at(4));
        assert_eq!(retries.next_due(), Some(at(1)));
        retries.begin(at(1));
        assert_eq!(retries.next_due(), None, "1 runs");
        retries.end(at(1));
        assert_eq!(retries.next_due(), Some(at(2)));
    }
}
