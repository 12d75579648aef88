//! Re-encryption: replacing stored values after the master key changed, or after a signing secret expired.

use sqlx::postgres::PgConnection;

use super::encryption::{read_definition, write_definition};
use super::{Store, StoreError, connect, within};
use crate::domain::encryption::AssociatedData;
use crate::domain::id::SubscriptionId;
use crate::domain::time::UnixMillis;

/// The lock for re-encryption: one node holds it at a time, until the value is dropped.
#[derive(Debug)]
pub struct ReencryptionLock {
    /// The advisory lock ends with its connection.
    _connection: PgConnection,
}

/// A stored value, encrypted or still in plain text, and its row.
pub struct StoredSecret {
    kind: String,
    tenant: String,
    key: String,
    stored: Vec<u8>,
}

impl StoredSecret {
    /// Names the row of the value. Fails if its kind is unknown.
    fn associated_data(&self) -> Result<AssociatedData<'_>, StoreError> {
        let unknown =
            || StoreError::Unreadable(format!("an encrypted value of kind {}", self.kind));
        match self.kind.as_str() {
            "definition" => {
                let id = self.key.parse().map_err(|_not_a_number| unknown())?;
                Ok(AssociatedData::Definition { tenant: &self.tenant, id })
            }
            "answer" => Ok(AssociatedData::Answer { tenant: &self.tenant, key: &self.key }),
            "shared_secret" => Ok(AssociatedData::SharedSecret { name: &self.key }),
            _ => Err(unknown()),
        }
    }
}

/// The result of re-encrypting a batch.
#[derive(Debug)]
pub struct Reencrypted {
    /// How many values are re-encrypted. The others were changed meanwhile, or are unreadable.
    pub reencrypted: i64,
    /// How many values could not be decrypted.
    pub unreadable: i64,
    /// The error of the last unreadable value.
    pub error: Option<String>,
}

impl Store {
    /// Counts the stored values that are in plain text or encrypted with another master key than this node's current
    /// one.
    pub async fn count_encrypted_with_old_key(&self) -> Result<i64, StoreError> {
        // Two ranges instead of <>, so that the indexes are used.
        self.fetch_scalar(sqlx::query_scalar!(
            r#"SELECT count(*) AS "count!" FROM sealed WHERE sealed_with < $1 OR sealed_with > $1"#,
            self.encryptor.current().to_string(),
        ))
        .await
    }

    /// Selects up to `limit` of the values that [`Self::count_encrypted_with_old_key`] counts, without the first
    /// `skip`.
    pub async fn select_encrypted_with_old_key(
        &self,
        skip: i64,
        limit: i64,
    ) -> Result<Vec<StoredSecret>, StoreError> {
        self.fetch_all(sqlx::query_as!(
            StoredSecret,
            r#"SELECT kind AS "kind!", tenant AS "tenant!", key AS "key!", stored AS "stored!"
               FROM sealed WHERE sealed_with < $1 OR sealed_with > $1 OFFSET $2 LIMIT $3"#,
            self.encryptor.current().to_string(),
            skip,
            limit,
        ))
        .await
    }

    /// Tries to acquire the re-encryption lock, on its own connection. `None` while another node holds it, or if the
    /// database's master key is not this node's current one.
    pub async fn try_lock_reencryption(&self) -> Result<Option<ReencryptionLock>, StoreError> {
        let mut connection = connect(&self.options).await?;
        let locked = within(
            sqlx::query_scalar!(
                r#"SELECT (SELECT id FROM master_keys ORDER BY since DESC LIMIT 1) = $1
                      AND pg_try_advisory_lock(7308324465820956) AS "locked!""#,
                self.encryptor.current().to_string(),
            )
            .fetch_one(&mut connection),
        );
        Ok(locked.await?.then_some(ReencryptionLock { _connection: connection }))
    }

    /// Encrypts values with this node's current master key and stores the results in one commit. A value that was
    /// changed since it was read is left as it is.
    pub async fn reencrypt(&self, values: &[StoredSecret]) -> Result<Reencrypted, StoreError> {
        let (mut replacements, mut unreadable, mut last_error) = (Vec::new(), 0, None);
        for value in values {
            match self.reencrypt_value(value) {
                Ok(text) => replacements.push((value, text)),
                Err(error) => {
                    unreadable += 1;
                    last_error = Some(error.to_string());
                }
            }
        }
        let reencrypted = self.update_encrypted(&replacements).await?;
        Ok(Reencrypted { reencrypted, unreadable, error: last_error })
    }

