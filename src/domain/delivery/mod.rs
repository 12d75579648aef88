//! Deliveries as values: attempts and their outcomes, retries, and the schedule that retries follow.

pub mod attempt;
pub mod exhausted;
pub mod flush;
pub mod outcome;
pub mod replay;
pub mod retry;
pub mod retry_after;
pub mod retry_schedule;
pub mod shard;
pub mod state;
