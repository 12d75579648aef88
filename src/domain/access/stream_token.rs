//! Short-lived tokens that open streams of some event types and nothing else.

use std::str::FromStr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use crate::domain::event::event_type::Pattern;
use crate::domain::time::UnixMillis;

/// How tokens begin, so that leaked ones are recognised.
const PREFIX: &str = "hhst_";

/// Why a token opens nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadToken {
    /// It was not made by this hub.
    #[error("this is no token of this hub")]
    Unknown,
    /// Its time is over.
    #[error("this token has expired")]
    Expired,
}

/// What a token allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamToken {
    /// Whose events may be read.
    pub tenant: Arc<str>,
    /// The key that made it: its id, or `admin`.
    pub key: Arc<str>,
    /// Of which types.
    pub types: Arc<[Pattern]>,
    /// Until when.
    pub expires: UnixMillis,
}

/// A token's text before it is sealed; one letter a member, for it goes into URLs.
#[derive(Serialize, Deserialize)]
struct Claims {
    t: String,
    k: String,
    e: Vec<String>,
    x: i64,
}

impl StreamToken {
    /// The text that is given to a client, sealed with the hub's `secret`.
    pub fn seal(&self, secret: &[u8]) -> String {
        let claims = Claims {
            t: self.tenant.to_string(),
            k: self.key.to_string(),
            e: self.types.iter().map(ToString::to_string).collect(),
            x: self.expires.as_i64(),
        };
        let claims = URL_SAFE_NO_PAD.encode(serde_json::to_vec(&claims).unwrap_or_default());
        let seal = mac(secret, &claims).map(|mac| mac.finalize().into_bytes());
        format!("{PREFIX}{claims}.{}", URL_SAFE_NO_PAD.encode(seal.unwrap_or_default()))
    }

    /// What a text allows at `now`, if this hub sealed it.
    pub fn open(text: &str, secret: &[u8], now: UnixMillis) -> Result<Self, BadToken> {
        let sealed = text.strip_prefix(PREFIX).and_then(|rest| rest.split_once('.'));
        let (claims, seal) = sealed.ok_or(BadToken::Unknown)?;
        let seal = URL_SAFE_NO_PAD.decode(seal).map_err(|_not_base64| BadToken::Unknown)?;
        mac(secret, claims)
            .is_some_and(|mac| mac.verify_slice(&seal).is_ok())
            .then_some(())
            .ok_or(BadToken::Unknown)?;
        let token = Self::read(claims).ok_or(BadToken::Unknown)?;
        if token.expires <= now { Err(BadToken::Expired) } else { Ok(token) }
    }

    fn read(claims: &str) -> Option<Self> {
        let claims: Claims = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).ok()?).ok()?;
        let types: Option<Arc<[Pattern]>> =
            claims.e.iter().map(|text| Pattern::from_str(text).ok()).collect();
        Some(Self {
            tenant: claims.t.into(),
            key: claims.k.into(),
            types: types?,
            expires: UnixMillis::from_i64(claims.x),
        })
    }
}

fn mac(secret: &[u8], claims: &str) -> Option<Hmac<Sha256>> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).ok()?;
    mac.update(PREFIX.as_bytes());
    mac.update(claims.as_bytes());
    Some(mac)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

    fn token() -> StreamToken {
        StreamToken {
            tenant: "acme".into(),
            key: "key_1".into(),
            types: ["order.*".parse().unwrap(), "a".parse().unwrap()].into(),
            expires: UnixMillis::from_i64(1_000),
        }
    }

    fn open(text: &str, now: i64) -> Result<StreamToken, BadToken> {
        StreamToken::open(text, SECRET, UnixMillis::from_i64(now))
    }

    #[test]
    fn a_token_says_what_it_allows_until_its_time_is_over() {
        let text = token().seal(SECRET);
        assert_eq!(open(&text, 999), Ok(token()));
        assert_eq!(open(&text, 1_000), Err(BadToken::Expired));
    }

    #[test]
    fn a_token_of_another_hub_opens_nothing() {
        assert_eq!(open(&token().seal(b"another"), 0), Err(BadToken::Unknown));
    }

    proptest! {
        #[test]
        fn a_changed_token_opens_nothing(at in 0usize..200, byte in 0x21u8..0x7f) {
            let mut text = token().seal(SECRET).into_bytes();
            let at = at % text.len();
            prop_assume!(text[at] != byte);
            text[at] = byte;
            prop_assert_eq!(open(std::str::from_utf8(&text).unwrap(), 0), Err(BadToken::Unknown));
        }

        #[test]
        fn any_text_is_read_or_refused(text in ".{0,60}") {
            prop_assert_eq!(open(&format!("hhst_{text}"), 0), Err(BadToken::Unknown));
        }
    }
}
