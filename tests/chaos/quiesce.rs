//! Waits after the last fault until every event has arrived, or until no more events arrive.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::BoxError;
use super::attempt_record::AttemptRecord;
use super::checker::{
    DuplicateWindow, LoggedEvent, ReaderFindings, WebhookFindings, check_reader, check_webhook,
    matching,
};
use super::readers::Reader;
use super::receiver_process::ReceiverProcess;
use super::topology::WEBHOOKS;

/// An event is lost when nothing new has arrived for this long. Longer than a clock was skewed, and longer than the
/// hub's circuit breaker waits between two probes of a receiver that failed during the run.
const QUIET_PERIOD: Duration = Duration::from_secs(90);
/// How long to wait for late duplicates once everything has arrived.
const LATE_DUPLICATES: Duration = Duration::from_secs(3);
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Everything that is known at the end of the run.
pub(super) struct Outcome {
    /// Indexed like [`WEBHOOKS`].
    pub(super) webhooks: Vec<WebhookFindings>,
    /// The attempts at each webhook, indexed like [`WEBHOOKS`].
    pub(super) attempts: Vec<Vec<AttemptRecord>>,
    pub(super) readers: Vec<ReaderFindings>,
    /// Requests that the receivers found invalid.
    pub(super) violations: Vec<String>,
    /// Time until the last event arrived.
    pub(super) quiesced_in: Duration,
}

impl Outcome {
    fn missing(&self) -> usize {
        let webhooks = self.webhooks.iter().map(|webhook| webhook.lost.len());
        webhooks.chain(self.readers.iter().map(|reader| reader.lost.len())).sum()
    }
}

/// Waits until the cluster is quiet, and checks all records.
pub(super) async fn wait_and_check(
    log: &[LoggedEvent],
    receivers: &ReceiverProcess,
    readers: &[Arc<Reader>],
    windows: &[DuplicateWindow],
) -> Result<Outcome, BoxError> {
    let started = Instant::now();
    let (mut least_missing, mut last_progress) = (usize::MAX, started);
    let mut quiesced_in = None;
    loop {
        let outcome = check_all(log, receivers, readers, windows).await?;
        let missing = outcome.missing();
        if missing < least_missing {
            (least_missing, last_progress) = (missing, Instant::now());
        }
        let progress_time = quiesced_in.unwrap_or_else(|| last_progress.duration_since(started));
        if quiesced_in.is_some() || last_progress.elapsed() > QUIET_PERIOD {
            return Ok(Outcome { quiesced_in: progress_time, ..outcome });
        }
        if missing == 0 {
            quiesced_in = Some(progress_time);
            sleep(LATE_DUPLICATES).await;
        } else {
            sleep(CHECK_INTERVAL).await;
        }
    }
}

async fn check_all(
    log: &[LoggedEvent],
    receivers: &ReceiverProcess,
    readers: &[Arc<Reader>],
    windows: &[DuplicateWindow],
) -> Result<Outcome, BoxError> {
    let journal = receivers.journal().await?;
    let mut attempts = vec![Vec::new(); WEBHOOKS.len()];
    for attempt in journal.attempts {
        if let Some(of_webhook) = attempts.get_mut(attempt.webhook) {
            of_webhook.push(attempt);
        }
    }
    let mut outcome = Outcome {
        webhooks: Vec::new(),
        attempts,
        readers: Vec::new(),
        violations: journal.violations,
        quiesced_in: Duration::ZERO,
    };
    for (webhook, attempts) in WEBHOOKS.iter().zip(&outcome.attempts) {
        let expected = matching(log, &webhook.pattern.parse()?);
        outcome.webhooks.push(check_webhook(&expected, attempts, webhook.ordered, windows));
    }
    for reader in readers {
        let expected = matching(log, &reader.pattern.parse()?);
        outcome.readers.push(check_reader(&expected, &reader.events()));
    }
    Ok(outcome)
}
