//! The verification of a receiver: the proof that it wants events before the hub sends it any.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use strum::{EnumString, IntoStaticStr};

use crate::domain::egress::callback_url::CallbackUrl;
use crate::domain::id::SubscriptionId;
use crate::domain::signing::secret::Secret;
use crate::domain::time::UnixMillis;

/// How a receiver proves that it wants the events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, EnumString, IntoStaticStr)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case", parse_err_ty = UnknownVerificationMethod, parse_err_fn = unknown_method)]
pub enum VerificationMethod {
    /// REST Hooks: the receiver returns the header `X-Hook-Secret`, at once or later.
    XHookSecret,
    /// The receiver answers a GET with a text that the hub put into its query.
    Challenge,
    /// CloudEvents HTTP 1.1 Web Hooks, section 4: the receiver allows the hub's origin, at once or later.
    #[serde(rename = "cloudevents")]
    #[strum(serialize = "cloudevents")]
    CloudEvents,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected x_hook_secret, challenge or cloudevents, or null for none")]
pub struct UnknownVerificationMethod;

fn unknown_method(_name: &str) -> UnknownVerificationMethod {
    UnknownVerificationMethod
}

impl VerificationMethod {
    /// Returns the name of the method in JSON.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// The result of a verification: the permissions that the receiver granted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verified {
    pub at: UnixMillis,
    /// The hub's name that the receiver allowed; each delivery repeats it (CloudEvents).
    pub origin: Option<String>,
    /// The most POSTs a minute that the receiver accepts.
    pub rate_per_minute: Option<u32>,
}

impl Verified {
    /// The result without a particular origin and without a rate limit.
    pub fn unlimited(at: UnixMillis) -> Self {
        Self { at, origin: None, rate_per_minute: None }
    }
}

/// A verification that a subscription requires, and its result. The stored names are part of the database's format.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verification {
    #[serde(rename = "way")]
    pub method: VerificationMethod,
    /// Identifies the verification: a later one has another time.
    #[serde(rename = "asked_at")]
    pub requested_at: UnixMillis,
    /// The value of `X-Hook-Secret`; other methods do not use it. Only the receiver learns it, so not even the
    /// subscription's owner can confirm in the receiver's place.
    #[serde(with = "revealed")]
    pub secret: Secret,
    /// `None`: the hub sends no events yet.
    #[serde(rename = "consent")]
    pub verified: Option<Verified>,
}

impl Verification {
    /// Requested at `now`, not yet verified. `random` becomes the secret for `X-Hook-Secret`.
    pub fn new(method: VerificationMethod, now: UnixMillis, random: [u8; 32]) -> Self {
        Self { method, requested_at: now, secret: Secret::from_random(random), verified: None }
    }

    /// The token with which the receiver can confirm later. Sent only to `callback_url`, and valid for this
    /// verification only. `key`: the hub's secret key for such tokens.
    pub fn token(&self, key: &[u8], id: SubscriptionId, callback_url: &CallbackUrl) -> String {
        let tag = self.mac(key, id, callback_url).map(|mac| mac.finalize().into_bytes());
        URL_SAFE_NO_PAD.encode(tag.unwrap_or_default())
    }

    /// Compares with [`token`](Self::token) in constant time.
    pub fn is_token(
        &self,
        text: &str,
        key: &[u8],
        id: SubscriptionId,
        callback_url: &CallbackUrl,
    ) -> bool {
        let mac = self.mac(key, id, callback_url);
        let tag = URL_SAFE_NO_PAD.decode(text);
        mac.zip(tag.ok()).is_some_and(|(mac, tag)| mac.verify_slice(&tag).is_ok())
    }

    /// HMAC over the subscription's id, the time of the request and the URL. Always `Some`: any key length is valid.
    fn mac(&self, key: &[u8], id: SubscriptionId, url: &CallbackUrl) -> Option<Hmac<Sha256>> {
        let mut mac = Hmac::<Sha256>::new_from_slice(key).ok()?;
        mac.update(format!("{id}\n{}\n{}", self.requested_at.as_i64(), url.as_str()).as_bytes());
        Some(mac)
    }
}

/// An attempt to verify a receiver that did not succeed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedVerification {
    pub subscription: SubscriptionId,
    /// The fencing token of the shard's owner.
    pub term: i64,
    /// Identifies the verification, which has several attempts.
    pub requested_at: UnixMillis,
    /// The start of the attempt.
    pub attempted_at: UnixMillis,
    pub error: String,
    /// `None`: the hub makes another attempt only on request.
    pub next_attempt_at: Option<UnixMillis>,
}

