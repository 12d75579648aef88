//! The handshake with a receiver: what it must answer before it is sent anything, and what it agreed to.

use std::str::FromStr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use crate::domain::egress::callback_url::CallbackUrl;
use crate::domain::id::SubscriptionId;
use crate::domain::signing::secret::Secret;
use crate::domain::time::UnixMillis;

/// How a receiver is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Way {
    /// REST Hooks: it sends the header `X-Hook-Secret` back, at once or later.
    #[serde(rename = "x_hook_secret")]
    XHookSecret,
    /// It answers a GET with the text that the query gives it.
    #[serde(rename = "challenge")]
    Challenge,
    /// CloudEvents HTTP 1.1 Web Hooks, section 4: it allows the hub's origin, at once or later.
    #[serde(rename = "cloudevents")]
    CloudEvents,
}

/// A text that names no handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected x_hook_secret, challenge or cloudevents, or null for none")]
pub struct NoSuchHandshake;

impl Way {
    const ALL: [Self; 3] = [Self::XHookSecret, Self::Challenge, Self::CloudEvents];

    /// The name in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::XHookSecret => "x_hook_secret",
            Self::Challenge => "challenge",
            Self::CloudEvents => "cloudevents",
        }
    }
}

impl FromStr for Way {
    type Err = NoSuchHandshake;

    fn from_str(name: &str) -> Result<Self, NoSuchHandshake> {
        Self::ALL.into_iter().find(|way| way.name() == name).ok_or(NoSuchHandshake)
    }
}

/// What a receiver agreed to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Consent {
    /// When.
    pub at: UnixMillis,
    /// The name under which it is sent events, which each delivery repeats (CloudEvents).
    pub origin: Option<String>,
    /// How many POSTs it takes in a minute, at most.
    pub rate_per_minute: Option<u32>,
}

impl Consent {
    /// To whatever it is sent.
    pub fn to_all(at: UnixMillis) -> Self {
        Self { at, origin: None, rate_per_minute: None }
    }
}

/// A handshake that a subscription asks for, and how it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handshake {
    /// How the receiver is asked.
    pub way: Way,
    /// Since when; tells it from an earlier one, with another receiver.
    pub asked_at: UnixMillis,
    /// What `X-Hook-Secret` says: known to the receiver alone, so that nobody else can agree in its place, not even the
    /// subscription's owner.
    #[serde(with = "as_text")]
    pub secret: Secret,
    /// What the receiver agreed to; without it nothing is sent.
    pub consent: Option<Consent>,
}

impl Handshake {
    /// One that is still to come; `random` becomes its secret.
    pub fn asked(way: Way, now: UnixMillis, random: [u8; 32]) -> Self {
        Self { way, asked_at: now, secret: Secret::from_random(random), consent: None }
    }

    /// A text that only the receiver at `callback_url` is given, by which it can agree later. Good for this handshake alone.
    pub fn token(&self, key: &[u8], id: SubscriptionId, callback_url: &CallbackUrl) -> String {
        let seal = self.mac(key, id, callback_url).map(|mac| mac.finalize().into_bytes());
        URL_SAFE_NO_PAD.encode(seal.unwrap_or_default())
    }

    /// Whether `text` is that text.
    pub fn is_token(
        &self,
        text: &str,
        key: &[u8],
        id: SubscriptionId,
        callback_url: &CallbackUrl,
    ) -> bool {
        let mac = self.mac(key, id, callback_url);
        let seal = URL_SAFE_NO_PAD.decode(text);
        mac.zip(seal.ok()).is_some_and(|(mac, seal)| mac.verify_slice(&seal).is_ok())
    }

    fn mac(&self, key: &[u8], id: SubscriptionId, url: &CallbackUrl) -> Option<Hmac<Sha256>> {
        let mut mac = Hmac::<Sha256>::new_from_slice(key).ok()?;
        mac.update(format!("{id}\n{}\n{}", self.asked_at.as_i64(), url.as_str()).as_bytes());
        Some(mac)
    }
}

/// A handshake that brought no consent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TriedVerification {
    /// Of this subscription.
    pub subscription: SubscriptionId,
    /// The term in which its shard is owned; another owner's word counts more.
    pub term: i64,
    /// Since when its receiver is asked: one handshake has several attempts.
    pub asked_at: UnixMillis,
    /// When the attempt began.
    pub attempted_at: UnixMillis,
    /// What came of it.
    pub error: String,
    /// When the next one is made, if one is.
    pub next_attempt_at: Option<UnixMillis>,
}

