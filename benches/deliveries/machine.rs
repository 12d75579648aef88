//! The load of the machine while this run is idle.

use std::fs;
use std::time::Duration;

use super::BoxError;

/// Length of the measurement.
const SAMPLE_TIME: Duration = Duration::from_millis(500);

/// CPU time that other processes use, in percent.
pub(super) async fn busy_percent() -> Result<f64, BoxError> {
    let (busy, all) = ticks()?;
    tokio::time::sleep(SAMPLE_TIME).await;
    let (busy_then, all_then) = ticks()?;
    Ok(100.0 * (busy_then - busy) / (all_then - all).max(1.0))
}

/// Busy and total ticks, from the first line of `/proc/stat`.
fn ticks() -> Result<(f64, f64), BoxError> {
    let text = fs::read_to_string("/proc/stat")?;
    let line = text.lines().next().ok_or("an empty /proc/stat")?;
    let ticks: Vec<f64> =
        line.split_whitespace().skip(1).take(8).map(str::parse).collect::<Result<_, _>>()?;
    let all: f64 = ticks.iter().sum();
    Ok((all - ticks[3] - ticks[4], all))
}
