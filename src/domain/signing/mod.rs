//! The signing of deliveries: the current keys, earlier keys that still sign, and the signature schemes.

pub mod ed25519;
pub mod scheme;
pub mod secret;

use std::fmt::Write as _;
use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use self::ed25519::{BadSigningKey, PublicKey, SigningKey};
use self::scheme::Scheme;
use self::secret::{BadSecret, Secret};
use super::time::UnixMillis;

/// How many [`Keys`] of a subscription may sign at the same time, the current ones included. Each makes the header
/// longer and every attempt more expensive.
pub const MAX_ACTIVE_KEYS: usize = 5;

/// Keys that a rotation replaces together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keys {
    /// For [`Scheme::V1`].
    pub secret: Secret,
    /// For [`Scheme::V1a`]; created when the scheme is first used, and kept from then on.
    pub signing_key: Option<SigningKey>,
}

/// Earlier keys, which sign until they expire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Earlier {
    keys: Keys,
    pub expires_at: UnixMillis,
}

/// The keys and schemes of a subscription. They contain secrets: serialise them only into the hub's own storage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "StoredSigning", try_from = "StoredSigning")]
pub struct Signing {
    keys: Keys,
    /// Newest first.
    earlier: Vec<Earlier>,
    /// The schemes in `webhook-signature`. Never empty, without duplicates.
    schemes: Vec<Scheme>,
    /// Whether requests carry `X-Hook-Signature` too.
    pub x_hook_signature: bool,
}

/// The rotation would make more than [`MAX_ACTIVE_KEYS`] active.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooManyKeys {
    /// The next time at which a key expires.
    pub until: UnixMillis,
}

impl Signing {
    /// Builds the settings of a new subscription: the scheme v1 with `secret`, no key pair, and no earlier keys.
    pub fn new(secret: Secret) -> Self {
        let keys = Keys { secret, signing_key: None };
        Self { keys, earlier: Vec::new(), schemes: vec![Scheme::V1], x_hook_signature: false }
    }

    pub fn secret(&self) -> &Secret {
        &self.keys.secret
    }

    pub fn schemes(&self) -> &[Scheme] {
        &self.schemes
    }

    /// Returns the keys that rotations replaced, newest first. Some may have expired.
    pub fn earlier(&self) -> &[Earlier] {
        &self.earlier
    }

    /// Replaces the secret and removes all earlier keys, unless `secret` is already the current one. The key pair
    /// stays.
    #[must_use]
    pub fn with_secret(self, secret: Secret) -> Self {
        if secret == self.keys.secret {
            return self;
        }
        Self { keys: Keys { secret, ..self.keys }, earlier: Vec::new(), ..self }
    }

    /// Replaces the schemes. Creates a key pair from the random bytes of `fresh` when v1a first needs one; the pair
    /// stays when v1a is removed.
    #[must_use]
    pub fn with_schemes(self, schemes: Vec<Scheme>, fresh: impl FnOnce() -> [u8; 32]) -> Self {
        let Self { mut keys, .. } = self;
        if schemes.contains(&Scheme::V1a) && keys.signing_key.is_none() {
            keys.signing_key = SigningKey::from_random(fresh());
        }
        Self { keys, schemes, ..self }
    }

    /// Replaces the secret, and the key pair, if there is one, by a pair from the random `seed`. Fails if too many keys
    /// would be active.
    ///
    /// The replaced and all earlier keys sign for at most `overlap` longer, so that receivers have time to change.
    /// Those that have `secret` as their secret are removed.
    pub fn rotated(
        self,
        secret: Secret,
        seed: [u8; 32],
        overlap: Duration,
        now: UnixMillis,
    ) -> Result<Self, TooManyKeys> {
        let signing_key = self.keys.signing_key.as_ref().and(SigningKey::from_random(seed));
        let end = now.after(overlap);
        let before = Earlier { keys: self.keys, expires_at: end };
        let mut earlier: Vec<Earlier> = std::iter::once(before)
            .chain(self.earlier)
            .map(|one| Earlier { expires_at: one.expires_at.min(end), ..one })
            .collect();
        earlier.retain(|one| one.expires_at > now && one.keys.secret != secret);
        if earlier.len() >= MAX_ACTIVE_KEYS {
            let until = earlier.iter().map(|one| one.expires_at).min().unwrap_or(end);
            return Err(TooManyKeys { until });
        }
        Ok(Self { keys: Keys { secret, signing_key }, earlier, ..self })
    }

