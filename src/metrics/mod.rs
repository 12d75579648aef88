//! The metrics of a node: atomics that each part updates, and that `/metrics` renders on request.
//! docs/internals/metrics.md says how to add one.

mod counter;
mod delivery;
mod histogram;
mod publish;
mod storage;

use std::time::Duration;

pub(crate) use self::counter::Counter;
pub(crate) use self::delivery::{DeliveryMetrics, ProgressState, QueueSnapshot};
pub(crate) use self::histogram::Histogram;
pub(crate) use self::publish::PublishMetrics;
pub(crate) use self::storage::{DiskUsage, StorageMetrics};
use crate::log::{AppendError, LogObserver};
use crate::store::log::AppendOutcome;

#[derive(Debug, Default)]
pub(crate) struct Metrics {
    pub publish: PublishMetrics,
    pub delivery: DeliveryMetrics,
    pub storage: StorageMetrics,
}

impl LogObserver for Metrics {
    /// Counts events or the failure. A repeat of an earlier request changes nothing.
    fn handle_append(
        &self,
        outcome: &Result<AppendOutcome, AppendError>,
        events: usize,
        took: Duration,
    ) {
        let publish = &self.publish;
        match outcome {
            Ok(AppendOutcome::Appended(_)) => {
                publish.accepted.add(u64::try_from(events).unwrap_or(u64::MAX));
                publish.duration.observe_duration(took);
            }
            Ok(AppendOutcome::Replayed { .. }) => {}
            Err(AppendError::Unavailable) => publish.unavailable.add(1),
            Err(AppendError::Unknown) => publish.unknown.add(1),
            Err(AppendError::Refused) => publish.refused.add(1),
        }
    }
}
