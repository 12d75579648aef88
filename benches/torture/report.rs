//! The table of a run, and all that is needed to look into what is wrong.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

use hookhub::domain::position::Position;
use hookhub::domain::time::UnixMillis;

use super::Anything;
use super::book::{Book, Published};
use super::cast::CALLBACKS;
use super::check::{Logged, OfCallback, OfLog, Repeat};
use super::disk;
use super::follow::Reader;
use super::schedule::Stroke;
use super::settle::Outcome;

/// Of each kind of fault so many are told in full.
const TOLD: usize = 10;

/// All that came of a run.
pub(super) struct Report<'a> {
    pub(super) strokes: &'a [Stroke],
    pub(super) book: &'a Book,
    pub(super) log: &'a [Logged],
    pub(super) of_log: OfLog,
    pub(super) outcome: Outcome,
    pub(super) readers: &'a [Arc<Reader>],
    pub(super) disk: Option<disk::Found>,
    pub(super) incidents: Vec<String>,
    /// How often a node has given up to start.
    pub(super) given_up: usize,
}

impl Report<'_> {
    /// Prints it; how many faults there are.
    pub(super) fn print(&self) -> usize {
        self.print_callbacks();
        self.print_readers();
        self.print_strokes();
        self.print_disk();
        let faults = self.faults();
        self.print_totals();
        for fault in &faults {
            println!("FAULT: {fault}");
        }
        faults.len()
    }

    fn print_callbacks(&self) {
        println!(
            "\n{:<24} {:>8} {:>8} {:>6} {:>8} {:>8} {:>8} {:>8}",
            "callback", "wanted", "taken", "lost", "repeated", "needless", "overtook", "POSTs"
        );
        for (callback, found) in CALLBACKS.iter().zip(&self.outcome.callbacks) {
            println!(
                "{:<24} {:>8} {:>8} {:>6} {:>8} {:>8} {:>8} {:>8}",
                callback.name,
                found.taken + found.lost.len(),
                found.taken,
                found.lost.len(),
                found.repeats.len(),
                found.needless().count(),
                if callback.ordered { found.overtook.len().to_string() } else { "-".to_owned() },
                found.attempts,
            );
        }
    }

    fn print_readers(&self) {
        println!(
            "\n{:<24} {:>8} {:>8} {:>7} {:>7} {:>10}",
            "reader", "wanted", "seen", "missing", "doubled", "disordered"
        );
        for (reader, found) in self.readers.iter().zip(&self.outcome.readers) {
            println!(
                "{:<24} {:>8} {:>8} {:>7} {:>7} {:>10}",
                reader.name,
                found.seen + found.missing.len(),
                found.seen,
                found.missing.len(),
                found.doubled,
                found.disordered.len(),
            );
        }
    }

    /// What each kind of stroke did, and how many deliveries were made again because of it, in all and of one.
    fn print_strokes(&self) {
        let mut repeats = vec![0_usize; self.strokes.len()];
        for repeat in self.outcome.callbacks.iter().flat_map(|callback| &callback.repeats) {
            repeat.because_of.into_iter().for_each(|stroke| repeats[stroke] += 1);
        }
        let mut kinds: BTreeMap<&str, (usize, usize, usize)> = BTreeMap::new();
        for (stroke, repeated) in self.strokes.iter().zip(repeats) {
            let (times, all, most) = kinds.entry(stroke.fault.kind()).or_default();
            (*times, *all, *most) = (*times + 1, *all + repeated, repeated.max(*most));
        }
        println!("\n{:<28} {:>8} {:>12} {:>12}", "fault", "times", "repeats", "most of one");
        for (kind, (times, all, most)) in kinds {
            println!("{kind:<28} {times:>8} {all:>12} {most:>12}");
        }
    }

    fn print_disk(&self) {
        let Some(found) = &self.disk else {
            println!("\nfull disk: NOT TORTURED, no file system can be mounted here");
            return;
        };
        println!(
            "\nfull disk: {} acknowledged, {} lost; answers {:?}, while full {:?}; went on after {:.1?}",
            found.acknowledged,
            found.lost.len(),
            found.with_space,
            found.full,
            found.recovered_in,
        );
    }

    fn print_totals(&self) {
        let events = self.book.acknowledged();
        let acknowledged = events.iter().flatten().count();
        let callbacks = |count: fn(&OfCallback) -> usize| {
            self.outcome.callbacks.iter().map(count).sum::<usize>()
        };
        let missing: usize = self.outcome.readers.iter().map(|one| one.missing.len()).sum();
        println!("\nevents published           {:>8}", events.len());
        println!("answers to publishes       {:?}", self.book.answers());
        println!("events acknowledged        {acknowledged:>8}");
        println!("events in the log          {:>8}", self.log.len());
        println!("deliveries taken           {:>8}", callbacks(|one| one.taken));
        println!("lost at callbacks          {:>8}", callbacks(|one| one.lost.len()));
        println!("repeated at callbacks      {:>8}", callbacks(|one| one.repeats.len()));
        println!("  of these needless        {:>8}", callbacks(|one| one.needless().count()));
        println!("out of order at callbacks  {:>8}", callbacks(|one| one.overtook.len()));
        println!("missing at readers         {missing:>8}");
        println!("starts that nodes gave up  {:>8}", self.given_up);
        println!("settled in                 {:>8.1?}", self.outcome.settled_in);
    }

    /// All repeats, in a file.
    pub(super) fn write_repeats(&self, file: &Path) -> Result<(), Anything> {
        let mut file = File::create(file)?;
        for (callback, found) in CALLBACKS.iter().zip(&self.outcome.callbacks) {
            for Repeat { event, before, again, because_of } in &found.repeats {
                let fault = because_of.and_then(|stroke| self.strokes.get(stroke));
                let fault = fault.map_or_else(String::new, |stroke| stroke.fault.to_string());
                writeln!(file, "{before} {again} {event} \"{}\" {fault}", callback.name)?;
            }
        }
        Ok(())
    }

    /// Each fault in a line.
    fn faults(&self) -> Vec<String> {
        let mut faults = told(self.incidents.iter().cloned());
        faults.extend(told(self.book.oddities()));
        faults.extend(told(self.outcome.complaints.iter().cloned()));
        self.faults_of_log(&mut faults);
        self.faults_of_callbacks(&mut faults);
        self.faults_of_readers(&mut faults);
        if let Some(disk) = &self.disk {
            let lost = disk.lost.iter().map(|event| format!("full disk: {event} never arrived"));
            faults.extend(told(lost));
            faults.extend(told(disk.oddities.iter().cloned()));
        }
        faults
    }

    fn faults_of_log(&self, faults: &mut Vec<String>) {
        let events = self.book.events();
        let history = |number: &usize| events.get(*number).map(|event| format!("{event:?}"));
        let lost = self.of_log.lost.iter();
        faults.extend(told(lost.map(|number| {
            format!("n {number} was acknowledged and is not in the log: {:?}", history(number))
        })));
        let doubled = self.of_log.doubled.iter();
        faults.extend(told(doubled.map(|number| {
            format!("n {number} is in the log more than once: {:?}", history(number))
        })));
        let strange = self.of_log.strange.iter();
        faults.extend(told(strange.map(|event| format!("{event} was published by nobody"))));
    }

    fn faults_of_callbacks(&self, faults: &mut Vec<String>) {
        let events = self.book.events();
        let by_id: HashMap<Position, &Logged> =
            self.log.iter().map(|event| (event.position, event)).collect();
        let history = |event: &Position| match by_id.get(event) {
            Some(logged) => of_event(logged, events.get(logged.number)),
            None => "not in the log".to_owned(),
        };
        let all = CALLBACKS.iter().zip(&self.outcome.callbacks).zip(&self.outcome.arrivals);
        for ((callback, found), arrivals) in all {
            let name = callback.name;
            let posts = |event: &Position| {
                let posts = arrivals.iter().filter(|post| post.event == *event);
                let posts = posts.map(|post| {
                    let at = UnixMillis::from_i64(post.at_ms);
                    let taken = if post.accepted { "taken" } else { "not taken" };
                    format!("{at} attempt {} {taken}", post.attempt)
                });
                posts.collect::<Vec<_>>().join(", ")
            };
            let of = |what: &str, event: &Position| {
                format!("\"{name}\": {event} {what}; {}; POSTs: {}", history(event), posts(event))
            };
            faults.extend(told(found.lost.iter().map(|event| of("was lost", event))));
            faults.extend(told(found.overtook.iter().map(|event| of("came too early", event))));
            faults.extend(told(found.needless().map(|repeat| {
                of(&format!("came again though taken at {}", repeat.before), &repeat.event)
            })));
            faults.extend(told(found.strange.iter().map(|event| of("is not for it", event))));
        }
    }

    fn faults_of_readers(&self, faults: &mut Vec<String>) {
        for (reader, found) in self.readers.iter().zip(&self.outcome.readers) {
            let name = reader.name;
            faults.extend(told(reader.oddities()));
            let lines = |events: &[Position], what: &str| {
                told(events.iter().map(|event| format!("\"{name}\": {event} {what}")))
            };
            faults.extend(lines(&found.missing, "never came"));
            faults.extend(lines(&found.disordered, "came after a later one"));
            faults.extend(lines(&found.strange, "is not for it"));
            if found.doubled > 0 && reader.subscription.is_none() {
                faults.push(format!("\"{name}\": {} came twice", found.doubled));
            }
        }
    }
}

fn of_event(logged: &Logged, published: Option<&Published>) -> String {
    let Some(published) = published else { return "published by nobody".to_owned() };
    let (number, at) = (logged.number, UnixMillis::from_i64(published.at_ms));
    match published.acknowledged {
        Some(_) => format!("n {number}, acknowledged at {at} by node {}", published.node),
        None => format!("n {number}, sent at {at} and never acknowledged"),
    }
}

/// The first of many.
fn told(lines: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut lines: Vec<String> = lines.into_iter().collect();
    let more = lines.len().saturating_sub(TOLD);
    if more > 0 {
        lines.truncate(TOLD);
        lines.push(format!("... and {more} more of these"));
    }
    lines
}
