//! The report of a run: tables, totals, and each violation with the history of its event.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

use hookhub::domain::position::Position;
use hookhub::domain::time::UnixMillis;

use super::BoxError;
use super::checker::{Duplicate, LogFindings, LoggedEvent, WebhookFindings};
use super::full_disk::DiskFindings;
use super::ledger::{Ledger, PublishedEvent};
use super::quiesce::Outcome;
use super::readers::Reader;
use super::schedule::ScheduledFault;
use super::topology::WEBHOOKS;

/// How many violations of one kind are printed in full.
const MAX_PRINTED: usize = 10;

/// Everything that is known at the end of a run.
pub(super) struct Report<'a> {
    pub(super) faults: &'a [ScheduledFault],
    pub(super) ledger: &'a Ledger,
    pub(super) log: &'a [LoggedEvent],
    pub(super) log_findings: LogFindings,
    pub(super) outcome: Outcome,
    pub(super) readers: &'a [Arc<Reader>],
    pub(super) disk: Option<DiskFindings>,
    /// Violations by the nodes themselves.
    pub(super) violations: Vec<String>,
    pub(super) failed_starts: usize,
}

/// How often a kind of fault was injected, and the duplicate deliveries it caused.
#[derive(Default)]
struct FaultTotals {
    injected: usize,
    duplicates: usize,
    /// The largest number of duplicates that one fault caused.
    max_duplicates: usize,
}

