//! Sealing what nobody shall read in the database: authenticated encryption (ChaCha20-Poly1305, RFC 8439) under the
//! operator's master key.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use sha2::{Digest, Sha256};

/// How sealed texts begin: what they are, and the version of their form. `sealed_with` in the schema knows it too.
const PREFIX: &str = "sealed1.";
/// Base64 in either alphabet is read with padding or without.
const READING: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
/// What tells a key's id from other hashes of the key.
const ID_LABEL: &[u8] = b"hookhub master key id";

/// A text that gives no master keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected 32 bytes as hex or base64, e.g. from: openssl rand -hex 32; or several, comma separated, each once: the \
     one to seal with, then former ones"
)]
pub struct BadMasterKeys;

/// 32 random bytes; never shown by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct MasterKey([u8; 32]);

impl MasterKey {
    /// A key from 32 random bytes.
    pub fn from_random(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The text its owner keeps.
    pub fn reveal(&self) -> String {
        STANDARD.encode(self.0)
    }

    /// What it is called where it must not be shown.
    pub fn id(&self) -> MasterKeyId {
        let mut hash = Sha256::new();
        hash.update(ID_LABEL);
        hash.update(self.0);
        let [a, b, c, d, ..] = <[u8; 32]>::from(hash.finalize());
        MasterKeyId([a, b, c, d])
    }

    /// `None` never comes, for the key is of the right length.
    fn cipher(&self) -> Option<LessSafeKey> {
        UnboundKey::new(&CHACHA20_POLY1305, &self.0).ok().map(LessSafeKey::new)
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterKey(…)")
    }
}

impl FromStr for MasterKey {
    type Err = BadMasterKeys;

    fn from_str(text: &str) -> Result<Self, BadMasterKeys> {
        let engine = |alphabet| GeneralPurpose::new(alphabet, READING);
        let bytes = from_hex(text)
            .or_else(|| engine(&alphabet::STANDARD).decode(text).ok())
            .or_else(|| engine(&alphabet::URL_SAFE).decode(text).ok());
        bytes.and_then(|bytes| bytes.try_into().ok()).map(Self).ok_or(BadMasterKeys)
    }
}

/// 64 hex digits; nothing else is read as hex, for it may be base64.
fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u32> =
        text.chars().map(|digit| digit.to_digit(16)).collect::<Option<Vec<_>>>()?;
    let byte = |pair: &[u32]| match pair {
        [high, low] => u8::try_from(high << 4 | low).ok(),
        _ => None,
    };
    (digits.len() == 64).then(|| digits.chunks(2).map(byte).collect())?
}

/// The first four bytes of a hash of a master key, written as eight hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MasterKeyId([u8; 4]);

impl fmt::Display for MasterKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The key to seal with, and former ones, which only open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MasterKeys {
    current: MasterKey,
    former: Vec<MasterKey>,
}

impl From<MasterKey> for MasterKeys {
    fn from(current: MasterKey) -> Self {
        Self { current, former: Vec::new() }
    }
}

/// Comma separated, the current one first.
impl FromStr for MasterKeys {
    type Err = BadMasterKeys;

    fn from_str(text: &str) -> Result<Self, BadMasterKeys> {
        let mut keys = text.split(',').map(|key| key.trim().parse::<MasterKey>());
        let current = keys.next().ok_or(BadMasterKeys)??;
        let former = keys.collect::<Result<Vec<_>, _>>()?;
        let repeats = |(at, key): (usize, &MasterKey)| {
            *key == current || former.iter().take(at).any(|before| before == key)
        };
        if former.iter().enumerate().any(repeats) {
            return Err(BadMasterKeys);
        }
        Ok(Self { current, former })
    }
}

/// The row that something sealed belongs to: anywhere else it does not open.
#[derive(Debug, Clone, Copy)]
pub enum Place<'a> {
    /// The definition of a subscription.
    Definition {
        /// Whose it is.
        tenant: &'a str,
        /// The number of its id.
        id: i64,
    },
    /// A secret that all nodes share.
    SharedSecret {
        /// What it is called.
        name: &'a str,
    },
    /// The answer kept for the repeats of a request.
    Answer {
        /// Whose request it was.
        tenant: &'a str,
        /// Under which `Idempotency-Key`.
        key: &'a str,
    },
}

