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
pub(crate) use self::publish::{PublishFailure, PublishMetrics};
pub(crate) use self::storage::{DiskUsage, StorageMetrics};
use crate::log::{AppendError, LogObserver};
use crate::store::log::Placed;

/// All metrics of a node.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    pub publish: PublishMetrics,
    pub delivery: DeliveryMetrics,
    pub storage: StorageMetrics,
}

impl LogObserver for Metrics {
    fn handle_append(&self, placed: &Result<Placed, AppendError>, events: usize, took: Duration) {
        let publish = &self.publish;
        let failure = match placed {
            Ok(Placed::Appended(_)) => {
                publish.accepted.add(u64::try_from(events).unwrap_or(u64::MAX));
                publish.duration.observe_duration(took);
                return;
            }
            Ok(Placed::Replayed { .. }) => return,
            Err(AppendError::Unavailable) => PublishFailure::Unavailable,
            Err(AppendError::Unknown) => PublishFailure::Unknown,
            Err(AppendError::Refused) => PublishFailure::Refused,
        };
        publish.failures(failure).add(1);
    }
}
