//! Ed25519 key pairs (RFC 8032) for the scheme `v1a` of Standard Webhooks.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use serde::Serialize;
use sha2::{Digest, Sha256};

/// The prefixes of keys as text (Standard Webhooks, "Signature scheme").
const PRIVATE_PREFIX: &str = "whsk_";
const PUBLIC_PREFIX: &str = "whpk_";

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a signing key is {PRIVATE_PREFIX} and the base64 of 32 bytes")]
pub struct BadSigningKey;

/// A key pair. `Debug` omits it.
#[derive(Clone)]
pub struct SigningKey {
    seed: [u8; 32],
    pair: Arc<Ed25519KeyPair>,
}

impl SigningKey {
    /// Creates a key pair from 32 bytes, which must be random. Always `Some`: any 32 bytes are a valid seed.
    pub fn from_random(seed: [u8; 32]) -> Option<Self> {
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed).ok()?;
        Some(Self { seed, pair: Arc::new(pair) })
    }

    /// Returns the private key as text for the database: `whsk_` and the base64 of the seed.
    pub(crate) fn reveal(&self) -> String {
        format!("{PRIVATE_PREFIX}{}", STANDARD.encode(self.seed))
    }

    /// One value for `webhook-signature` in the scheme v1a: `v1a,` and the base64 of the signature of
    /// `id.timestamp.body`. `id`: the value of `webhook-id`.
    pub fn sign(&self, id: &str, timestamp_s: i64, body: &[u8]) -> String {
        let content = [format!("{id}.{timestamp_s}.").as_bytes(), body].concat();
        format!("v1a,{}", STANDARD.encode(self.pair.sign(&content)))
    }

    pub fn public(&self) -> PublicKey<'_> {
        PublicKey(self.pair.public_key().as_ref())
    }
}

impl PartialEq for SigningKey {
    fn eq(&self, other: &Self) -> bool {
        self.seed == other.seed
    }
}

impl Eq for SigningKey {}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey(…)")
    }
}

impl FromStr for SigningKey {
    type Err = BadSigningKey;

    /// Parses the text of a private key: `whsk_` and the base64 of the 32-byte seed.
    fn from_str(text: &str) -> Result<Self, BadSigningKey> {
        let encoded = text.strip_prefix(PRIVATE_PREFIX).ok_or(BadSigningKey)?;
        let seed = STANDARD.decode(encoded).map_err(|_not_base64| BadSigningKey)?;
        seed.try_into().ok().and_then(Self::from_random).ok_or(BadSigningKey)
    }
}

/// The public key, which receivers verify with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublicKey<'a>(&'a [u8]);

impl fmt::Display for PublicKey<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PUBLIC_PREFIX}{}", STANDARD.encode(self.0))
    }
}

/// A public key as a JSON Web Key (RFC 7517; RFC 8037, section 2).
#[derive(Debug, Serialize)]
pub struct Jwk {
    kty: &'static str,
    crv: &'static str,
    x: String,
    kid: String,
    #[serde(rename = "use")]
    usage: &'static str,
    alg: &'static str,
}

impl PublicKey<'_> {
    /// Returns the public key as a JSON Web Key. Its `kid` is the SHA-256 thumbprint (RFC 7638).
    pub fn jwk(&self) -> Jwk {
        let x = URL_SAFE_NO_PAD.encode(self.0);
        // RFC 8037, appendix A.3: the required members in this order.
        let members = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#);
        let kid = URL_SAFE_NO_PAD.encode(Sha256::digest(members));
        Jwk { kty: "OKP", crv: "Ed25519", x, kid, usage: "sig", alg: "EdDSA" }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    // The vectors of the reference implementations of Standard Webhooks: Svix' server, then the library for Go.
    const KEY: &str = "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbc=";
    const VECTORS: [(&str, &str); 2] = [
        (
            KEY,
            "v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg==",
        ),
        (
            "whsk_VEVTVFNJR05JTkdLRVlET05PVFVTRVRISVNGT1JBTlk=",
            "v1a,tQ9V2XOqn7jL/DQenEFpqIugdBVtiMmER5mhSkXBNwM0mkATuDe6KYYUuxqtaiHeYGb7KaaBRdM5WqyeFiL8Ag==",
        ),
    ];

    #[test]
    fn the_reference_vectors_are_reproduced() {
        for (key, signature) in VECTORS {
            let key: SigningKey = key.parse().unwrap();
            let (id, body) = ("msg_p5jXN8AQM9LWM0D4loKWxJek", br#"{"test": 2432232314}"#);
            assert_eq!(key.sign(id, 1_614_265_330, body), signature);
        }
        let public = "whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4=";
        assert_eq!(KEY.parse::<SigningKey>().unwrap().public().to_string(), public);
    }

    #[test]
    fn a_public_key_as_jwk_matches_rfc_8037() {
        let seed = URL_SAFE_NO_PAD.decode("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A").unwrap();
        let key = SigningKey::from_random(seed.try_into().unwrap()).unwrap();
        let expected = json!({
            "kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
            "kid": "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k", "use": "sig", "alg": "EdDSA",
        });
        assert_eq!(json!(key.public().jwk()), expected);
    }

    #[test]
    fn debug_omits_the_key_and_an_invalid_one_is_rejected() {
        let key: SigningKey = KEY.parse().unwrap();
        assert!(!format!("{key:?}").contains("6Xb"));
        assert_eq!(key.reveal(), KEY);
        for bad in
            ["", "whsk_", "whsk_AAAA", "whsk_!!", "6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbc="]
        {
            assert_eq!(bad.parse::<SigningKey>(), Err(BadSigningKey), "{bad}");
        }
    }
}