/// The result of one verification attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum VerificationOutcome {
    Verified(Verified),
    /// The receiver has not confirmed. The next attempt waits for `at_least`, if the receiver asked for that.
    Unverified {
        reason: String,
        at_least: Option<Duration>,
    },
    /// The receiver answered 410: it wants no events, ever.
    Gone,
}

mod revealed {
    use serde::{Deserialize, Deserializer, Serializer, de};

    use super::Secret;

    /// Serializes a secret as its text `whsec_…`. Used only in the database, not in API responses.
    pub(crate) fn serialize<S: Serializer>(
        secret: &Secret,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&secret.reveal())
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Secret, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("WebHook-Allowed-Rate must be * or a whole number of requests a minute, 1 or more")]
pub struct InvalidRate;

/// Requests per minute in `WebHook-Allowed-Rate`; `None`: `*`, no limit (CloudEvents HTTP 1.1 Web Hooks, 4.2.2).
fn parse_rate(text: &str) -> Result<Option<u32>, InvalidRate> {
    match text.trim() {
        "*" => Ok(None),
        digits if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            // A number beyond `u32` limits nothing.
            let rate = digits.parse().unwrap_or(u32::MAX);
            if rate == 0 { Err(InvalidRate) } else { Ok(Some(rate)) }
        }
        _ => Err(InvalidRate),
    }
}

/// Requests per minute: `header`, or `requested` without one; `None`: no limit. Fails if `header` is invalid.
pub fn allowed_rate(
    header: Option<&str>,
    requested: Option<u32>,
) -> Result<Option<u32>, InvalidRate> {
    header.map_or(Ok(requested), parse_rate)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> UnixMillis {
        UnixMillis::from_i64(millis)
    }

    #[test]
    fn a_token_confirms_one_verification_of_one_receiver() {
        let (key, id) = (b"0123456789abcdef0123456789abcdef", SubscriptionId::from_stored(7));
        let url: CallbackUrl = "https://example.com/hooks?a=1".parse().unwrap();
        let verification = Verification::new(VerificationMethod::CloudEvents, at(1_000), [7; 32]);
        let token = verification.token(key, id, &url);
        assert_eq!(token.len(), 43, "256 bits");
        assert!(verification.is_token(&token, key, id, &url));

        let later = Verification::new(VerificationMethod::CloudEvents, at(1_001), [7; 32]);
        let other_url: CallbackUrl = "https://example.com/hooks?a=2".parse().unwrap();
        assert!(!later.is_token(&token, key, id, &url));
        assert!(!verification.is_token(&token, key, SubscriptionId::from_stored(8), &url));
        assert!(!verification.is_token(&token, key, id, &other_url));
        assert!(!verification.is_token(&token, b"another", id, &url));
        for bad in ["", "!", "AAAA", &format!("{token}A")] {
            assert!(!verification.is_token(bad, key, id, &url), "{bad}");
        }
    }

    #[test]
    fn an_allowed_rate_is_a_star_or_a_positive_number() {
        assert_eq!(parse_rate("*"), Ok(None));
        assert_eq!(parse_rate(" 120 "), Ok(Some(120)));
        assert_eq!(parse_rate("99999999999999999999"), Ok(Some(u32::MAX)));
        for bad in ["", "0", "-1", "1.5", "many", "10/m", "**"] {
            assert_eq!(parse_rate(bad), Err(InvalidRate), "{bad}");
        }
    }

    #[test]
    fn a_receiver_that_names_no_rate_allows_the_requested_one() {
        assert_eq!(allowed_rate(None, Some(120)), Ok(Some(120)));
        assert_eq!(allowed_rate(Some("*"), Some(120)), Ok(None));
        assert_eq!(allowed_rate(Some("30"), Some(120)), Ok(Some(30)));
    }

    #[test]
    fn a_verification_survives_storage() {
        for name in ["x_hook_secret", "challenge", "cloudevents"] {
            let method: VerificationMethod = name.parse().unwrap();
            let outstanding = Verification::new(method, at(1_763_900_000_123), [7; 32]);
            let verified = Verified {
                origin: Some("h.example".into()),
                ..Verified::unlimited(at(1_763_900_000_124))
            };
            for verification in
                [outstanding.clone(), Verification { verified: Some(verified), ..outstanding }]
            {
                let stored = serde_json::to_string(&verification).unwrap();
                assert_eq!(serde_json::from_str::<Verification>(&stored).unwrap(), verification);
                assert!(stored.contains(name));
                assert_eq!(method.name(), name);
            }
        }
        assert_eq!("X-Hook-Secret".parse::<VerificationMethod>(), Err(UnknownVerificationMethod));
    }
}