impl Report<'_> {
    /// Prints the report; returns the number of violations.
    pub(super) fn print(&self) -> usize {
        self.print_webhooks();
        self.print_readers();
        self.print_faults();
        self.print_disk();
        let violations = self.all_violations();
        self.print_totals();
        for violation in &violations {
            println!("VIOLATION: {violation}");
        }
        violations.len()
    }

    fn print_webhooks(&self) {
        println!(
            "\n{:<24} {:>8} {:>9} {:>5} {:>10} {:>11} {:>12} {:>8}",
            "webhook",
            "expected",
            "delivered",
            "lost",
            "duplicates",
            "unexplained",
            "out of order",
            "attempts"
        );
        for (webhook, found) in WEBHOOKS.iter().zip(&self.outcome.webhooks) {
            let out_of_order =
                if webhook.ordered { found.out_of_order.len().to_string() } else { "-".to_owned() };
            println!(
                "{:<24} {:>8} {:>9} {:>5} {:>10} {:>11} {:>12} {:>8}",
                webhook.name,
                found.delivered + found.lost.len(),
                found.delivered,
                found.lost.len(),
                found.duplicates.len(),
                found.unexplained().count(),
                out_of_order,
                found.attempts,
            );
        }
    }

    fn print_readers(&self) {
        println!(
            "\n{:<24} {:>8} {:>9} {:>5} {:>10} {:>12}",
            "reader", "expected", "read", "lost", "duplicates", "out of order"
        );
        for (reader, found) in self.readers.iter().zip(&self.outcome.readers) {
            println!(
                "{:<24} {:>8} {:>9} {:>5} {:>10} {:>12}",
                reader.name,
                found.read + found.lost.len(),
                found.read,
                found.lost.len(),
                found.duplicates,
                found.out_of_order.len(),
            );
        }
    }

    fn print_faults(&self) {
        let mut duplicates = vec![0_usize; self.faults.len()];
        for duplicate in self.outcome.webhooks.iter().flat_map(|webhook| &webhook.duplicates) {
            duplicate.fault.into_iter().for_each(|fault| duplicates[fault] += 1);
        }
        let mut kinds: BTreeMap<&str, FaultTotals> = BTreeMap::new();
        for (scheduled, duplicates) in self.faults.iter().zip(duplicates) {
            let totals = kinds.entry(scheduled.fault.kind()).or_default();
            totals.injected += 1;
            totals.duplicates += duplicates;
            totals.max_duplicates = totals.max_duplicates.max(duplicates);
        }
        println!(
            "\n{:<26} {:>8} {:>10} {:>14}",
            "fault", "injected", "duplicates", "max. per fault"
        );
        for (kind, FaultTotals { injected, duplicates, max_duplicates }) in kinds {
            println!("{kind:<26} {injected:>8} {duplicates:>10} {max_duplicates:>14}");
        }
    }

    fn print_disk(&self) {
        let Some(found) = &self.disk else {
            println!("\nfull disk: NOT TESTED, this user may not mount a file system");
            return;
        };
        println!(
            "\nfull disk: {} acknowledged, {} lost; responses {:?}, while full {:?}; recovered in {:.1?}",
            found.acknowledged,
            found.lost.len(),
            found.with_space,
            found.full,
            found.recovered_in,
        );
    }

    fn print_totals(&self) {
        let events = self.ledger.acknowledged();
        let acknowledged = events.iter().flatten().count();
        let sum = |count: fn(&WebhookFindings) -> usize| {
            self.outcome.webhooks.iter().map(count).sum::<usize>()
        };
        let lost_at_readers: usize = self.outcome.readers.iter().map(|one| one.lost.len()).sum();
        println!("\nevents published           {:>8}", events.len());
        println!("responses to publishes     {:?}", self.ledger.responses());
        println!("events acknowledged        {acknowledged:>8}");
        println!("events in the log          {:>8}", self.log.len());
        println!("delivered to webhooks      {:>8}", sum(|one| one.delivered));
        println!("lost at webhooks           {:>8}", sum(|one| one.lost.len()));
        println!("duplicates at webhooks     {:>8}", sum(|one| one.duplicates.len()));
        println!("  unexplained by a fault   {:>8}", sum(|one| one.unexplained().count()));
        println!("out of order at webhooks   {:>8}", sum(|one| one.out_of_order.len()));
        println!("lost at readers            {lost_at_readers:>8}");
        println!("failed starts of nodes     {:>8}", self.failed_starts);
        println!("quiesced in                {:>8.1?}", self.outcome.quiesced_in);
    }

    /// Writes a line for each duplicate delivery, with the fault that explains it.
    pub(super) fn write_duplicates(&self, file: &Path) -> Result<(), BoxError> {
        let mut file = File::create(file)?;
        for (webhook, found) in WEBHOOKS.iter().zip(&self.outcome.webhooks) {
            for Duplicate { event, first, again, fault } in &found.duplicates {
                let fault = fault.and_then(|index| self.faults.get(index));
                let fault = fault.map_or_else(String::new, |known| known.fault.to_string());
                writeln!(file, "{first} {again} {event} \"{}\" {fault}", webhook.name)?;
            }
        }
        Ok(())
    }

    fn all_violations(&self) -> Vec<String> {
        let mut violations = shortened(self.violations.iter().cloned());
        violations.extend(shortened(self.ledger.violations()));
        violations.extend(shortened(self.outcome.violations.iter().cloned()));
        violations.extend(self.log_violations());
        violations.extend(self.webhook_violations());
        violations.extend(self.reader_violations());
        if let Some(disk) = &self.disk {
            let lost = disk.lost.iter().map(|event| format!("full disk: {event} was lost"));
            violations.extend(shortened(lost));
            violations.extend(shortened(disk.violations.iter().cloned()));
        }
        violations
    }

    fn log_violations(&self) -> Vec<String> {
        let events = self.ledger.events();
        let history = |number: &usize| events.get(*number).map(|event| format!("{event:?}"));
        let lost = self.log_findings.lost.iter().map(|number| {
            format!("event {number} was acknowledged and is not in the log: {:?}", history(number))
        });
        let duplicate = self.log_findings.duplicate.iter().map(|number| {
            format!("event {number} is in the log more than once: {:?}", history(number))
        });
        let unexpected = self.log_findings.unexpected.iter();
        let unexpected = unexpected.map(|id| format!("{id} is in the log and was not published"));
        let mut violations = shortened(lost);
        violations.extend(shortened(duplicate));
        violations.extend(shortened(unexpected));
        violations
    }

    fn webhook_violations(&self) -> Vec<String> {
        let events = self.ledger.events();
        let by_id: HashMap<Position, &LoggedEvent> =
            self.log.iter().map(|event| (event.position, event)).collect();
        let history = |event: &Position| match by_id.get(event) {
            Some(logged) => event_history(logged, events.get(logged.number)),
            None => "not in the log".to_owned(),
        };
        let mut violations = Vec::new();
        let webhooks = WEBHOOKS.iter().zip(&self.outcome.webhooks).zip(&self.outcome.attempts);
        for ((webhook, found), attempts) in webhooks {
            let name = webhook.name;
            let attempts_at = |event: &Position| {
                let attempts = attempts.iter().filter(|attempt| attempt.event == *event);
                let lines = attempts.map(|attempt| {
                    let at = UnixMillis::from_i64(attempt.received_ms);
                    let result = if attempt.accepted { "accepted" } else { "not accepted" };
                    format!("{at} attempt {} {result}", attempt.attempt)
                });
                lines.collect::<Vec<_>>().join(", ")
            };
            let line = |what: &str, event: &Position| {
                let (history, attempts) = (history(event), attempts_at(event));
                format!("\"{name}\": {event} {what}; {history}; attempts: {attempts}")
            };
            let lines = |events: &[Position], what: &str| {
                shortened(events.iter().map(|event| line(what, event)))
            };
            violations.extend(lines(&found.lost, "was lost"));
            violations.extend(lines(&found.out_of_order, "was delivered out of order"));
            violations.extend(shortened(found.unexplained().map(|duplicate| {
                let what = format!("was delivered again after {}", duplicate.first);
                line(&what, &duplicate.event)
            })));
            violations.extend(lines(&found.unexpected, "does not match the subscription"));
        }
        violations
    }

    fn reader_violations(&self) -> Vec<String> {
        let mut violations = Vec::new();
        for (reader, found) in self.readers.iter().zip(&self.outcome.readers) {
            let name = reader.name;
            violations.extend(shortened(reader.violations()));
            let lines = |events: &[Position], what: &str| {
                shortened(events.iter().map(|event| format!("\"{name}\": {event} {what}")))
            };
            violations.extend(lines(&found.lost, "was lost"));
            violations.extend(lines(&found.out_of_order, "was read out of order"));
            violations.extend(lines(&found.unexpected, "does not match the reader's pattern"));
            if found.duplicates > 0 && reader.subscription.is_none() {
                violations.push(format!("\"{name}\": {} duplicates", found.duplicates));
            }
        }
        violations
    }
}

fn event_history(logged: &LoggedEvent, published: Option<&PublishedEvent>) -> String {
    let Some(published) = published else { return "never published".to_owned() };
    let (number, at) = (logged.number, UnixMillis::from_i64(published.at_ms));
    match published.acknowledged {
        Some(_) => format!("event {number}, acknowledged at {at} by node {}", published.node),
        None => format!("event {number}, sent at {at}, not acknowledged"),
    }
}

/// The first [`MAX_PRINTED`] lines, and a line with the number of the others.
fn shortened(lines: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut lines: Vec<String> = lines.into_iter().collect();
    let more = lines.len().saturating_sub(MAX_PRINTED);
    if more > 0 {
        lines.truncate(MAX_PRINTED);
        lines.push(format!("... and {more} more of this kind"));
    }
    lines
}
