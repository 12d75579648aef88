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
    /// Writes only the name of the type, so that no log contains the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AdminKey")
    }
}

impl AdminKey {
    /// Creates the admin key from the text in the configuration of the hub. Keeps only a hash of the text.
    pub(crate) fn new(text: &str) -> Self {
        Self { hash: hash(text), key: Arc::new(Key::configured(DEFAULT_TENANT)) }
    }

    /// Finds the admin key, or one of the stored `keys`. It may be revoked or expired: the caller checks that with
    /// [`Key::require_valid`].
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

/// The SHA-256 that the database stores. Keys are long and random, so a fast hash is safe.
pub(crate) fn hash(key: &str) -> Hash {
    Sha256::digest(key.as_bytes()).into()
}
