//! Secrets that all nodes share.

use super::{Store, StoreError, within};
use crate::domain::encryption::AssociatedData;

impl Store {
    /// The secret of that name; `fresh` becomes it if there is none yet.
    pub async fn select_or_insert_shared_secret(
        &self,
        name: &str,
        fresh: &[u8],
    ) -> Result<Vec<u8>, StoreError> {
        let place = AssociatedData::SharedSecret { name };
        let sealed = self.encrypt(fresh, place)?;
        within(
            sqlx::query!(
                "INSERT INTO shared_secrets (name, value) VALUES ($1, $2) ON CONFLICT DO NOTHING",
                name,
                sealed.as_bytes(),
            )
            .execute(&self.pool),
        )
        .await?;
        let stored = within(
            sqlx::query_scalar!("SELECT value FROM shared_secrets WHERE name = $1", name)
                .fetch_one(&self.pool),
        )
        .await?;
        self.decrypt(&stored, place)
    }
}