/// The result of one verification attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum VerificationOutcome {
    Verified(Consent),
    /// The receiver has not confirmed. The next attempt waits for `at_least`, if the receiver asked for that.
    Unverified {
        reason: String,
        at_least: Option<Duration>,
    },
    /// The receiver answered 410: it wants no events, ever.
    Gone,
}

mod as_text {
    use serde::{Deserialize, Deserializer, Serializer, de};

    use super::Secret;

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

/// A rate that is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("WebHook-Allowed-Rate is * or a whole number from 1 on, of requests a minute")]
pub struct BadRate;

/// What `WebHook-Allowed-Rate` says: so many requests a minute, or `*` for any number (CloudEvents HTTP 1.1 Web Hooks,
/// 4.2.2).
fn allowed_rate(text: &str) -> Result<Option<u32>, BadRate> {
    match text.trim() {
        "*" => Ok(None),
        digits if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            // More than that is no limit.
            let rate = digits.parse().unwrap_or(u32::MAX);
            if rate == 0 { Err(BadRate) } else { Ok(Some(rate)) }
        }
        _ => Err(BadRate),
    }
}

/// The rate that a receiver agrees to by what it `said`: who says nothing agrees to what it was asked.
pub fn agreed_rate(said: Option<&str>, asked: Option<u32>) -> Result<Option<u32>, BadRate> {
    said.map_or(Ok(asked), allowed_rate)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> UnixMillis {
        UnixMillis::from_i64(millis)
    }

    #[test]
    fn a_token_is_good_for_one_handshake_of_one_receiver() {
        let (key, id) = (b"0123456789abcdef0123456789abcdef", SubscriptionId::from_stored(7));
        let url: CallbackUrl = "https://example.com/hooks?a=1".parse().unwrap();
        let handshake = Handshake::asked(Way::CloudEvents, at(1_000), [7; 32]);
        let token = handshake.token(key, id, &url);
        assert_eq!(token.len(), 43, "256 bits");
        assert!(handshake.is_token(&token, key, id, &url));

        let later = Handshake::asked(Way::CloudEvents, at(1_001), [7; 32]);
        let other_url: CallbackUrl = "https://example.com/hooks?a=2".parse().unwrap();
        assert!(!later.is_token(&token, key, id, &url));
        assert!(!handshake.is_token(&token, key, SubscriptionId::from_stored(8), &url));
        assert!(!handshake.is_token(&token, key, id, &other_url));
        assert!(!handshake.is_token(&token, b"another", id, &url));
        for bad in ["", "!", "AAAA", &format!("{token}A")] {
            assert!(!handshake.is_token(bad, key, id, &url), "{bad}");
        }
    }

    #[test]
    fn a_rate_is_a_number_from_one_on_or_a_star() {
        assert_eq!(allowed_rate("*"), Ok(None));
        assert_eq!(allowed_rate(" 120 "), Ok(Some(120)));
        assert_eq!(allowed_rate("99999999999999999999"), Ok(Some(u32::MAX)));
        for bad in ["", "0", "-1", "1.5", "many", "10/m", "**"] {
            assert_eq!(allowed_rate(bad), Err(BadRate), "{bad}");
        }
    }

    #[test]
    fn who_names_no_rate_agrees_to_the_one_it_is_asked_for() {
        assert_eq!(agreed_rate(None, Some(120)), Ok(Some(120)));
        assert_eq!(agreed_rate(Some("*"), Some(120)), Ok(None));
        assert_eq!(agreed_rate(Some("30"), Some(120)), Ok(Some(30)));
    }

    #[test]
    fn it_is_stored_as_it_stands() {
        for way in Way::ALL {
            assert_eq!(way.name().parse(), Ok(way));
            let asked = Handshake::asked(way, at(1_763_900_000_123), [7; 32]);
            let consent = Consent {
                origin: Some("h.example".into()),
                ..Consent::to_all(at(1_763_900_000_124))
            };
            for handshake in [asked.clone(), Handshake { consent: Some(consent), ..asked }] {
                let stored = serde_json::to_string(&handshake).unwrap();
                assert_eq!(serde_json::from_str::<Handshake>(&stored).unwrap(), handshake);
                assert!(stored.contains(way.name()));
            }
        }
        assert_eq!("X-Hook-Secret".parse::<Way>(), Err(NoSuchHandshake));
    }
}
