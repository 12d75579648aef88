//! Encryption of stored secrets, and the master keys of the database.

use super::{Store, StoreError};
use crate::domain::encryption::AssociatedData;
use crate::domain::id::SubscriptionId;
use crate::domain::subscription::Definition;
use crate::domain::time::UnixMillis;

impl Store {
    /// Encrypts `plain` with this node's current master key and binds it to the row that `row` names: in another row,
    /// decryption fails. The error means that `plain` is too large.
    pub(super) fn encrypt(
        &self,
        plain: &[u8],
        row: AssociatedData<'_>,
    ) -> Result<String, StoreError> {
        self.encryptor
            .encrypt(plain, row, rand::random())
            .ok_or_else(|| StoreError::Unreadable("too large to encrypt".into()))
    }

    /// Decrypts the value stored in the row that `row` names. Fails with [`StoreError::Unreadable`] if the value is
    /// damaged, is of another row, or needs a master key that this node lacks.
    pub(super) fn decrypt(
        &self,
        stored: &[u8],
        row: AssociatedData<'_>,
    ) -> Result<Vec<u8>, StoreError> {
        self.encryptor.decrypt(stored, row).map_err(|error| {
            let what = match row {
                AssociatedData::Definition { id, .. } => {
                    format!("subscription {}", SubscriptionId::from_stored(id))
                }
                AssociatedData::SharedSecret { name } => format!("the shared secret {name}"),
                AssociatedData::Answer { .. } => "a stored response".to_owned(),
            };
            StoreError::Unreadable(format!("{what}: {error}"))
        })
    }

    /// Makes this node's current master key the database's. If this node lacks keys that stored values need, or that
    /// are still in the table of master keys, changes nothing and returns the ids of those keys.
    pub async fn insert_master_key(&self) -> Result<Vec<String>, StoreError> {
        let held: Vec<String> = self.encryptor.ids().iter().map(ToString::to_string).collect();
        self.fetch_scalars(sqlx::query_scalar!(
            r#"SELECT missing AS "missing!" FROM take_master_keys($1)"#,
            &held
        ))
        .await
    }

    /// Deletes the rows of master keys with which no stored value is encrypted, except this node's current key.
    pub async fn delete_old_master_keys(&self) -> Result<(), StoreError> {
        self.execute(sqlx::query!(
            "DELETE FROM master_keys m
             WHERE m.id <> $1 AND NOT EXISTS (SELECT FROM sealed s WHERE s.sealed_with = m.id)",
            self.encryptor.current().to_string(),
        ))
        .await
    }
}

/// Parses the decrypted JSON of a subscription's definition, without the signing secrets that have expired at `now`.
pub(super) fn read_definition(plain: &[u8], now: UnixMillis) -> Result<Definition, StoreError> {
    let read: Result<Definition, _> = serde_json::from_slice(plain);
    // Only the column: the error's own text would quote secrets.
    let mut definition = read.map_err(|error| {
        let column = error.column();
        StoreError::Unreadable(format!("a definition is invalid at column {column}"))
    })?;
    definition.drop_expired_keys(now);
    Ok(definition)
}

pub(super) fn write_definition(definition: &Definition) -> Result<Vec<u8>, StoreError> {
    serde_json::to_vec(definition).map_err(|error| StoreError::Unreadable(error.to_string()))
}
