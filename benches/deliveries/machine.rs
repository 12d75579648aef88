//! How busy the machine is while this run does nothing.

use std::fs;
use std::time::Duration;

use super::BoxError;

/// How long it is looked at.
const LOOK: Duration = Duration::from_millis(500);

/// The share of the processors' time that others take, in percent.
pub(super) async fn busy_percent() -> Result<f64, BoxError> {
    let (busy, all) = ticks()?;
    tokio::time::sleep(LOOK).await;
    let (busy_then, all_then) = ticks()?;
    Ok(100.0 * (busy_then - busy) / (all_then - all).max(1.0))
}

/// The first line of `/proc/stat`: what was not idle, and all.
fn ticks() -> Result<(f64, f64), BoxError> {
    let text = fs::read_to_string("/proc/stat")?;
    let line = text.lines().next().ok_or("an empty /proc/stat")?;
    let ticks: Vec<f64> =
        line.split_whitespace().skip(1).take(8).map(str::parse).collect::<Result<_, _>>()?;
    let all: f64 = ticks.iter().sum();
    Ok((all - ticks[3] - ticks[4], all))
}
