//! The parts of `tests/hub/support` that these tests use.

#[expect(dead_code, reason = "the tests of the hub use more")]
#[path = "../hub/support/client.rs"]
pub(crate) mod client;
#[expect(dead_code, reason = "as above")]
#[path = "../hub/support/database.rs"]
pub(crate) mod database;
#[expect(dead_code, reason = "as above")]
#[path = "../hub/support/hub.rs"]
pub(crate) mod hub;
