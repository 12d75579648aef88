//! The problems that errors of the store, the log and the connection limits become.

use super::{CONNECTION_RETRY_S, Code, Problem};
use crate::domain::access::token_bucket::RateLimitStatus;
use crate::log::AppendError;
use crate::store::StoreError;
use crate::streaming::presence::StreamLimitReached;

/// Creates a 500 `internal` problem. It gives no cause, but refers to the hub's log.
fn internal() -> Problem {
    Problem::new(Code::Internal, "the hub failed; its log has the cause under this request_id")
}

impl From<StoreError> for Problem {
    /// Creates a 503 problem if the database is unavailable, else a 500 problem, and logs the error.
    fn from(error: StoreError) -> Self {
        match &error {
            StoreError::Unavailable(reason) => {
                tracing::warn!(%reason, "the database is unavailable");
                Self::new(
                    Code::Unavailable,
                    "the database is unavailable; the change may have been made, so check before you retry",
                )
            }
            StoreError::Refused(_) | StoreError::Unreadable(_) => {
                tracing::error!(%error, "a database statement failed");
                internal()
            }
        }
    }
}

impl From<StreamLimitReached> for Problem {
    /// Creates a 429 problem that names the connection limit that was reached.
    fn from(reached: StreamLimitReached) -> Self {
        let rate_limit = match reached {
            StreamLimitReached::Tenant(limit) => {
                Some(RateLimitStatus { limit, remaining: 0, reset_s: CONNECTION_RETRY_S })
            }
            StreamLimitReached::Node(_)
            | StreamLimitReached::Key(_)
            | StreamLimitReached::Address(_) => None,
        };
        let detail = match reached {
            StreamLimitReached::Node(limit) => format!(
                "this node has {limit} open streams and waiting polls, its limit (HOOKHUB_MAX_STREAMS); retry later, or \
                 poll without wait"
            ),
            StreamLimitReached::Key(limit) => format!(
                "this key has {limit} open streams and waiting polls, the limit for one key \
                 (HOOKHUB_MAX_STREAMS_PER_KEY); close some, or poll without wait"
            ),
            StreamLimitReached::Tenant(limit) => format!(
                "this tenant has {limit} open streams and waiting polls on this node, its limit (quota streams); close \
                 some, or poll without wait"
            ),
            StreamLimitReached::Address(limit) => format!(
                "this address has {limit} open streams and waiting polls, the limit for one address \
                 (HOOKHUB_MAX_STREAMS_PER_ADDRESS); close some, or poll without wait"
            ),
        };
        Self { rate_limit, ..Self::new(Code::TooManyConnections, detail) }
    }
}

impl From<AppendError> for Problem {
    /// 503 that says whether the events may be stored, or 500 if the database rejected the append.
    fn from(error: AppendError) -> Self {
        match error {
            AppendError::Unavailable => Self::new(
                Code::Unavailable,
                "the database is unavailable and nothing was stored; retry",
            ),
            AppendError::Unknown => Self::new(
                Code::Unavailable,
                "the database failed during the commit, so the events may or may not be stored; retry with the same \
                 Idempotency-Key to store them once",
            ),
            AppendError::Refused => internal(),
        }
    }
}
