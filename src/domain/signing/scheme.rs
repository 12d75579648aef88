//! The signature schemes of Standard Webhooks.

use serde::{Deserialize, Serialize};
use strum::EnumString;

/// A signature scheme (Standard Webhooks 1.0.0, "Signature scheme").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, EnumString)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum Scheme {
    /// HMAC-SHA256 with the secret.
    V1,
    /// Ed25519 with the private key; receivers verify with the public key.
    V1a,
}
