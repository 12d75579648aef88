//! Background work on the tables: partitions, retention, expiry, re-encryption, disk usage.

pub(crate) mod disk_usage;
pub(crate) mod expiry;
pub(crate) mod housekeeping;
pub(crate) mod reencryption;
pub(crate) mod retention;
