//! Deliveries as values: attempts and their outcomes, retries, and the schedule that retries follow.

pub mod outcome;
pub mod retry_after;
pub mod retry_schedule;
