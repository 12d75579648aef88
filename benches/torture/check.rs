//! The checker: what was lost, came again, or came out of order. Values in, findings out.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use hookhub::domain::event::event_type::Pattern;
use hookhub::domain::position::Position;
use hookhub::domain::time::UnixMillis;

use super::arrival::Arrival;

/// An event of the log, as the hub lists it in the end.
#[derive(Debug, Clone)]
pub(crate) struct Logged {
    /// Its id.
    pub(crate) position: Position,
    /// Its type.
    pub(crate) event_type: String,
    /// Its number in the book.
    pub(crate) number: usize,
}

/// A time within which what is taken may have to be sent again.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Window {
    /// Because of which stroke of the schedule.
    pub(crate) stroke: usize,
    /// Its first moment.
    pub(crate) from: UnixMillis,
    /// Its last one.
    pub(crate) to: UnixMillis,
}

/// The events of these types, in order.
pub(crate) fn of_types(log: &[Logged], pattern: &Pattern) -> Vec<Position> {
    let of_type = log.iter().filter(|event| pattern.matches(&event.event_type));
    of_type.map(|event| event.position).collect()
}

/// What is wrong between the book and the log.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct OfLog {
    /// Numbers that were acknowledged and are not in the log under the id that was given.
    pub(crate) lost: Vec<usize>,
    /// Numbers that are in the log more than once.
    pub(crate) doubled: Vec<usize>,
    /// Events that nobody published.
    pub(crate) strange: Vec<Position>,
}

/// Checks the log against the ids with which numbers were acknowledged.
pub(crate) fn log(log: &[Logged], acknowledged: &[Option<Position>]) -> OfLog {
    let mut found = OfLog::default();
    let mut by_number: HashMap<usize, Vec<Position>> = HashMap::new();
    for event in log {
        by_number.entry(event.number).or_default().push(event.position);
        if event.number >= acknowledged.len() {
            found.strange.push(event.position);
        }
    }
    for (number, id) in acknowledged.iter().enumerate() {
        let places = by_number.get(&number).map_or(&[][..], Vec::as_slice);
        if id.is_some_and(|id| !places.contains(&id)) {
            found.lost.push(number);
        }
        if places.len() > 1 {
            found.doubled.push(number);
        }
    }
    found
}

/// An event that was taken once more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Repeat {
    /// The event.
    pub(crate) event: Position,
    /// When it had been taken before.
    pub(crate) before: UnixMillis,
    /// When it was taken again.
    pub(crate) again: UnixMillis,
    /// The last stroke because of which the earlier taking may not have been on record; `None`: it must have been.
    pub(crate) because_of: Option<usize>,
}

/// What came of one callback's deliveries.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct OfCallback {
    /// All POSTs.
    pub(crate) attempts: usize,
    /// Events that were taken.
    pub(crate) taken: usize,
    /// Events that never were.
    pub(crate) lost: Vec<Position>,
    /// Events that were taken again, each time.
    pub(crate) repeats: Vec<Repeat>,
    /// For ordered ones: events that were sent before the one before them was taken.
    pub(crate) overtook: Vec<Position>,
    /// Events that are not for it.
    pub(crate) strange: Vec<Position>,
}

impl OfCallback {
    /// The repeats of what must have been on record.
    pub(crate) fn needless(&self) -> impl Iterator<Item = &Repeat> {
        self.repeats.iter().filter(|repeat| repeat.because_of.is_none())
    }
}

/// Checks the POSTs to one callback, which is to get `wanted`, in their order in the log.
pub(crate) fn callback(
    wanted: &[Position],
    arrivals: &[Arrival],
    ordered: bool,
    windows: &[Window],
) -> OfCallback {
    let mut found = OfCallback { attempts: arrivals.len(), ..OfCallback::default() };
    let mut of_event: BTreeMap<Position, Vec<&Arrival>> = BTreeMap::new();
    for arrival in arrivals {
        of_event.entry(arrival.event).or_default().push(arrival);
    }
    let known: HashSet<&Position> = wanted.iter().collect();
    found.strange = of_event.keys().filter(|event| !known.contains(event)).copied().collect();
    let mut before_answered: Option<u64> = None;
    for event in wanted {
        let posts = of_event.get(event).map_or(&[][..], Vec::as_slice);
        let mut taken: Vec<&Arrival> = posts.iter().filter(|post| post.accepted).copied().collect();
        taken.sort_by_key(|post| post.answered);
        let Some(first) = taken.first() else {
            found.lost.push(*event);
            continue;
        };
        found.taken += 1;
        for (earlier, later) in taken.iter().zip(taken.iter().skip(1)) {
            let (before, again) =
                (UnixMillis::from_i64(earlier.at_ms), UnixMillis::from_i64(later.at_ms));
            let may = windows.iter().filter(|window| window.from <= before && before <= window.to);
            let because_of = may.max_by_key(|window| window.from).map(|window| window.stroke);
            found.repeats.push(Repeat { event: *event, before, again, because_of });
        }
        let arrived = posts.iter().map(|post| post.arrived).min();
        if ordered && arrived < before_answered {
            found.overtook.push(*event);
        }
        before_answered = Some(first.answered);
    }
    found
}

/// What a reader has seen.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct OfReader {
    /// Different events.
    pub(crate) seen: usize,
    /// Events that never came.
    pub(crate) missing: Vec<Position>,
    /// How often any came again.
    pub(crate) doubled: usize,
    /// Events that came for the first time after a later one.
    pub(crate) disordered: Vec<Position>,
    /// Events that are not for it.
    pub(crate) strange: Vec<Position>,
}

/// Checks what came to a reader of `wanted`, in the order in which it came.
pub(crate) fn reader(wanted: &[Position], came: &[Position]) -> OfReader {
    let wanted: BTreeSet<Position> = wanted.iter().copied().collect();
    let mut found = OfReader::default();
    let (mut seen, mut highest) = (HashSet::new(), Position::START);
    for event in came {
        if !wanted.contains(event) {
            found.strange.push(*event);
        } else if !seen.insert(*event) {
            found.doubled += 1;
        } else if *event < highest {
            found.disordered.push(*event);
        }
        highest = highest.max(*event);
    }
    found.seen = seen.len();
    found.missing = wanted.into_iter().filter(|event| !seen.contains(event)).collect();
    found
}
