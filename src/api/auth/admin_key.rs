//! The configured admin key, which is in no database.

use std::fmt;
use std::sync::Arc;

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::access::keys::{Hash, Key, Keys};
use crate::store::StoreError;

/// The tenant of an admin request without `Hookhub-Tenant`.
const DEFAULT_TENANT: &str = "default";

/// The admin key from the configuration. It has every scope and never expires.
pub(crate) struct AdminKey {
    hash: Hash,
    pub(crate) key: Arc<Key>,
}

impl fmt::Debug for AdminKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AdminKey")
    }
}

impl AdminKey {
    /// Creates the admin key from its text in the configuration. Only its hash is kept.
    pub(crate) fn new(text: &str) -> Self {
        Self { hash: hash(text), key: Arc::new(Key::configured(DEFAULT_TENANT)) }
    }

    /// Finds the key with this text: the admin key, or one of the stored `keys`, which may be revoked or expired.
    /// `None`: no such key exists.
    pub(crate) async fn find(
        &self,
        text: &str,
        keys: &Keys,
    ) -> Result<Option<Arc<Key>>, StoreError> {
        let hash = hash(text);
        if self.hash.ct_eq(&hash).into() {
            return Ok(Some(Arc::clone(&self.key)));
        }
        keys.by_hash(&hash).await
    }
}

/// Returns the SHA-256 hash that stands for a key in the database. Keys are long and random, so a fast hash is enough.
pub(crate) fn hash(key: &str) -> Hash {
    Sha256::digest(key.as_bytes()).into()
}
