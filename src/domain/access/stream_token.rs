//! Short-lived tokens that permit only the reading of some event types.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use crate::domain::event::event_type::Pattern;
use crate::domain::time::UnixMillis;

/// Secret scanners recognise a leaked token by its prefix.
const PREFIX: &str = "hhst_";

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidToken {
    /// The text is not a token, another hub signed it, or it was modified.
    #[error("this token was not issued by this hub")]
    Unknown,
    #[error("this token has expired")]
    Expired,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamToken {
    pub tenant: Arc<str>,
    /// The id of the key that created the token, or `admin`.
    pub key: Arc<str>,
    pub types: Arc<[Pattern]>,
    pub expires: UnixMillis,
}

/// The signed JSON. One letter per member keeps URLs short.
#[derive(Serialize, Deserialize)]
struct Claims {
    t: String,
    k: String,
    e: Vec<Pattern>,
    x: i64,
}

impl StreamToken {
    /// Returns the token as text for the client: the encoded claims and their signature with the hub's `secret`.
    pub fn sign(&self, secret: &[u8]) -> String {
        let claims = Claims {
            t: self.tenant.to_string(),
            k: self.key.to_string(),
            e: self.types.to_vec(),
            x: self.expires.as_i64(),
        };
        let claims = URL_SAFE_NO_PAD.encode(serde_json::to_vec(&claims).unwrap_or_default());
        let signature = mac(secret, &claims).map(|mac| mac.finalize().into_bytes());
        format!("{PREFIX}{claims}.{}", URL_SAFE_NO_PAD.encode(signature.unwrap_or_default()))
    }

    /// Fails if the text or the signature is invalid, or if the token has expired at `now`.
    pub fn verify(text: &str, secret: &[u8], now: UnixMillis) -> Result<Self, InvalidToken> {
        let parts = text.strip_prefix(PREFIX).and_then(|rest| rest.split_once('.'));
        let (claims, signature) = parts.ok_or(InvalidToken::Unknown)?;
        let signature =
            URL_SAFE_NO_PAD.decode(signature).map_err(|_not_base64| InvalidToken::Unknown)?;
        mac(secret, claims)
            .is_some_and(|mac| mac.verify_slice(&signature).is_ok())
            .then_some(())
            .ok_or(InvalidToken::Unknown)?;
        let token = Self::parse(claims).ok_or(InvalidToken::Unknown)?;
        if token.expires <= now { Err(InvalidToken::Expired) } else { Ok(token) }
    }

    /// Decodes the claims, without a check of the signature. `None`: the claims are invalid.
    fn parse(claims: &str) -> Option<Self> {
        let claims: Claims = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).ok()?).ok()?;
        Some(Self {
            tenant: claims.t.into(),
            key: claims.k.into(),
            types: claims.e.into(),
            expires: UnixMillis::from_i64(claims.x),
        })
    }
}

/// HMAC-SHA256 of the encoded claims. Always `Some`: HMAC accepts a secret of any length.
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

    fn verify(text: &str, now: i64) -> Result<StreamToken, InvalidToken> {
        StreamToken::verify(text, SECRET, UnixMillis::from_i64(now))
    }

    #[test]
    fn a_token_is_valid_until_it_expires() {
        let text = token().sign(SECRET);
        assert_eq!(verify(&text, 999), Ok(token()));
        assert_eq!(verify(&text, 1_000), Err(InvalidToken::Expired));
    }

    #[test]
    fn a_token_of_another_hub_is_invalid() {
        assert_eq!(verify(&token().sign(b"another"), 0), Err(InvalidToken::Unknown));
    }

    proptest! {
        #[test]
        fn a_modified_token_is_invalid(at in 0usize..200, byte in 0x21u8..0x7f) {
            let mut text = token().sign(SECRET).into_bytes();
            let at = at % text.len();
            prop_assume!(text[at] != byte);
            text[at] = byte;
            prop_assert_eq!(verify(std::str::from_utf8(&text).unwrap(), 0), Err(InvalidToken::Unknown));
        }

        #[test]
        fn any_other_text_is_invalid(text in ".{0,60}") {
            prop_assert_eq!(verify(&format!("hhst_{text}"), 0), Err(InvalidToken::Unknown));
        }
    }
}
