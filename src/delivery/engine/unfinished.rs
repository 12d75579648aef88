//! The events a subscription has taken up and not finished, which hold its cursor back.

use std::collections::VecDeque;

use crate::domain::position::Position;

/// Positions in log order, each finished or not; the front one never is.
#[derive(Debug, Default)]
pub(crate) struct Unfinished {
    pairs: VecDeque<(Position, bool)>,
}

impl Unfinished {
    /// Notes an event that is above all noted before.
    pub(crate) fn take_up(&mut self, position: Position) {
        self.pairs.push_back((position, false));
    }

    /// Notes that an event is delivered, or its failure is on record.
    pub(crate) fn finish(&mut self, position: Position) {
        if let Ok(index) = self.pairs.binary_search_by_key(&position, |(at, _)| *at)
            && let Some(pair) = self.pairs.get_mut(index)
        {
            pair.1 = true;
        }
        while self.pairs.front().is_some_and(|(_, finished)| *finished) {
            self.pairs.pop_front();
        }
    }

    /// Whether the event is taken up and not finished.
    pub(crate) fn contains(&self, position: Position) -> bool {
        self.pairs.binary_search(&(position, false)).is_ok()
    }

    /// How far all is finished; `None` when nothing holds the cursor back.
    pub(crate) fn cursor(&self) -> Option<Position> {
        self.pairs.front().map(|(position, _)| position.previous())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_cursor_is_just_below_the_first_that_is_not_finished(count in 1usize..40, order in any::<u64>()) {
            let mut unfinished = Unfinished::default();
            let positions: Vec<_> = (1..=count).map(|n| Position::START.advanced(n * 3)).collect();
            for position in &positions {
                unfinished.take_up(*position);
            }
            let mut open: Vec<_> = positions.clone();
            let mut turn = usize::try_from(order >> 1).unwrap();
            while !open.is_empty() {
                prop_assert_eq!(unfinished.cursor(), open.iter().min().map(|first| first.previous()));
                turn = turn.rotate_left(5).wrapping_add(7);
                let done = open.remove(turn % open.len());
                prop_assert!(unfinished.contains(done));
                unfinished.finish(done);
                prop_assert!(!unfinished.contains(done));
            }
            prop_assert_eq!(unfinished.cursor(), None);
        }
    }
}
