//! The schedule: what is done to whom, when and for how long; all of it drawn from a seed before anything happens.

use std::fmt;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{RngExt as _, SeedableRng as _};

use super::cast::{CALLBACKS, Mood, Temper};

/// Something bad, and to whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// `kill -9` of a node; it starts again at the end.
    KillNode(usize),
    /// SIGTERM of a node; it starts again at the end, or when it has stopped in order.
    EndNode(usize),
    /// SIGSTOP of a node, and SIGCONT at the end.
    StopNode(usize),
    /// The clock of the node that has one of its own is so many seconds off.
    Clock(i64),
    /// All of a node's connections to Postgres end, and new ones at once.
    CutWire(usize),
    /// Nothing gets through between a node and Postgres, and nobody is told.
    StallWire(usize),
    /// `kill -9` of Postgres; it starts again at the end.
    KillPostgres,
    /// A receiver turns bad; it is good again at the end.
    Mood(usize, Mood),
}

impl Fault {
    /// What kind of fault it is.
    pub(crate) fn kind(self) -> &'static str {
        match self {
            Self::KillNode(_) => "kill -9 of a node",
            Self::EndNode(_) => "SIGTERM of a node",
            Self::StopNode(_) => "SIGSTOP of a node",
            Self::Clock(_) => "clock of a node off",
            Self::CutWire(_) => "node cut off from Postgres",
            Self::StallWire(_) => "wire to Postgres stalled",
            Self::KillPostgres => "kill -9 of Postgres",
            Self::Mood(..) => "receiver in a bad mood",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::KillNode(node) => write!(f, "kill -9 of node {node}"),
            Self::EndNode(node) => write!(f, "SIGTERM of node {node}"),
            Self::StopNode(node) => write!(f, "SIGSTOP of node {node}"),
            Self::Clock(seconds) => write!(f, "clock of a node {seconds:+} s off"),
            Self::CutWire(node) => write!(f, "node {node} cut off from Postgres"),
            Self::StallWire(node) => write!(f, "wire of node {node} to Postgres stalled"),
            Self::KillPostgres => f.write_str("kill -9 of Postgres"),
            Self::Mood(callback, mood) => {
                let name = CALLBACKS.get(*callback).map_or("?", |callback| callback.name);
                write!(f, "receiver \"{name}\" is in the mood {}", mood.name())
            }
        }
    }
}

/// A fault with its time, counted from the beginning of the torture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stroke {
    /// When it begins.
    pub(crate) at: Duration,
    /// How long it lasts.
    pub(crate) lasts: Duration,
    /// What it is.
    pub(crate) fault: Fault,
}

impl Stroke {
    /// When it is over.
    pub(crate) fn end(&self) -> Duration {
        self.at + self.lasts
    }
}

impl fmt::Display for Stroke {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (at, lasts) = (self.at.as_secs_f64(), self.lasts.as_secs_f64());
        write!(f, "{at:>7.2} s  for {lasts:>5.2} s  {}", self.fault)
    }
}

/// The schedule of a seed: at any time at most one node is out of order by itself, and at most one by its way to
/// Postgres, or all by Postgres; so that of three nodes one could work whenever Postgres does. All faults are over at
/// `length`.
pub(crate) fn draw(seed: u64, length: Duration, nodes: usize) -> Vec<Stroke> {
    let mut dice = StdRng::seed_from_u64(seed);
    let mut strokes = Vec::new();
    let of_nodes = |dice: &mut StdRng, card: u8| {
        let node = dice.random_range(0..nodes);
        match card {
            0 | 1 => (Fault::KillNode(node), seconds(dice, 0.3, 8.0)),
            2 => (Fault::StopNode(node), seconds(dice, 5.5, 12.0)),
            3 => (Fault::StopNode(node), seconds(dice, 0.5, 5.5)),
            4 => (Fault::EndNode(node), seconds(dice, 0.5, 6.0)),
            _ => {
                let size = dice.random_range(3..=30);
                let sign = if dice.random() { 1 } else { -1 };
                (Fault::Clock(size * sign), seconds(dice, 4.0, 10.0))
            }
        }
    };
    let of_postgres = |dice: &mut StdRng, card: u8| {
        let node = dice.random_range(0..nodes);
        match card {
            0 | 1 => (Fault::KillPostgres, seconds(dice, 0.1, 5.0)),
            2 | 3 => (Fault::CutWire(node), seconds(dice, 0.1, 9.0)),
            _ => (Fault::StallWire(node), seconds(dice, 0.5, 12.0)),
        }
    };
    deal(&mut dice, length, (6, of_nodes), &mut strokes);
    deal(&mut dice, length, (5, of_postgres), &mut strokes);
    for (index, callback) in CALLBACKS.iter().enumerate() {
        moods(&mut dice, length, (index, callback.temper), &mut strokes);
    }
    strokes.sort_by_key(|stroke| stroke.at);
    strokes
}

/// One fault after the other from a pack of so many cards, so that each kind comes soon and often.
fn deal(
    dice: &mut StdRng,
    length: Duration,
    (cards, mut fault_of): (u8, impl FnMut(&mut StdRng, u8) -> (Fault, Duration)),
    strokes: &mut Vec<Stroke>,
) {
    let mut at = seconds(dice, 2.0, 6.0);
    let mut pack: Vec<u8> = Vec::new();
    while at < length {
        if pack.is_empty() {
            pack.extend(0..cards);
            pack.shuffle(dice);
        }
        let (fault, lasts) = fault_of(dice, pack.pop().unwrap_or_default());
        let stroke = Stroke { at, lasts: lasts.min(length.saturating_sub(at)), fault };
        strokes.push(stroke);
        at = stroke.end() + seconds(dice, 1.0, 4.0);
    }
}

/// When a receiver is bad.
fn moods(
    dice: &mut StdRng,
    length: Duration,
    (callback, temper): (usize, Temper),
    strokes: &mut Vec<Stroke>,
) {
    let (bad_s, good_s) = match temper {
        Temper::Good => return,
        Temper::Now(_) => ((5.0, 18.0), (4.0, 10.0)),
        Temper::Flapping => ((1.0, 5.0), (0.2, 3.0)),
    };
    let mut at = seconds(dice, 0.5, 8.0);
    while at < length {
        let mood = match temper {
            Temper::Now(mood) => mood,
            _ => *Mood::ALL.get(dice.random_range(1..Mood::ALL.len())).unwrap_or(&Mood::Slow),
        };
        let lasts = seconds(dice, bad_s.0, bad_s.1).min(length.saturating_sub(at));
        let stroke = Stroke { at, lasts, fault: Fault::Mood(callback, mood) };
        strokes.push(stroke);
        at = stroke.end() + seconds(dice, good_s.0, good_s.1);
    }
}

fn seconds(dice: &mut StdRng, from: f64, to: f64) -> Duration {
    Duration::from_secs_f64(dice.random_range(from..to))
}
