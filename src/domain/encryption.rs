//! Encryption of secrets in the database: ChaCha20-Poly1305 (RFC 8439) under the operator's master key.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use sha2::{Digest, Sha256};

/// The prefix of encrypted texts, with the version of their format. `sealed_with` in the schema depends on it.
const PREFIX: &str = "sealed1.";
const OPTIONAL_PADDING: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
/// Separates the hash behind a key's id from other hashes of the key.
const ID_LABEL: &[u8] = b"hookhub master key id";

/// The text contains no valid master keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected 32 bytes as hex or base64, e.g. from: openssl rand -hex 32; or several, comma separated, each once: the \
     current key, then former ones"
)]
pub struct InvalidMasterKeys;

/// 32 random bytes. `Debug` omits them.
#[derive(Clone, PartialEq, Eq)]
pub struct MasterKey([u8; 32]);

impl MasterKey {
    /// Creates a key from 32 bytes, which must be random.
    pub fn from_random(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Returns the key as base64 text, which the operator stores.
    pub fn reveal(&self) -> String {
        STANDARD.encode(self.0)
    }

    pub fn id(&self) -> MasterKeyId {
        let mut hash = Sha256::new();
        hash.update(ID_LABEL);
        hash.update(self.0);
        let [a, b, c, d, ..] = <[u8; 32]>::from(hash.finalize());
        MasterKeyId([a, b, c, d])
    }

    /// Returns ChaCha20-Poly1305 with this key. Always `Some`: the key has the right length.
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
    type Err = InvalidMasterKeys;

    /// Parses the 32 bytes of a key, as 64 hex digits or as base64. Fails if the text is neither.
    fn from_str(text: &str) -> Result<Self, InvalidMasterKeys> {
        let engine = |alphabet| GeneralPurpose::new(alphabet, OPTIONAL_PADDING);
        let bytes = from_hex(text)
            .or_else(|| engine(&alphabet::STANDARD).decode(text).ok())
            .or_else(|| engine(&alphabet::URL_SAFE).decode(text).ok());
        bytes.and_then(|bytes| bytes.try_into().ok()).map(Self).ok_or(InvalidMasterKeys)
    }
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u32> =
        text.chars().map(|digit| digit.to_digit(16)).collect::<Option<Vec<_>>>()?;
    let byte = |pair: &[u32]| match pair {
        [high, low] => u8::try_from(high << 4 | low).ok(),
        _ => None,
    };
    (digits.len() == 64).then(|| digits.chunks(2).map(byte).collect())?
}

/// The first four bytes of a hash of a master key, displayed as eight hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MasterKeyId([u8; 4]);

impl fmt::Display for MasterKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The current key, which encrypts and decrypts, and former keys, which only decrypt.
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

/// Comma separated, the current key first.
impl FromStr for MasterKeys {
    type Err = InvalidMasterKeys;

    /// Fails if a key is invalid or occurs twice.
    fn from_str(text: &str) -> Result<Self, InvalidMasterKeys> {
        let mut keys = text.split(',').map(|key| key.trim().parse::<MasterKey>());
        let current = keys.next().ok_or(InvalidMasterKeys)??;
        let former = keys.collect::<Result<Vec<_>, _>>()?;
        let repeats = |(at, key): (usize, &MasterKey)| {
            *key == current || former.iter().take(at).any(|before| before == key)
        };
        if former.iter().enumerate().any(repeats) {
            return Err(InvalidMasterKeys);
        }
        Ok(Self { current, former })
    }
}

/// The row that an encrypted text belongs to (the AEAD's associated data). The text cannot be decrypted for any other
/// row.
#[derive(Debug, Clone, Copy)]
pub enum AssociatedData<'a> {
    /// The definition of a subscription.
    Definition { tenant: &'a str, id: i64 },
    /// A secret that all nodes share.
    SharedSecret { name: &'a str },
    /// The stored response to the requests with one `Idempotency-Key`.
    Answer { tenant: &'a str, key: &'a str },
}

impl AssociatedData<'_> {
    /// The parts, separated by U+0000, which no name in the database contains.
    fn as_bytes(&self) -> Vec<u8> {
        match self {
            Self::Definition { tenant, id } => format!("definition\0{tenant}\0{id}"),
            Self::SharedSecret { name } => format!("shared_secret\0{name}"),
            Self::Answer { tenant, key } => format!("answer\0{tenant}\0{key}"),
        }
        .into_bytes()
    }
}

/// Why a stored text cannot be decrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecryptError {
    /// None of the configured keys encrypted the text.
    #[error("it is encrypted with another master key (id {0})")]
    OtherKey(MasterKeyId),
    /// The text was modified, belongs to another row, or does not have the format of [`Encryptor::encrypt`].
    #[error("it was changed, or belongs to another row")]
    Damaged,
}

/// Encrypts and decrypts what the database stores. `Debug` omits the keys.
#[derive(Debug)]
pub struct Encryptor {
    keys: MasterKeys,
}

impl Encryptor {
    pub fn new(keys: MasterKeys) -> Self {
        Self { keys }
    }

    fn keys(&self) -> impl Iterator<Item = &MasterKey> {
        std::iter::once(&self.keys.current).chain(&self.keys.former)
    }

    pub fn current(&self) -> MasterKeyId {
        self.keys.current.id()
    }

    /// Returns the ids of all keys that decrypt: the current one, then the former ones.
    pub fn ids(&self) -> Vec<MasterKeyId> {
        self.keys().map(MasterKey::id).collect()
    }

