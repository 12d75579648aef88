//! The signature schemes of Standard Webhooks.

use serde::{Deserialize, Serialize};

/// A signature scheme (Standard Webhooks 1.0.0, "Signature scheme").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scheme {
    /// HMAC-SHA256 with the secret.
    V1,
    /// Ed25519 with the private key; receivers verify with the public key.
    V1a,
}

impl Scheme {
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "v1" => Some(Self::V1),
            "v1a" => Some(Self::V1a),
            _ => None,
        }
    }
}
