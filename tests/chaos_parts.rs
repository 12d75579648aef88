//! Tests of the chaos run itself: the checker finds planted faults, and a seed determines the schedule.

#[path = "chaos/attempt_record.rs"]
mod attempt_record;
#[path = "chaos/checker.rs"]
mod checker;
#[path = "chaos/schedule.rs"]
mod schedule;
#[path = "chaos/topology.rs"]
#[expect(dead_code, reason = "the run itself uses more of it")]
mod topology;

use std::collections::BTreeSet;
use std::time::Duration;

use hookhub::domain::position::Position;
use hookhub::domain::time::UnixMillis;
use proptest::prelude::*;

use self::attempt_record::AttemptRecord;
use self::checker::{
    DuplicateWindow, LogFindings, LoggedEvent, check_log, check_reader, check_webhook, matching,
};
use self::schedule::{Fault, ScheduledFault, generate};

/// The position of the event with this index.
fn at(index: usize) -> Position {
    Position::START.advanced(index)
}

fn events(indexes: std::ops::RangeInclusive<usize>) -> Vec<Position> {
    indexes.map(at).collect()
}

/// An accepted attempt of event `index`, received at `sequence` in both sequence numbers and milliseconds.
fn accepted(index: usize, sequence: u32) -> AttemptRecord {
    AttemptRecord {
        webhook: 0,
        event: at(index),
        attempt: 1,
        received_seq: sequence.into(),
        responded_seq: (sequence + 1).into(),
        accepted: true,
        received_ms: sequence.into(),
    }
}

fn rejected(index: usize, sequence: u32) -> AttemptRecord {
    AttemptRecord { accepted: false, ..accepted(index, sequence) }
}

#[test]
fn checker_reports_an_event_without_an_accepted_attempt_as_lost() {
    let attempts = [accepted(1, 0), rejected(2, 2), accepted(3, 4)];
    let found = check_webhook(&events(1..=3), &attempts, false, &[]);
    assert_eq!((found.lost, found.delivered, found.attempts), (vec![at(2)], 2, 3));
}

#[test]
fn checker_reports_a_duplicate_outside_all_windows_as_unexplained() {
    let attempts = [accepted(1, 100), accepted(1, 900)];
    let window = |from, to| DuplicateWindow {
        fault: 7,
        from: UnixMillis::from_i64(from),
        to: UnixMillis::from_i64(to),
    };
    let duplicates = |windows: &[DuplicateWindow]| {
        let found = check_webhook(&events(1..=1), &attempts, false, windows);
        (found.duplicates.len(), found.duplicates[0].fault, found.unexplained().count())
    };
    assert_eq!(duplicates(&[window(0, 10), window(50, 100)]), (1, Some(7), 0));
    assert_eq!(duplicates(&[window(101, 2_000)]), (1, None, 1));
}

#[test]
fn checker_reports_an_event_sent_before_the_previous_one_was_accepted_as_out_of_order() {
    let expected = events(1..=3);
    let out_of_order =
        |attempts: &[AttemptRecord]| check_webhook(&expected, attempts, true, &[]).out_of_order;
    assert!(
        out_of_order(&[accepted(1, 0), rejected(2, 2), accepted(2, 4), accepted(3, 6)]).is_empty()
    );
    // A duplicate of an accepted event does not break the order.
    assert!(
        out_of_order(&[
            accepted(1, 0),
            accepted(2, 2),
            accepted(1, 4),
            accepted(2, 6),
            accepted(3, 8)
        ])
        .is_empty()
    );
    assert_eq!(out_of_order(&[accepted(2, 0), accepted(1, 2), accepted(3, 4)]), [at(2)]);
    assert_eq!(
        out_of_order(&[
            accepted(1, 0),
            rejected(2, 2),
            rejected(3, 3),
            accepted(2, 4),
            accepted(3, 6)
        ]),
        [at(3)]
    );
}

