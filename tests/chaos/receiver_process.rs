//! The receivers' process, as the run sees it.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::BoxError;
use super::attempt_record::AttemptRecord;
use super::receiver::VIOLATION_PREFIX;
use super::self_exec::SelfExec;
use super::topology::Behavior;

/// Everything that the receivers have recorded so far.
#[derive(Debug, Default, Clone)]
pub(super) struct Journal {
    pub(super) attempts: Vec<AttemptRecord>,
    /// Requests that break the contract.
    pub(super) violations: Vec<String>,
}

pub(super) struct ReceiverProcess {
    port: u16,
    client: reqwest::Client,
    journal: Mutex<Journal>,
    /// Dropping the handle ends the process.
    _process: SelfExec,
}

impl ReceiverProcess {
    pub(super) fn start() -> Result<Self, BoxError> {
        let mut process = SelfExec::start("receivers", &[])?;
        let port = process.next_line()?.parse()?;
        let client = reqwest::Client::builder().timeout(Duration::from_secs(30)).build()?;
        Ok(Self { port, client, journal: Mutex::default(), _process: process })
    }

    /// The callback URL of a webhook.
    pub(super) fn callback_url(&self, webhook: usize) -> String {
        format!("http://127.0.0.1:{}/callback/{webhook}", self.port)
    }

    /// Sets how a webhook's receiver responds from now on.
    pub(super) async fn set_behavior(
        &self,
        webhook: usize,
        behavior: Behavior,
    ) -> Result<(), BoxError> {
        let name = behavior.name();
        let url = format!("http://127.0.0.1:{}/behavior/{webhook}/{name}", self.port);
        self.client.get(url).send().await?.error_for_status()?;
        Ok(())
    }

    /// Fetches the new lines of the journal and returns the whole journal.
    pub(super) async fn journal(&self) -> Result<Journal, BoxError> {
        let fetched = {
            let journal = self.journal.lock().unwrap_or_else(PoisonError::into_inner);
            journal.attempts.len() + journal.violations.len()
        };
        let url = format!("http://127.0.0.1:{}/journal/{fetched}", self.port);
        let text = self.client.get(url).send().await?.error_for_status()?.text().await?;
        let mut journal = self.journal.lock().unwrap_or_else(PoisonError::into_inner);
        for line in text.lines() {
            match line.strip_prefix(VIOLATION_PREFIX) {
                Some(violation) => journal.violations.push(violation.trim().to_owned()),
                None => journal.attempts.push(line.parse()?),
            }
        }
        Ok(journal.clone())
    }
}
