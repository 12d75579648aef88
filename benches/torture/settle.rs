//! Waiting, when the torture is over, until everything has arrived or nothing more does.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::Anything;
use super::arrival::Arrival;
use super::cast::CALLBACKS;
use super::check::{self, Logged, OfCallback, OfReader, Window};
use super::follow::Reader;
use super::receivers::Receivers;

/// What has not come after so long in which nothing new came is lost: longer than a clock was off, and than the hub
/// waits between probes of a receiver that was bad as long as they are here.
const QUIET: Duration = Duration::from_secs(90);
/// Late repeats are waited for.
const AFTERMATH: Duration = Duration::from_secs(3);
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// All that is known in the end.
pub(super) struct Outcome {
    /// For each callback.
    pub(super) callbacks: Vec<OfCallback>,
    /// The POSTs to each.
    pub(super) arrivals: Vec<Vec<Arrival>>,
    /// For each reader.
    pub(super) readers: Vec<OfReader>,
    /// What the receivers complain of.
    pub(super) complaints: Vec<String>,
    /// How long it took until all had arrived, or that something had.
    pub(super) settled_in: Duration,
}

impl Outcome {
    fn missing(&self) -> usize {
        let callbacks = self.callbacks.iter().map(|callback| callback.lost.len());
        callbacks.chain(self.readers.iter().map(|reader| reader.missing.len())).sum()
    }
}

/// Waits, and checks.
pub(super) async fn settle(
    log: &[Logged],
    receivers: &Receivers,
    readers: &[Arc<Reader>],
    windows: &[Window],
) -> Result<Outcome, Anything> {
    let began = Instant::now();
    let (mut least, mut since) = (usize::MAX, began);
    let mut settled_in = None;
    loop {
        let outcome = look(log, receivers, readers, windows).await?;
        let missing = outcome.missing();
        if missing < least {
            (least, since) = (missing, Instant::now());
        }
        let settled = settled_in.unwrap_or_else(|| since.duration_since(began));
        if settled_in.is_some() || since.elapsed() > QUIET {
            return Ok(Outcome { settled_in: settled, ..outcome });
        }
        if missing == 0 {
            settled_in = Some(settled);
            sleep(AFTERMATH).await;
        } else {
            sleep(LOOK_EVERY).await;
        }
    }
}

async fn look(
    log: &[Logged],
    receivers: &Receivers,
    readers: &[Arc<Reader>],
    windows: &[Window],
) -> Result<Outcome, Anything> {
    let noted = receivers.noted().await?;
    let mut arrivals = vec![Vec::new(); CALLBACKS.len()];
    for arrival in noted.arrivals {
        if let Some(own) = arrivals.get_mut(arrival.callback) {
            own.push(arrival);
        }
    }
    let mut outcome = Outcome {
        callbacks: Vec::new(),
        arrivals,
        readers: Vec::new(),
        complaints: noted.complaints,
        settled_in: Duration::ZERO,
    };
    for (callback, own) in CALLBACKS.iter().zip(&outcome.arrivals) {
        let wanted = check::of_types(log, &callback.pattern.parse()?);
        outcome.callbacks.push(check::callback(&wanted, own, callback.ordered, windows));
    }
    for reader in readers {
        let wanted = check::of_types(log, &reader.pattern.parse()?);
        outcome.readers.push(check::reader(&wanted, &reader.seen()));
    }
    Ok(outcome)
}
