//! HTTP client of the hub under test.

use std::time::Duration;

use super::BoxError;

/// The hub's admin key.
pub(crate) const KEY: &str = "benchmark-admin-key-of-this-run";

/// A client that sends the admin key.
pub(crate) trait WithKey: Sized {
    fn new_with_key() -> Result<Self, BoxError>;
}

impl WithKey for reqwest::Client {
    fn new_with_key() -> Result<Self, BoxError> {
        let mut headers = reqwest::header::HeaderMap::new();
        headers.insert("authorization", format!("Bearer {KEY}").parse()?);
        Ok(Self::builder().default_headers(headers).timeout(Duration::from_secs(30)).build()?)
    }
}
