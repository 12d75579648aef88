//! The checker: finds lost, duplicate and out-of-order events. Pure functions of the records.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use hookhub::domain::event::event_type::Pattern;
use hookhub::domain::position::Position;
use hookhub::domain::time::UnixMillis;

use super::attempt_record::AttemptRecord;

/// An event of the log, as the hub lists it at the end of the run.
#[derive(Debug, Clone)]
pub(crate) struct LoggedEvent {
    pub(crate) position: Position,
    pub(crate) event_type: String,
    /// The event's number in the ledger.
    pub(crate) number: usize,
}

/// A period in which a fault allows that an accepted delivery is sent again. Both ends are included.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DuplicateWindow {
    /// Index of the fault in the schedule.
    pub(crate) fault: usize,
    pub(crate) from: UnixMillis,
    pub(crate) to: UnixMillis,
}

/// The events that match the pattern, in log order.
pub(crate) fn matching(log: &[LoggedEvent], pattern: &Pattern) -> Vec<Position> {
    let matching = log.iter().filter(|event| pattern.matches(&event.event_type));
    matching.map(|event| event.position).collect()
}

/// Differences between the ledger and the log.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct LogFindings {
    /// Numbers of acknowledged events that are not in the log under the acknowledged id.
    pub(crate) lost: Vec<usize>,
    /// Numbers that are in the log more than once.
    pub(crate) duplicate: Vec<usize>,
    /// Events of the log that are not in the ledger.
    pub(crate) unexpected: Vec<Position>,
}

/// Checks the log against `acknowledged`: the id of each acknowledged event, indexed by number.
pub(crate) fn check_log(log: &[LoggedEvent], acknowledged: &[Option<Position>]) -> LogFindings {
    let mut findings = LogFindings::default();
    let mut by_number: HashMap<usize, Vec<Position>> = HashMap::new();
    for event in log {
        by_number.entry(event.number).or_default().push(event.position);
        if event.number >= acknowledged.len() {
            findings.unexpected.push(event.position);
        }
    }
    for (number, id) in acknowledged.iter().enumerate() {
        let positions = by_number.get(&number).map_or(&[][..], Vec::as_slice);
        if id.is_some_and(|id| !positions.contains(&id)) {
            findings.lost.push(number);
        }
        if positions.len() > 1 {
            findings.duplicate.push(number);
        }
    }
    findings
}

/// An accepted delivery of an event that the receiver had accepted before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Duplicate {
    pub(crate) event: Position,
    /// When the receiver accepted the event before.
    pub(crate) first: UnixMillis,
    /// When the receiver accepted the event again.
    pub(crate) again: UnixMillis,
    /// The latest fault whose window holds `first`; `None` when no fault explains the duplicate.
    pub(crate) fault: Option<usize>,
}

/// The result for one webhook.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct WebhookFindings {
    pub(crate) attempts: usize,
    /// Events that the receiver accepted.
    pub(crate) delivered: usize,
    /// Events that the receiver never accepted.
    pub(crate) lost: Vec<Position>,
    pub(crate) duplicates: Vec<Duplicate>,
    /// Only for ordered webhooks: events that were sent before the receiver had accepted the previous event.
    pub(crate) out_of_order: Vec<Position>,
    /// Events that the subscription does not match.
    pub(crate) unexpected: Vec<Position>,
}

impl WebhookFindings {
    /// The duplicates that no fault explains.
    pub(crate) fn unexplained(&self) -> impl Iterator<Item = &Duplicate> {
        self.duplicates.iter().filter(|duplicate| duplicate.fault.is_none())
    }
}

/// Checks the attempts at one webhook. `expected` holds the events it must get, in log order.
pub(crate) fn check_webhook(
    expected: &[Position],
    attempts: &[AttemptRecord],
    ordered: bool,
    windows: &[DuplicateWindow],
) -> WebhookFindings {
    let mut findings = WebhookFindings { attempts: attempts.len(), ..WebhookFindings::default() };
    let mut by_event: BTreeMap<Position, Vec<&AttemptRecord>> = BTreeMap::new();
    for attempt in attempts {
        by_event.entry(attempt.event).or_default().push(attempt);
    }
    let expected_set: HashSet<&Position> = expected.iter().collect();
    findings.unexpected =
        by_event.keys().filter(|event| !expected_set.contains(event)).copied().collect();
    let mut previous_responded: Option<u64> = None;
    for event in expected {
        let attempts = by_event.get(event).map_or(&[][..], Vec::as_slice);
        let mut accepted: Vec<&AttemptRecord> =
            attempts.iter().filter(|attempt| attempt.accepted).copied().collect();
        accepted.sort_by_key(|attempt| attempt.responded_seq);
        let Some(first_accepted) = accepted.first() else {
            findings.lost.push(*event);
            continue;
        };
        findings.delivered += 1;
        for (earlier, later) in accepted.iter().zip(accepted.iter().skip(1)) {
            let first = UnixMillis::from_i64(earlier.received_ms);
            let again = UnixMillis::from_i64(later.received_ms);
            let open = windows.iter().filter(|window| window.from <= first && first <= window.to);
            let fault = open.max_by_key(|window| window.from).map(|window| window.fault);
            findings.duplicates.push(Duplicate { event: *event, first, again, fault });
        }
        let first_received = attempts.iter().map(|attempt| attempt.received_seq).min();
        if ordered && first_received < previous_responded {
            findings.out_of_order.push(*event);
        }
        previous_responded = Some(first_accepted.responded_seq);
    }
    findings
}

/// The result for one reader.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct ReaderFindings {
    /// Distinct events that the reader read.
    pub(crate) read: usize,
    /// Events that the reader never read.
    pub(crate) lost: Vec<Position>,
    /// How many times an event was read again.
    pub(crate) duplicates: usize,
    /// Events first read after a later event.
    pub(crate) out_of_order: Vec<Position>,
    /// Events that the reader's pattern does not match.
    pub(crate) unexpected: Vec<Position>,
}

/// Checks the events that a reader read, in the order of reading.
pub(crate) fn check_reader(expected: &[Position], events: &[Position]) -> ReaderFindings {
    let expected: BTreeSet<Position> = expected.iter().copied().collect();
    let mut findings = ReaderFindings::default();
    let (mut read, mut highest) = (HashSet::new(), Position::START);
    for event in events {
        if !expected.contains(event) {
            findings.unexpected.push(*event);
        } else if !read.insert(*event) {
            findings.duplicates += 1;
        } else if *event < highest {
            findings.out_of_order.push(*event);
        }
        highest = highest.max(*event);
    }
    findings.read = read.len();
    findings.lost = expected.into_iter().filter(|event| !read.contains(event)).collect();
    findings
}