    /// Removes the earlier keys that have expired at `now`. The current keys never expire.
    pub fn drop_expired(&mut self, now: UnixMillis) {
        self.earlier.retain(|earlier| earlier.expires_at > now);
    }

    /// The keys that sign at `now`: the current ones, then the earlier ones, newest first.
    fn active(&self, now: UnixMillis) -> impl Iterator<Item = &Keys> {
        let earlier = self.earlier.iter().filter(move |one| one.expires_at > now);
        std::iter::once(&self.keys).chain(earlier.map(|one| &one.keys))
    }

    /// The value of `webhook-signature`: one signature for each scheme and active key. `id`: the value of `webhook-id`.
    pub fn sign(&self, id: &str, body: &[u8], now: UnixMillis) -> String {
        let mut signatures = String::new();
        for scheme in &self.schemes {
            for keys in self.active(now) {
                let signature = match (scheme, &keys.signing_key) {
                    (Scheme::V1, _) => keys.secret.sign(id, now.seconds(), body),
                    (Scheme::V1a, Some(key)) => key.sign(id, now.seconds(), body),
                    (Scheme::V1a, None) => continue,
                };
                if !signatures.is_empty() {
                    signatures.push(' ');
                }
                signatures.push_str(&signature);
            }
        }
        signatures
    }

    /// The value of `X-Hook-Signature`, hex of an HMAC-SHA256 of the body (REST Hooks, "Security"); `None`: not
    /// enabled.
    ///
    /// The key is the text of `verification_secret`, or else of the current secret, with `whsec_`, because REST Hooks
    /// receivers know no other form.
    pub fn sign_x_hook(&self, verification_secret: Option<&Secret>, body: &[u8]) -> Option<String> {
        if !self.x_hook_signature {
            return None;
        }
        let text = verification_secret.unwrap_or(&self.keys.secret).reveal();
        let mut mac = Hmac::<Sha256>::new_from_slice(text.as_bytes()).ok()?;
        mac.update(body);
        let digest = mac.finalize().into_bytes();
        let mut hex = String::with_capacity(2 * digest.len());
        digest.iter().try_for_each(|byte| write!(hex, "{byte:02x}")).ok()?;
        Some(hex)
    }

    /// The public keys that verify v1a signatures at `now`, newest first. Empty without v1a.
    pub fn public_keys(&self, now: UnixMillis) -> Vec<PublicKey<'_>> {
        if !self.schemes.contains(&Scheme::V1a) {
            return Vec::new();
        }
        let keys = self.active(now).filter_map(|keys| keys.signing_key.as_ref());
        keys.map(SigningKey::public).collect()
    }
}

/// The stored form. The oldest subscriptions have only a secret.
#[derive(Serialize, Deserialize)]
struct StoredSigning {
    secret: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    signing_key: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    earlier: Vec<StoredKeys>,
    #[serde(default = "only_v1")]
    signatures: Vec<Scheme>,
    #[serde(default)]
    x_hook_signature: bool,
}

#[derive(Serialize, Deserialize)]
struct StoredKeys {
    secret: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    signing_key: Option<String>,
    expires_at: i64,
}

/// The schemes of a subscription that was stored before other schemes existed.
fn only_v1() -> Vec<Scheme> {
    vec![Scheme::V1]
}

