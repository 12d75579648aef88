//! Requests with an `Idempotency-Key`.

/// Identifies a request, so that a repeated one gets the first response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestKey {
    /// The value of `Idempotency-Key`.
    pub key: String,
    /// A hash of the request: another request with the same key is an error.
    pub fingerprint: Vec<u8>,
}
