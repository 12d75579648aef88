//! The events of a subscription whose first attempt has not ended. They hold its cursor back.

use std::collections::VecDeque;

use crate::domain::position::Position;

#[derive(Debug)]
struct Entry {
    position: Position,
    is_finished: bool,
}

/// Events in log order. An event is finished when its first attempt has ended. The front one is never finished.
#[derive(Debug, Default)]
pub(super) struct Unfinished {
    entries: VecDeque<Entry>,
}

impl Unfinished {
    /// The position must be above those of all events added earlier.
    pub(super) fn add(&mut self, position: Position) {
        self.entries.push_back(Entry { position, is_finished: false });
    }

    pub(super) fn finish(&mut self, position: Position) {
        if let Some(entry) = self.index_of(position).and_then(|index| self.entries.get_mut(index)) {
            entry.is_finished = true;
        }
        while self.entries.pop_front_if(|entry| entry.is_finished).is_some() {}
    }

    pub(super) fn contains(&self, position: Position) -> bool {
        let entry = self.index_of(position).and_then(|index| self.entries.get(index));
        entry.is_some_and(|entry| !entry.is_finished)
    }

    /// Just before the oldest unfinished event, which the cursor cannot pass. `None`: there is none.
    pub(super) fn cursor(&self) -> Option<Position> {
        self.entries.front().map(|entry| entry.position.previous())
    }

    /// `None`: never added, or removed.
    fn index_of(&self, position: Position) -> Option<usize> {
        self.entries.binary_search_by_key(&position, |entry| entry.position).ok()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_cursor_stays_just_below_the_first_unfinished_event(count in 1usize..40, order in any::<u64>()) {
            let mut unfinished = Unfinished::default();
            let positions: Vec<_> = (1..=count).map(|n| Position::START.advanced(n * 3)).collect();
            for position in &positions {
                unfinished.add(*position);
            }
            let mut open: Vec<_> = positions.clone();
            let mut random = usize::try_from(order >> 1).unwrap();
            while !open.is_empty() {
                prop_assert_eq!(unfinished.cursor(), open.iter().min().map(|first| first.previous()));
                random = random.rotate_left(5).wrapping_add(7);
                let done = open.remove(random % open.len());
                prop_assert!(unfinished.contains(done));
                unfinished.finish(done);
                prop_assert!(!unfinished.contains(done));
            }
            prop_assert_eq!(unfinished.cursor(), None);
        }
    }
}
