//! Background work on the tables: partitions, retention, expiry, re-encryption, disk usage.

pub mod disk_usage;
pub mod expiry;
pub mod housekeeping;
pub mod reencryption;
pub mod retention;
