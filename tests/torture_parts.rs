//! The parts of the torture run that must not be wrong themselves: its checker sees what is planted, its schedule is
//! what its seed gives.

#[path = "../benches/torture/arrival.rs"]
mod arrival;
#[path = "../benches/torture/cast.rs"]
#[expect(dead_code, reason = "the run itself uses more of it")]
mod cast;
#[path = "../benches/torture/check.rs"]
mod check;
#[path = "../benches/torture/schedule.rs"]
mod schedule;

use std::collections::BTreeSet;
use std::time::Duration;

use hookhub::domain::position::Position;
use hookhub::domain::time::UnixMillis;
use proptest::prelude::*;

use self::arrival::Arrival;
use self::check::{Logged, OfLog, Window};
use self::schedule::{Fault, Stroke, draw};

fn at(place: usize) -> Position {
    Position::START.advanced(place)
}

fn events(places: std::ops::RangeInclusive<usize>) -> Vec<Position> {
    places.map(at).collect()
}

/// A POST of event `place` which took the turns `turn` and `turn + 1`, and was taken at that many milliseconds.
fn taken(place: usize, turn: u32) -> Arrival {
    Arrival {
        callback: 0,
        event: at(place),
        attempt: 1,
        arrived: turn.into(),
        answered: (turn + 1).into(),
        accepted: true,
        at_ms: turn.into(),
    }
}

fn refused(place: usize, turn: u32) -> Arrival {
    Arrival { accepted: false, ..taken(place, turn) }
}

#[test]
fn a_delivery_that_was_only_ever_refused_is_lost() {
    let found =
        check::callback(&events(1..=3), &[taken(1, 0), refused(2, 2), taken(3, 4)], false, &[]);
    assert_eq!((found.lost, found.taken, found.attempts), (vec![at(2)], 2, 3));
}

#[test]
fn a_repeat_is_counted_and_is_needless_outside_of_all_windows() {
    let arrivals = [taken(1, 100), taken(1, 900)];
    let window = |from, to| Window {
        stroke: 7,
        from: UnixMillis::from_i64(from),
        to: UnixMillis::from_i64(to),
    };
    let because_of = |windows: &[Window]| {
        let found = check::callback(&events(1..=1), &arrivals, false, windows);
        (found.repeats.len(), found.repeats[0].because_of, found.needless().count())
    };
    assert_eq!(because_of(&[window(0, 10), window(50, 100)]), (1, Some(7), 0));
    assert_eq!(because_of(&[window(101, 2_000)]), (1, None, 1));
}

#[test]
fn what_is_sent_before_the_one_before_it_was_taken_came_too_early() {
    let wanted = events(1..=3);
    let overtook = |arrivals: &[Arrival]| check::callback(&wanted, arrivals, true, &[]).overtook;
    assert!(overtook(&[taken(1, 0), refused(2, 2), taken(2, 4), taken(3, 6)]).is_empty());
    // A repeat of what was taken is no disorder.
    assert!(
        overtook(&[taken(1, 0), taken(2, 2), taken(1, 4), taken(2, 6), taken(3, 8)]).is_empty()
    );
    assert_eq!(overtook(&[taken(2, 0), taken(1, 2), taken(3, 4)]), [at(2)]);
    assert_eq!(
        overtook(&[taken(1, 0), refused(2, 2), refused(3, 3), taken(2, 4), taken(3, 6)]),
        [at(3)]
    );
}

#[test]
fn what_a_callback_did_not_ask_for_is_strange() {
    assert_eq!(
        check::callback(&events(1..=1), &[taken(1, 0), taken(7, 2)], false, &[]).strange,
        [at(7)]
    );
}

#[test]
fn a_reader_that_misses_doubles_or_mixes_up_is_found_out() {
    let wanted = events(1..=4);
    let found = check::reader(&wanted, &[at(1), at(2), at(2), at(4), at(9)]);
    assert_eq!((found.missing, found.doubled, found.strange), (vec![at(3)], 1, vec![at(9)]));
    let found = check::reader(&wanted, &[at(1), at(3), at(2), at(4)]);
    assert_eq!((found.disordered, found.seen), (vec![at(2)], 4));
    assert_eq!(check::reader(&wanted, &wanted).missing, []);
}

#[test]
fn a_pattern_says_what_is_wanted() {
    let logged = |place, event_type: &str| Logged {
        position: at(place),
        event_type: event_type.to_owned(),
        number: place,
    };
    let log = [logged(1, "torture.a"), logged(2, "torture.b"), logged(3, "other")];
    let wanted = |pattern: &str| check::of_types(&log, &pattern.parse().unwrap());
    assert_eq!((wanted("torture.*"), wanted("torture.b")), (events(1..=2), events(2..=2)));
}

#[test]
fn what_was_acknowledged_is_in_the_log_once_under_its_id() {
    let acknowledged = [Some(at(1)), Some(at(2)), Some(at(3)), None];
    let logged = |place: usize, number: usize| Logged {
        position: at(place),
        event_type: String::new(),
        number,
    };
    let log = [logged(1, 0), logged(2, 1), logged(5, 1), logged(6, 2), logged(7, 9)];
    let found = check::log(&log, &acknowledged);
    assert_eq!(found, OfLog { lost: vec![2], doubled: vec![1], strange: vec![at(7)] });
}

proptest! {
    #[test]
    fn a_line_of_the_journal_is_read_as_it_was_written(place in 1usize..1_000_000, turn in 0u32..1_000_000) {
        for arrival in [taken(place, turn), refused(place, turn)] {
            prop_assert_eq!(arrival.to_string().parse::<Arrival>().unwrap(), arrival);
        }
    }

    #[test]
    fn a_seed_gives_one_schedule_and_leaves_a_node_alone_at_any_time(seed: u64, seconds in 20u64..600) {
        let length = Duration::from_secs(seconds);
        let strokes = draw(seed, length, 3);
        prop_assert_eq!(&strokes, &draw(seed, length, 3));
        prop_assert!(strokes.iter().all(|stroke| stroke.end() <= length));
        let of_node = |fault| {
            use Fault::{Clock, EndNode, KillNode, StopNode};
            matches!(fault, KillNode(_) | EndNode(_) | StopNode(_) | Clock(_))
        };
        let of_way =
            |fault| matches!(fault, Fault::CutWire(_) | Fault::StallWire(_) | Fault::KillPostgres);
        let (nodes, ways): (Vec<&Stroke>, Vec<&Stroke>) = strokes
            .iter()
            .filter(|stroke| of_node(stroke.fault) || of_way(stroke.fault))
            .partition(|stroke| of_node(stroke.fault));
        for of_kind in [nodes, ways] {
            prop_assert!(of_kind.is_sorted_by(|one, next| one.end() < next.at));
        }
    }

    #[test]
    fn two_minutes_hold_every_kind_of_fault(seed: u64) {
        let strokes = draw(seed, Duration::from_secs(90), 3);
        let kinds: BTreeSet<&str> = strokes.iter().map(|stroke| stroke.fault.kind()).collect();
        prop_assert_eq!(kinds.len(), 8, "{:?}", kinds);
    }
}
