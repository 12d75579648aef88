//! The process of the receivers, seen from this one.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::Anything;
use super::arrival::Arrival;
use super::cast::Mood;
use super::receiver::COMPLAINT;
use super::self_exec::SelfExec;

/// What all callbacks have noted so far.
#[derive(Debug, Default, Clone)]
pub(super) struct Noted {
    /// Each POST.
    pub(super) arrivals: Vec<Arrival>,
    /// What must not be.
    pub(super) complaints: Vec<String>,
}

/// The receivers at work.
pub(super) struct Receivers {
    port: u16,
    client: reqwest::Client,
    noted: Mutex<Noted>,
    /// Held for its drop.
    _process: SelfExec,
}

impl Receivers {
    /// Starts them.
    pub(super) fn start() -> Result<Self, Anything> {
        let mut process = SelfExec::start("receivers", &[])?;
        let port = process.next_line()?.parse()?;
        let client = reqwest::Client::builder().timeout(Duration::from_secs(30)).build()?;
        Ok(Self { port, client, noted: Mutex::default(), _process: process })
    }

    /// Where a callback is called.
    pub(super) fn url(&self, callback: usize) -> String {
        format!("http://127.0.0.1:{}/callback/{callback}", self.port)
    }

    /// How a callback answers from now on.
    pub(super) async fn set_mood(&self, callback: usize, mood: Mood) -> Result<(), Anything> {
        let name = mood.name();
        let url = format!("http://127.0.0.1:{}/mood/{callback}/{name}", self.port);
        self.client.get(url).send().await?.error_for_status()?;
        Ok(())
    }

    /// All that was noted up to now.
    pub(super) async fn noted(&self) -> Result<Noted, Anything> {
        let known = {
            let noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
            noted.arrivals.len() + noted.complaints.len()
        };
        let url = format!("http://127.0.0.1:{}/journal/{known}", self.port);
        let text = self.client.get(url).send().await?.error_for_status()?.text().await?;
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        for line in text.lines() {
            match line.strip_prefix(COMPLAINT) {
                Some(complaint) => noted.complaints.push(complaint.trim().to_owned()),
                None => noted.arrivals.push(line.parse()?),
            }
        }
        Ok(noted.clone())
    }
}