    /// Encrypts a value with the current master key, after decryption if it is not plain text.
    fn reencrypt_value(&self, value: &StoredSecret) -> Result<String, StoreError> {
        let row = value.associated_data()?;
        self.encrypt(&self.decrypt(&value.stored, row)?, row)
    }

    /// Replaces each stored value by its new encrypted text, in one commit. Skips a value that another statement
    /// changed since it was read. Returns the number of replaced values.
    async fn update_encrypted(
        &self,
        replacements: &[(&StoredSecret, String)],
    ) -> Result<i64, StoreError> {
        let kinds: Vec<&str> = replacements.iter().map(|(old, _)| old.kind.as_str()).collect();
        let tenants: Vec<&str> = replacements.iter().map(|(old, _)| old.tenant.as_str()).collect();
        let keys: Vec<&str> = replacements.iter().map(|(old, _)| old.key.as_str()).collect();
        let stored: Vec<&[u8]> =
            replacements.iter().map(|(old, _)| old.stored.as_slice()).collect();
        let texts: Vec<&str> = replacements.iter().map(|(_, text)| text.as_str()).collect();
        self.fetch_scalar(sqlx::query_scalar!(
            r#"WITH replacements AS (
                   SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bytea[], $5::text[])
                                 r(kind, tenant, key, stored, text)
               ), definitions AS (
                   UPDATE subscriptions s SET definition = r.text FROM replacements r
                   WHERE r.kind = 'definition' AND s.id = CASE r.kind WHEN 'definition' THEN r.key::bigint END
                     AND s.definition = convert_from(r.stored, 'UTF8')
                   RETURNING 1
               ), answers AS (
                   UPDATE idempotency_keys k SET answer = convert_to(r.text, 'UTF8') FROM replacements r
                   WHERE r.kind = 'answer' AND k.tenant = r.tenant AND k.key = r.key AND k.answer = r.stored
                   RETURNING 1
               ), shared AS (
                   UPDATE shared_secrets v SET value = convert_to(r.text, 'UTF8') FROM replacements r
                   WHERE r.kind = 'shared_secret' AND v.name = r.key AND v.value = r.stored
                   RETURNING 1
               )
               SELECT (SELECT count(*) FROM definitions) + (SELECT count(*) FROM answers)
                    + (SELECT count(*) FROM shared) AS "replaced!""#,
            &kinds as _,
            &tenants as _,
            &keys as _,
            &stored as _,
            &texts as _,
        ))
        .await
    }

    /// Selects up to `limit` subscriptions with a signing secret that expired by `now`, and their definitions; `None`
    /// if deleted.
    pub async fn select_expired_secrets(
        &self,
        now: UnixMillis,
        limit: i64,
    ) -> Result<Vec<(SubscriptionId, Option<StoredSecret>)>, StoreError> {
        let rows = self.fetch_all(sqlx::query!(
            r#"SELECT e.subscription AS "subscription!", s.tenant AS "tenant?",
                      convert_to(s.definition, 'UTF8') AS stored
               FROM (SELECT DISTINCT subscription FROM secret_ends WHERE ends_at <= $1 LIMIT $2) e
               LEFT JOIN subscriptions s ON s.id = e.subscription AND s.sealed_with IS NOT NULL"#,
            now.as_i64(),
            limit,
        ));
        let rows = rows.await?.into_iter().map(|row| {
            let (kind, key) = ("definition".to_owned(), row.subscription.to_string());
            let definition = row.tenant.zip(row.stored);
            let value =
                definition.map(|(tenant, stored)| StoredSecret { kind, tenant, key, stored });
            (SubscriptionId::from_stored(row.subscription), value)
        });
        Ok(rows.collect())
    }

    /// Removes the signing secrets that expired by `now` from the definition `value` and stores it. Returns false,
    /// without effect, if the definition was changed since it was read.
    pub async fn remove_expired_secrets(
        &self,
        value: &StoredSecret,
        now: UnixMillis,
    ) -> Result<bool, StoreError> {
        let row = value.associated_data()?;
        let definition = read_definition(&self.decrypt(&value.stored, row)?, now)?;
        let text = self.encrypt(&write_definition(&definition)?, row)?;
        Ok(self.update_encrypted(&[(value, text)]).await? > 0)
    }

    /// Deletes the stored end times up to `now`, after the secrets themselves are removed.
    pub async fn delete_secret_ends(
        &self,
        id: SubscriptionId,
        now: UnixMillis,
    ) -> Result<(), StoreError> {
        self.execute(sqlx::query!(
            "DELETE FROM secret_ends WHERE ends_at <= $1 AND subscription = $2",
            now.as_i64(),
            id.stored(),
        ))
        .await
    }
}