#[test]
fn checker_reports_an_event_that_the_subscription_does_not_match_as_unexpected() {
    let attempts = [accepted(1, 0), accepted(7, 2)];
    assert_eq!(check_webhook(&events(1..=1), &attempts, false, &[]).unexpected, [at(7)]);
}

#[test]
fn checker_reports_lost_duplicate_unexpected_and_out_of_order_events_of_a_reader() {
    let expected = events(1..=4);
    let found = check_reader(&expected, &[at(1), at(2), at(2), at(4), at(9)]);
    assert_eq!((found.lost, found.duplicates, found.unexpected), (vec![at(3)], 1, vec![at(9)]));
    let found = check_reader(&expected, &[at(1), at(3), at(2), at(4)]);
    assert_eq!((found.out_of_order, found.read), (vec![at(2)], 4));
    assert_eq!(check_reader(&expected, &expected).lost, []);
}

#[test]
fn a_pattern_selects_the_expected_events() {
    let logged = |index, event_type: &str| LoggedEvent {
        position: at(index),
        event_type: event_type.to_owned(),
        number: index,
    };
    let log = [logged(1, "chaos.a"), logged(2, "chaos.b"), logged(3, "other")];
    let expected = |pattern: &str| matching(&log, &pattern.parse().unwrap());
    assert_eq!((expected("chaos.*"), expected("chaos.b")), (events(1..=2), events(2..=2)));
}

#[test]
fn checker_reports_lost_duplicate_and_unexpected_events_of_the_log() {
    let acknowledged = [Some(at(1)), Some(at(2)), Some(at(3)), None];
    let logged = |index: usize, number: usize| LoggedEvent {
        position: at(index),
        event_type: String::new(),
        number,
    };
    let log = [logged(1, 0), logged(2, 1), logged(5, 1), logged(6, 2), logged(7, 9)];
    let found = check_log(&log, &acknowledged);
    assert_eq!(found, LogFindings { lost: vec![2], duplicate: vec![1], unexpected: vec![at(7)] });
}

proptest! {
    #[test]
    fn an_attempt_record_survives_writing_and_parsing(index in 1usize..1_000_000, sequence in 0u32..1_000_000) {
        for record in [accepted(index, sequence), rejected(index, sequence)] {
            prop_assert_eq!(record.to_string().parse::<AttemptRecord>().unwrap(), record);
        }
    }

    #[test]
    fn a_seed_determines_the_schedule_and_at_most_one_node_has_a_fault_at_a_time(seed: u64, seconds in 20u64..600) {
        let length = Duration::from_secs(seconds);
        let faults = generate(seed, length, 3);
        prop_assert_eq!(&faults, &generate(seed, length, 3));
        prop_assert!(faults.iter().all(|fault| fault.end() <= length));
        let is_of_node = |fault| {
            use Fault::{KillNode, PauseNode, SkewClock, TerminateNode};
            matches!(fault, KillNode(_) | TerminateNode(_) | PauseNode(_) | SkewClock(_))
        };
        let is_of_postgres =
            |fault| matches!(fault, Fault::CutLink(_) | Fault::StallLink(_) | Fault::KillPostgres);
        let (node_faults, postgres_faults): (Vec<&ScheduledFault>, Vec<&ScheduledFault>) = faults
            .iter()
            .filter(|scheduled| is_of_node(scheduled.fault) || is_of_postgres(scheduled.fault))
            .partition(|scheduled| is_of_node(scheduled.fault));
        for faults in [node_faults, postgres_faults] {
            prop_assert!(faults.is_sorted_by(|one, next| one.end() < next.start));
        }
    }

    #[test]
    fn a_schedule_of_90_seconds_holds_every_kind_of_fault(seed: u64) {
        let faults = generate(seed, Duration::from_secs(90), 3);
        let kinds: BTreeSet<&str> = faults.iter().map(|scheduled| scheduled.fault.kind()).collect();
        prop_assert_eq!(kinds.len(), 8, "{:?}", kinds);
    }
}