/// The stored keys are invalid.
#[derive(Debug, thiserror::Error)]
enum BadKeys {
    #[error(transparent)]
    Secret(#[from] BadSecret),
    #[error(transparent)]
    SigningKey(#[from] BadSigningKey),
}

impl Keys {
    /// Parses the stored texts, `whsec_…` and `whsk_…`.
    fn parse(secret: &str, signing_key: Option<&str>) -> Result<Self, BadKeys> {
        let signing_key = signing_key.map(str::parse).transpose()?;
        Ok(Self { secret: secret.parse()?, signing_key })
    }

    fn reveal(&self) -> (String, Option<String>) {
        (self.secret.reveal(), self.signing_key.as_ref().map(SigningKey::reveal))
    }
}

impl From<Signing> for StoredSigning {
    fn from(signing: Signing) -> Self {
        let (secret, signing_key) = signing.keys.reveal();
        let earlier = signing.earlier.iter().map(|one| {
            let (secret, signing_key) = one.keys.reveal();
            StoredKeys { secret, signing_key, expires_at: one.expires_at.as_i64() }
        });
        Self {
            secret,
            signing_key,
            earlier: earlier.collect(),
            signatures: signing.schemes,
            x_hook_signature: signing.x_hook_signature,
        }
    }
}

impl TryFrom<StoredSigning> for Signing {
    type Error = BadKeys;

    fn try_from(stored: StoredSigning) -> Result<Self, BadKeys> {
        let earlier = stored.earlier.iter().map(|one| {
            let keys = Keys::parse(&one.secret, one.signing_key.as_deref())?;
            Ok(Earlier { keys, expires_at: UnixMillis::from_i64(one.expires_at) })
        });
        Ok(Self {
            keys: Keys::parse(&stored.secret, stored.signing_key.as_deref())?,
            earlier: earlier.collect::<Result<_, BadKeys>>()?,
            schemes: stored.signatures,
            x_hook_signature: stored.x_hook_signature,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::signing::secret::Signed;

    const NOW: UnixMillis = UnixMillis::EPOCH;
    const HOUR: Duration = Duration::from_secs(3_600);

    fn secret(byte: u8) -> Secret {
        Secret::from_random([byte; 32])
    }

    fn rotated(signing: Signing, to: u8, overlap: Duration) -> Signing {
        signing.rotated(secret(to), [to; 32], overlap, NOW).unwrap()
    }

    fn signed_by(signing: &Signing, at: UnixMillis) -> Vec<u8> {
        let (header, timestamp) = (signing.sign("evt_1", b"{}", at), at.seconds().to_string());
        let good = |byte: &u8| {
            let signed = Signed { id: "evt_1", timestamp: &timestamp, signature: &header };
            secret(*byte).verify(&signed, b"{}", at).is_ok()
        };
        (1..=9).filter(good).collect()
    }

    #[test]
    fn one_secret_makes_one_signature() {
        let signing = Signing::new(secret(1));
        assert_eq!(signing.sign("evt_1", b"{}", NOW), secret(1).sign("evt_1", 0, b"{}"));
    }

    #[test]
    fn a_rotated_key_signs_until_it_expires() {
        let signing = rotated(Signing::new(secret(1)), 2, HOUR);
        let header = signing.sign("evt_1", b"{}", NOW);
        let newest_first = [2, 1].map(|byte| secret(byte).sign("evt_1", 0, b"{}")).join(" ");
        assert_eq!(header, newest_first);
        let end = NOW.after(HOUR);
        assert_eq!(signed_by(&signing, end.before(Duration::from_millis(1))), [1, 2]);
        assert_eq!(signed_by(&signing, end), [2]);
        let mut at_the_end = signing;
        at_the_end.drop_expired(end);
        assert!(at_the_end.earlier().is_empty());
    }

    #[test]
    fn an_overlap_limits_all_earlier_keys() {
        let signing = rotated(rotated(Signing::new(secret(1)), 2, 5 * HOUR), 3, HOUR);
        assert_eq!(signed_by(&signing, NOW), [1, 2, 3]);
        assert_eq!(signed_by(&signing, NOW.after(HOUR)), [3]);
        assert_eq!(signed_by(&rotated(signing, 4, Duration::ZERO), NOW), [4], "at once");
    }

    #[test]
    fn at_most_five_keys_are_active() {
        let mut signing = Signing::new(secret(1));
        for to in 2..=5 {
            signing = rotated(signing, to, HOUR);
        }
        assert_eq!(signed_by(&signing, NOW), [1, 2, 3, 4, 5]);
        let refused = signing.clone().rotated(secret(6), [6; 32], HOUR, NOW).unwrap_err();
        assert_eq!(refused.until, NOW.after(HOUR));
        let later = signing.clone().rotated(secret(6), [6; 32], HOUR, refused.until).unwrap();
        assert_eq!(signed_by(&later, refused.until), [5, 6]);
        assert_eq!(signed_by(&rotated(signing, 6, Duration::ZERO), NOW), [6]);
    }

    #[test]
    fn setting_another_secret_ends_the_earlier_keys() {
        let signing = rotated(Signing::new(secret(1)), 2, HOUR);
        assert_eq!(signed_by(&signing.clone().with_secret(secret(2)), NOW), [1, 2]);
        assert_eq!(signed_by(&signing.with_secret(secret(3)), NOW), [3]);
    }

    #[test]
    fn a_key_pair_is_created_on_first_use_and_stays() {
        let v1 = Signing::new(secret(1));
        assert!(v1.public_keys(NOW).is_empty());
        let both = v1.with_schemes(vec![Scheme::V1, Scheme::V1a], || [7; 32]);
        let made = both.public_keys(NOW)[0].to_string();
        let header = both.sign("evt_1", b"{}", NOW);
        assert_eq!(
            header.split(' ').map(|one| one.split(',').next().unwrap()).collect::<Vec<_>>(),
            ["v1", "v1a"]
        );
        let off = both.with_schemes(vec![Scheme::V1], || [8; 32]);
        assert!(off.public_keys(NOW).is_empty() && !off.sign("evt_1", b"{}", NOW).contains("v1a"));
        let on = off.with_schemes(vec![Scheme::V1a], || [9; 32]);
        assert_eq!(on.public_keys(NOW)[0].to_string(), made);
        assert!(on.sign("evt_1", b"{}", NOW).starts_with("v1a,"));

        let rotated = rotated(on, 2, HOUR);
        let keys: Vec<String> = rotated.public_keys(NOW).iter().map(ToString::to_string).collect();
        assert_eq!((keys.len(), &keys[1]), (2, &made), "the pair is rotated along");
        assert_eq!(rotated.public_keys(NOW.after(HOUR)).len(), 1);
    }

    #[test]
    fn x_hook_signature_is_an_hmac_with_the_text_of_the_current_secret() {
        let secret: Secret = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD".parse().unwrap();
        let plain = Signing::new(secret.clone());
        assert_eq!(plain.sign_x_hook(None, b"hello"), None);
        let wanted = Signing { x_hook_signature: true, ..plain };
        // printf hello | openssl dgst -sha256 -hmac whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD
        let expected = "8cb4332de9d284e551ec1307917615c6f64804a6df7fb6b9fa6c45bb272f8221";
        assert_eq!(wanted.sign_x_hook(None, b"hello").as_deref(), Some(expected));
        let rotated = rotated(wanted, 2, HOUR);
        assert_ne!(rotated.sign_x_hook(None, b"hello").as_deref(), Some(expected));
    }

    #[test]
    fn signing_survives_storage_and_reads_the_oldest_form() {
        let signing = Signing::new(secret(1)).with_schemes(vec![Scheme::V1a], || [7; 32]);
        let signing = rotated(signing, 2, HOUR);
        let text = serde_json::to_string(&signing).unwrap();
        assert_eq!(serde_json::from_str::<Signing>(&text).unwrap(), signing);
        let before = format!(r#"{{"secret":"{}"}}"#, secret(1).reveal());
        assert_eq!(serde_json::from_str::<Signing>(&before).unwrap(), Signing::new(secret(1)));
        assert!(serde_json::from_str::<Signing>(r#"{"secret":"whsec_"}"#).is_err());
        assert!(!format!("{signing:?}").contains("AQEB"), "Debug shows no key");
    }
}