    /// Uses the current key. `nonce` must be random and never used twice. `None`: `plain` is longer than 256 GiB.
    pub fn encrypt(
        &self,
        plain: &[u8],
        row: AssociatedData<'_>,
        nonce: [u8; NONCE_LEN],
    ) -> Option<String> {
        let mut bytes = plain.to_vec();
        let aad = Aad::from(row.as_bytes());
        let cipher = self.keys.current.cipher()?;
        let unique = Nonce::assume_unique_for_key(nonce);
        cipher.seal_in_place_append_tag(unique, aad, &mut bytes).ok()?;
        let encrypted = [nonce.as_slice(), &bytes].concat();
        Some(format!("{PREFIX}{}.{}", self.current(), URL_SAFE_NO_PAD.encode(encrypted)))
    }

    /// A value without the prefix was stored before encryption existed and is returned unchanged. Fails if no key has
    /// the value's key id, or if the value was changed or belongs to another row.
    pub fn decrypt(&self, stored: &[u8], row: AssociatedData<'_>) -> Result<Vec<u8>, DecryptError> {
        let Some(encrypted) = stored.strip_prefix(PREFIX.as_bytes()) else {
            return Ok(stored.to_vec());
        };
        let damaged = DecryptError::Damaged;
        let encrypted = std::str::from_utf8(encrypted).map_err(|_not_text| damaged)?;
        let (id, encoded) = encrypted.split_once('.').ok_or(damaged)?;
        let id = id_of(id).ok_or(damaged)?;
        let key = self.keys().find(|key| key.id() == id).ok_or(DecryptError::OtherKey(id))?;
        let bytes = URL_SAFE_NO_PAD.decode(encoded).map_err(|_not_base64| damaged)?;
        let (nonce, encrypted) = bytes.split_first_chunk::<NONCE_LEN>().ok_or(damaged)?;
        let (mut bytes, aad) = (encrypted.to_vec(), Aad::from(row.as_bytes()));
        let cipher = key.cipher().ok_or(damaged)?;
        let plain = cipher.open_in_place(Nonce::assume_unique_for_key(*nonce), aad, &mut bytes);
        plain.map(|plain| plain.to_vec()).map_err(|_forged| damaged)
    }
}

fn id_of(text: &str) -> Option<MasterKeyId> {
    let id = MasterKeyId(u32::from_str_radix(text, 16).ok()?.to_be_bytes());
    (id.to_string() == text).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROW: AssociatedData<'_> = AssociatedData::Definition { tenant: "acme", id: 7 };

    fn key(byte: u8) -> MasterKey {
        MasterKey::from_random([byte; 32])
    }

    fn encryptor(text: &str) -> Encryptor {
        Encryptor::new(text.parse().unwrap())
    }

    #[test]
    fn a_text_is_decrypted_only_for_its_own_row() {
        let encryptor = encryptor(&key(1).reveal());
        let text = encryptor.encrypt(b"secret", ROW, [9; NONCE_LEN]).unwrap();
        assert!(text.is_ascii() && !text.contains("secret"));
        assert!(text.starts_with(&format!("{PREFIX}{}.", key(1).id())));
        assert_eq!(encryptor.decrypt(text.as_bytes(), ROW).unwrap(), b"secret");
        for other in [
            AssociatedData::Definition { tenant: "acme", id: 8 },
            AssociatedData::Definition { tenant: "other", id: 7 },
            AssociatedData::SharedSecret { name: "acme" },
            AssociatedData::Answer { tenant: "acme", key: "7" },
        ] {
            assert_eq!(
                encryptor.decrypt(text.as_bytes(), other),
                Err(DecryptError::Damaged),
                "{other:?}"
            );
        }
    }

    #[test]
    fn a_modified_text_is_not_decrypted() {
        let encryptor = encryptor(&key(1).reveal());
        let text = encryptor.encrypt(b"secret", ROW, [9; NONCE_LEN]).unwrap();
        for (at, byte) in text.bytes().enumerate().skip(PREFIX.len()) {
            let mut changed = text.clone().into_bytes();
            changed[at] = if byte == b'A' { b'B' } else { b'A' };
            assert!(encryptor.decrypt(&changed, ROW).is_err(), "{at}");
            assert!(encryptor.decrypt(&changed[..at], ROW).is_err(), "{at}");
        }
    }

    #[test]
    fn former_keys_decrypt_and_only_the_current_key_encrypts() {
        let old = encryptor(&key(1).reveal());
        let both = encryptor(&format!("{}, {}", key(2).reveal(), key(1).reveal()));
        let new = encryptor(&key(2).reveal());
        let by_old = old.encrypt(b"secret", ROW, [1; NONCE_LEN]).unwrap();
        assert_eq!(both.decrypt(by_old.as_bytes(), ROW).unwrap(), b"secret");
        assert_eq!(new.decrypt(by_old.as_bytes(), ROW), Err(DecryptError::OtherKey(key(1).id())));
        let by_both = both.encrypt(b"secret", ROW, [2; NONCE_LEN]).unwrap();
        assert_eq!(new.decrypt(by_both.as_bytes(), ROW).unwrap(), b"secret");
        assert_eq!(both.ids(), [key(2).id(), key(1).id()]);
    }

    #[test]
    fn a_text_from_before_encryption_is_returned_unchanged() {
        let encryptor = encryptor(&key(1).reveal());
        assert_eq!(encryptor.decrypt(b"{\"a\":1}", ROW).unwrap(), b"{\"a\":1}");
    }

    #[test]
    fn a_key_is_parsed_from_hex_and_base64_and_never_displayed() {
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
        let shown = format!("{keys:?} {:?}", Encryptor::new(keys.clone()));
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
