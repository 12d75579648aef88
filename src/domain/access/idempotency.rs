//! A request that carries an `Idempotency-Key`.

/// The caller's name for a request, so that a repeat of it is answered and not done again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestKey {
    /// The text of `Idempotency-Key`.
    pub key: String,
    /// Tells one request from another under the same key.
    pub fingerprint: Vec<u8>,
}