impl Place<'_> {
    /// Told apart by U+0000, which no name in the database holds.
    fn as_bytes(&self) -> Vec<u8> {
        match self {
            Self::Definition { tenant, id } => format!("definition\0{tenant}\0{id}"),
            Self::SharedSecret { name } => format!("shared_secret\0{name}"),
            Self::Answer { tenant, key } => format!("answer\0{tenant}\0{key}"),
        }
        .into_bytes()
    }
}

/// Why something stored cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotOpened {
    /// It is sealed with a key that is not here.
    #[error("it is sealed with another master key (id {0})")]
    OtherKey(MasterKeyId),
    /// It is not as it was sealed, or was sealed for another place.
    #[error("it was changed, or belongs to another row")]
    Damaged,
}

/// Seals and opens; `Debug` shows no key.
#[derive(Debug)]
pub struct Sealer {
    keys: MasterKeys,
}

impl Sealer {
    /// With these keys.
    pub fn new(keys: MasterKeys) -> Self {
        Self { keys }
    }

    fn keys(&self) -> impl Iterator<Item = &MasterKey> {
        std::iter::once(&self.keys.current).chain(&self.keys.former)
    }

    /// The key that seals.
    pub fn current(&self) -> MasterKeyId {
        self.keys.current.id()
    }

    /// All keys that open, the current one first.
    pub fn ids(&self) -> Vec<MasterKeyId> {
        self.keys().map(MasterKey::id).collect()
    }

    /// `plain` as a text that only a holder of the key can read, for one place. `nonce` is random, and never given
    /// twice. `None` is for more bytes than the cipher takes (256 GiB).
    pub fn seal(&self, plain: &[u8], place: Place<'_>, nonce: [u8; NONCE_LEN]) -> Option<String> {
        let mut bytes = plain.to_vec();
        let aad = Aad::from(place.as_bytes());
        let cipher = self.keys.current.cipher()?;
        let unique = Nonce::assume_unique_for_key(nonce);
        cipher.seal_in_place_append_tag(unique, aad, &mut bytes).ok()?;
        let sealed = [nonce.as_slice(), &bytes].concat();
        Some(format!("{PREFIX}{}.{}", self.current(), URL_SAFE_NO_PAD.encode(sealed)))
    }

    /// What was sealed for that place. What was stored before anything was sealed is given as it is.
    pub fn open(&self, stored: &[u8], place: Place<'_>) -> Result<Vec<u8>, NotOpened> {
        let Some(sealed) = stored.strip_prefix(PREFIX.as_bytes()) else {
            return Ok(stored.to_vec());
        };
        let sealed = std::str::from_utf8(sealed).map_err(|_not_text| NotOpened::Damaged)?;
        let (id, encoded) = sealed.split_once('.').ok_or(NotOpened::Damaged)?;
        let id = id_of(id).ok_or(NotOpened::Damaged)?;
        let key = self.keys().find(|key| key.id() == id).ok_or(NotOpened::OtherKey(id))?;
        let bytes = URL_SAFE_NO_PAD.decode(encoded).map_err(|_not_base64| NotOpened::Damaged)?;
        let (nonce, sealed) = bytes.split_first_chunk::<NONCE_LEN>().ok_or(NotOpened::Damaged)?;
        let (mut sealed, aad) = (sealed.to_vec(), Aad::from(place.as_bytes()));
        let (cipher, nonce) =
            (key.cipher().ok_or(NotOpened::Damaged)?, Nonce::assume_unique_for_key(*nonce));
        let opened = cipher.open_in_place(nonce, aad, &mut sealed);
        opened.map(|plain| plain.to_vec()).map_err(|_forged| NotOpened::Damaged)
    }
}

