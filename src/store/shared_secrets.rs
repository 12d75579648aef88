//! Secrets that all nodes share, encrypted.

use super::{Store, StoreError};
use crate::domain::encryption::AssociatedData;

impl Store {
    /// Returns the secret `name`, which all nodes share. If it is not stored, first stores `fresh`, encrypted.
    pub async fn select_or_insert_shared_secret(
        &self,
        name: &str,
        fresh: &[u8],
    ) -> Result<Vec<u8>, StoreError> {
        let data = AssociatedData::SharedSecret { name };
        let encrypted = self.encrypt(fresh, data)?;
        self.count_affected(sqlx::query!(
            "INSERT INTO shared_secrets (name, value) VALUES ($1, $2) ON CONFLICT DO NOTHING",
            name,
            encrypted.as_bytes(),
        ))
        .await?;
        let select = sqlx::query_scalar!("SELECT value FROM shared_secrets WHERE name = $1", name);
        self.decrypt(&self.fetch_scalar(select).await?, data)
    }
}
