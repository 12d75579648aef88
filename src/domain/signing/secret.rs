//! Signing secrets (Standard Webhooks 1.0.0): HMAC-SHA256 over `id.timestamp.body`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;

use crate::domain::time::UnixMillis;

/// The prefix of the text of a secret (Standard Webhooks, "Signature scheme").
pub const PREFIX: &str = "whsec_";
/// The maximum difference between `webhook-timestamp` and the receiver's clock, either way.
pub const TOLERANCE: Duration = Duration::from_secs(5 * 60);

const MIN_BYTES: usize = 24;
const MAX_BYTES: usize = 64;

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a secret is {PREFIX} and the base64 of {MIN_BYTES} to {MAX_BYTES} bytes")]
pub struct BadSecret;

/// A signing secret of 24 to 64 bytes; as text `whsec_` and base64. `Debug` omits it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// Creates a secret from 32 bytes, which must be random.
    pub fn from_random(bytes: [u8; 32]) -> Self {
        Self(bytes.to_vec())
    }

    pub fn reveal(&self) -> String {
        format!("{PREFIX}{}", STANDARD.encode(&self.0))
    }

    /// One value for `webhook-signature` in the scheme v1: `v1,` and the base64 of the HMAC of `id.timestamp.body`.
    /// `id`: the value of `webhook-id`.
    pub fn sign(&self, id: &str, timestamp_s: i64, body: &[u8]) -> String {
        format!("v1,{}", STANDARD.encode(self.digest(id, timestamp_s, body)))
    }

    /// Returns the HMAC-SHA256 of `id.timestamp.body`, which is the signature in the scheme v1.
    fn digest(&self, id: &str, timestamp_s: i64, body: &[u8]) -> Vec<u8> {
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&self.0) else { return Vec::new() };
        mac.update(id.as_bytes());
        mac.update(format!(".{timestamp_s}.").as_bytes());
        mac.update(body);
        mac.finalize().into_bytes().to_vec()
    }

    /// Fails unless one of the signatures matches this secret and the timestamp is within [`TOLERANCE`] of `now`.
    pub fn verify(
        &self,
        signed: &Signed<'_>,
        body: &[u8],
        now: UnixMillis,
    ) -> Result<(), BadSignature> {
        let timestamp_s: i64 =
            signed.timestamp.parse().map_err(|_not_a_number| BadSignature::Timestamp)?;
        if timestamp_s.abs_diff(now.seconds()) > TOLERANCE.as_secs() {
            return Err(BadSignature::Timestamp);
        }
        let expected = self.digest(signed.id, timestamp_s, body);
        let matches =
            signed.signature.split(' ').filter_map(|one| one.strip_prefix("v1,")).any(|encoded| {
                STANDARD.decode(encoded).is_ok_and(|signature| {
                    bool::from(signature.as_slice().ct_eq(expected.as_slice()))
                })
            });
        if matches { Ok(()) } else { Err(BadSignature::Mismatch) }
    }
}

/// The three headers of a signed request.
#[derive(Debug, Clone, Copy)]
pub struct Signed<'a> {
    /// `webhook-id`.
    pub id: &'a str,
    /// `webhook-timestamp`.
    pub timestamp: &'a str,
    /// `webhook-signature`.
    pub signature: &'a str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadSignature {
    /// The timestamp is not a number or too far from now: possibly a replayed request.
    #[error("webhook-timestamp is not within five minutes of now")]
    Timestamp,
    #[error("no signature in webhook-signature was made with this secret")]
    Mismatch,
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl FromStr for Secret {
    type Err = BadSecret;

    fn from_str(text: &str) -> Result<Self, BadSecret> {
        let encoded = text.strip_prefix(PREFIX).ok_or(BadSecret)?;
        let bytes = STANDARD.decode(encoded).map_err(|_not_base64| BadSecret)?;
        if (MIN_BYTES..=MAX_BYTES).contains(&bytes.len()) {
            Ok(Self(bytes))
        } else {
            Err(BadSecret)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // The vector of the Standard Webhooks specification.
    const SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
    const ID: &str = "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk";
    const BODY: &[u8] = br#"{"email":"test@example.com","username":"test_user"}"#;
    const SIGNATURE: &str = "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=";

    fn verify(signature: &str, timestamp: &str, now_s: i64) -> Result<(), BadSignature> {
        let signed = Signed { id: ID, timestamp, signature };
        SECRET.parse::<Secret>().unwrap().verify(&signed, BODY, UnixMillis::from_i64(now_s * 1000))
    }

    #[test]
    fn the_vector_of_the_specification_is_reproduced() {
        assert_eq!(SECRET.parse::<Secret>().unwrap().sign(ID, 1_649_367_553, BODY), SIGNATURE);
    }

    #[test]
    fn one_valid_signature_among_several_is_enough() {
        assert_eq!(
            verify(&format!("v1a,abc v1,AAAA {SIGNATURE}"), "1649367553", 1_649_367_553),
            Ok(())
        );
    }

    #[test]
    fn a_wrong_signature_or_an_old_timestamp_is_rejected() {
        assert_eq!(verify("v1,AAAA", "1649367553", 1_649_367_553), Err(BadSignature::Mismatch));
        assert_eq!(
            verify(SIGNATURE, "1649367553", 1_649_367_553 + 301),
            Err(BadSignature::Timestamp)
        );
        assert_eq!(verify(SIGNATURE, "soon", 1_649_367_553), Err(BadSignature::Timestamp));
    }

    #[test]
    fn debug_omits_the_secret_and_an_invalid_one_is_rejected() {
        let secret: Secret = SECRET.parse().unwrap();
        assert!(!format!("{secret:?}").contains("C2FV"));
        assert_eq!(secret.reveal(), SECRET);
        for bad in ["", "whsec_", "whsec_AAAA", "C2FVsBQIhrscChlQIMV+b5sSYspob7oD", "whsec_!!!"] {
            assert_eq!(bad.parse::<Secret>(), Err(BadSecret), "{bad}");
        }
    }
}