fn id_of(text: &str) -> Option<MasterKeyId> {
    let id = MasterKeyId(u32::from_str_radix(text, 16).ok()?.to_be_bytes());
    (id.to_string() == text).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: Place<'_> = Place::Definition { tenant: "acme", id: 7 };

    fn key(byte: u8) -> MasterKey {
        MasterKey::from_random([byte; 32])
    }

    fn sealer(text: &str) -> Sealer {
        Sealer::new(text.parse().unwrap())
    }

    #[test]
    fn what_is_sealed_is_opened_at_its_own_place_alone() {
        let sealer = sealer(&key(1).reveal());
        let text = sealer.seal(b"secret", PLACE, [9; NONCE_LEN]).unwrap();
        assert!(text.is_ascii() && !text.contains("secret"));
        assert!(text.starts_with(&format!("{PREFIX}{}.", key(1).id())));
        assert_eq!(sealer.open(text.as_bytes(), PLACE).unwrap(), b"secret");
        for other in [
            Place::Definition { tenant: "acme", id: 8 },
            Place::Definition { tenant: "other", id: 7 },
            Place::SharedSecret { name: "acme" },
            Place::Answer { tenant: "acme", key: "7" },
        ] {
            assert_eq!(sealer.open(text.as_bytes(), other), Err(NotOpened::Damaged), "{other:?}");
        }
    }

    #[test]
    fn what_was_changed_does_not_open() {
        let sealer = sealer(&key(1).reveal());
        let text = sealer.seal(b"secret", PLACE, [9; NONCE_LEN]).unwrap();
        for (at, byte) in text.bytes().enumerate().skip(PREFIX.len()) {
            let mut changed = text.clone().into_bytes();
            changed[at] = if byte == b'A' { b'B' } else { b'A' };
            assert!(sealer.open(&changed, PLACE).is_err(), "{at}");
            assert!(sealer.open(&changed[..at], PLACE).is_err(), "{at}");
        }
    }

    #[test]
    fn former_keys_open_and_only_the_current_one_seals() {
        let old = sealer(&key(1).reveal());
        let both = sealer(&format!("{}, {}", key(2).reveal(), key(1).reveal()));
        let new = sealer(&key(2).reveal());
        let by_old = old.seal(b"secret", PLACE, [1; NONCE_LEN]).unwrap();
        assert_eq!(both.open(by_old.as_bytes(), PLACE).unwrap(), b"secret");
        assert_eq!(new.open(by_old.as_bytes(), PLACE), Err(NotOpened::OtherKey(key(1).id())));
        let by_both = both.seal(b"secret", PLACE, [2; NONCE_LEN]).unwrap();
        assert_eq!(new.open(by_both.as_bytes(), PLACE).unwrap(), b"secret");
        assert_eq!(both.ids(), [key(2).id(), key(1).id()]);
    }

    #[test]
    fn what_was_stored_before_is_given_as_it_is() {
        let sealer = sealer(&key(1).reveal());
        assert_eq!(sealer.open(b"{\"a\":1}", PLACE).unwrap(), b"{\"a\":1}");
    }

    #[test]
    fn a_key_is_read_in_every_usual_writing_and_shown_in_none() {
        let expected = MasterKey::from_random([0xfb; 32]);
        for text in [
            "fb".repeat(32),
            "FB".repeat(32),
            STANDARD.encode([0xfb; 32]),
            URL_SAFE_NO_PAD.encode([0xfb; 32]),
        ] {
            assert_eq!(text.parse::<MasterKey>().unwrap(), expected, "{text}");
        }
        let keys: MasterKeys = "fb".repeat(32).parse().unwrap();
        let shown = format!("{keys:?} {:?}", Sealer::new(keys.clone()));
        assert!(!shown.contains("251") && !shown.contains("fbfb"), "{shown}");
        let (a, b) = (key(1).reveal(), key(2).reveal());
        for bad in [
            "",
            ",",
            "fb",
            "x",
            &"fb".repeat(31),
            &format!("{a},"),
            &format!("{a},{b},{a}"),
            &format!("{a},{a}"),
            &format!("{b},{a},{a}"),
        ] {
            assert!(bad.parse::<MasterKeys>().is_err(), "{bad}");
        }
    }
}
