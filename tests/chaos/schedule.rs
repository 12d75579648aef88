//! The schedule: which fault begins when, and how long it lasts. A seed determines all of it before the run starts.

use std::fmt;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{RngExt as _, SeedableRng as _};

use super::topology::{Behavior, BehaviorPlan, WEBHOOKS};

/// A fault and its target. Nodes and webhooks are named by their index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// `kill -9` of a node, which restarts at the end.
    KillNode(usize),
    /// SIGTERM of a node, which restarts at the end, or once it has stopped gracefully.
    TerminateNode(usize),
    /// SIGSTOP of a node, and SIGCONT at the end.
    PauseNode(usize),
    /// Offset in seconds of the wall clock of the node that has its own.
    SkewClock(i64),
    /// Closes all of a node's connections to Postgres, and new ones at once.
    CutLink(usize),
    /// Partitions a node from Postgres: no byte gets through, and all connections stay open.
    StallLink(usize),
    /// `kill -9` of Postgres, which restarts at the end.
    KillPostgres,
    /// A receiver misbehaves; it is healthy again at the end.
    Receiver(usize, Behavior),
}

impl Fault {
    pub(crate) fn kind(self) -> &'static str {
        match self {
            Self::KillNode(_) => "node: kill -9",
            Self::TerminateNode(_) => "node: SIGTERM",
            Self::PauseNode(_) => "node: SIGSTOP",
            Self::SkewClock(_) => "node: clock skew",
            Self::CutLink(_) => "Postgres link: cut",
            Self::StallLink(_) => "Postgres link: partition",
            Self::KillPostgres => "Postgres: kill -9",
            Self::Receiver(..) => "receiver: fault",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::KillNode(node) => write!(f, "kill -9 of node {node}"),
            Self::TerminateNode(node) => write!(f, "SIGTERM of node {node}"),
            Self::PauseNode(node) => write!(f, "SIGSTOP of node {node}"),
            Self::SkewClock(seconds) => write!(f, "clock of the last node skewed by {seconds:+} s"),
            Self::CutLink(node) => write!(f, "link of node {node} to Postgres cut"),
            Self::StallLink(node) => write!(f, "partition between node {node} and Postgres"),
            Self::KillPostgres => f.write_str("kill -9 of Postgres"),
            Self::Receiver(webhook, behavior) => {
                let name = WEBHOOKS.get(*webhook).map_or("?", |webhook| webhook.name);
                write!(f, "receiver \"{name}\": {}", behavior.name())
            }
        }
    }
}

/// A fault with its time, counted from the start of the fault phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ScheduledFault {
    pub(crate) start: Duration,
    pub(crate) duration: Duration,
    pub(crate) fault: Fault,
}

impl ScheduledFault {
    pub(crate) fn end(&self) -> Duration {
        self.start + self.duration
    }
}

impl fmt::Display for ScheduledFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (start, duration) = (self.start.as_secs_f64(), self.duration.as_secs_f64());
        write!(f, "{start:>7.2} s  for {duration:>5.2} s  {}", self.fault)
    }
}

/// Generates the schedule of a seed.
///
/// At any time at most one node has a fault of its own, and at most one link to Postgres, or Postgres itself, has a
/// fault. Of three nodes at least one can therefore work whenever Postgres runs. All faults end by `length`.
pub(crate) fn generate(seed: u64, length: Duration, nodes: usize) -> Vec<ScheduledFault> {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut faults = Vec::new();
    let node_fault = |rng: &mut StdRng, card: u8| {
        let node = rng.random_range(0..nodes);
        match card {
            0 | 1 => (Fault::KillNode(node), seconds(rng, 0.3, 8.0)),
            2 => (Fault::PauseNode(node), seconds(rng, 5.5, 12.0)),
            3 => (Fault::PauseNode(node), seconds(rng, 0.5, 5.5)),
            4 => (Fault::TerminateNode(node), seconds(rng, 0.5, 6.0)),
            _ => {
                let size = rng.random_range(3..=30);
                let sign = if rng.random() { 1 } else { -1 };
                (Fault::SkewClock(size * sign), seconds(rng, 4.0, 10.0))
            }
        }
    };
    let postgres_fault = |rng: &mut StdRng, card: u8| {
        let node = rng.random_range(0..nodes);
        match card {
            0 | 1 => (Fault::KillPostgres, seconds(rng, 0.1, 5.0)),
            2 | 3 => (Fault::CutLink(node), seconds(rng, 0.1, 9.0)),
            _ => (Fault::StallLink(node), seconds(rng, 0.5, 12.0)),
        }
    };
    faults.extend(deal(&mut rng, length, 6, node_fault));
    faults.extend(deal(&mut rng, length, 5, postgres_fault));
    for (index, webhook) in WEBHOOKS.iter().enumerate() {
        faults.extend(receiver_faults(&mut rng, length, index, webhook.plan));
    }
    faults.sort_by_key(|fault| fault.start);
    faults
}

/// Draws one fault after the other from a shuffled deck of `cards` cards, so that each kind comes early and often.
fn deal(
    rng: &mut StdRng,
    length: Duration,
    cards: u8,
    fault_of_card: impl Fn(&mut StdRng, u8) -> (Fault, Duration),
) -> Vec<ScheduledFault> {
    let mut faults = Vec::new();
    let mut start = seconds(rng, 2.0, 6.0);
    let mut deck: Vec<u8> = Vec::new();
    while start < length {
        if deck.is_empty() {
            deck.extend(0..cards);
            deck.shuffle(rng);
        }
        let (fault, duration) = fault_of_card(rng, deck.pop().unwrap_or_default());
        let duration = duration.min(length.saturating_sub(start));
        let scheduled = ScheduledFault { start, duration, fault };
        faults.push(scheduled);
        start = scheduled.end() + seconds(rng, 1.0, 4.0);
    }
    faults
}

/// Range of a random duration, in seconds.
struct SecondsRange {
    from: f64,
    to: f64,
}

/// The periods in which a receiver misbehaves.
fn receiver_faults(
    rng: &mut StdRng,
    length: Duration,
    webhook: usize,
    plan: BehaviorPlan,
) -> Vec<ScheduledFault> {
    let mut faults = Vec::new();
    let (fault_range, pause_range) = match plan {
        BehaviorPlan::AlwaysHealthy => return faults,
        BehaviorPlan::Periods(_) => {
            (SecondsRange { from: 5.0, to: 18.0 }, SecondsRange { from: 4.0, to: 10.0 })
        }
        BehaviorPlan::Flapping => {
            (SecondsRange { from: 1.0, to: 5.0 }, SecondsRange { from: 0.2, to: 3.0 })
        }
    };
    let mut start = seconds(rng, 0.5, 8.0);
    while start < length {
        let behavior = if let BehaviorPlan::Periods(behavior) = plan {
            behavior
        } else {
            let index = rng.random_range(1..Behavior::ALL.len());
            *Behavior::ALL.get(index).unwrap_or(&Behavior::Slow)
        };
        let duration =
            seconds(rng, fault_range.from, fault_range.to).min(length.saturating_sub(start));
        let fault = Fault::Receiver(webhook, behavior);
        let scheduled = ScheduledFault { start, duration, fault };
        faults.push(scheduled);
        start = scheduled.end() + seconds(rng, pause_range.from, pause_range.to);
    }
    faults
}

fn seconds(rng: &mut StdRng, from: f64, to: f64) -> Duration {
    Duration::from_secs_f64(rng.random_range(from..to))
}
