//! What is sealed in the database: sealing it and opening it, and sealing it anew when the master key changes.

use sqlx::postgres::PgConnection;

use super::{Store, StoreError, connect, within};
use crate::domain::encryption::AssociatedData;
use crate::domain::id::SubscriptionId;
use crate::domain::subscription::Definition;
use crate::domain::time::UnixMillis;

/// The right to seal anew: one node has it at a time, until this is dropped.
#[derive(Debug)]
pub struct ResealingTurn {
    /// Held for its lock, which ends with it.
    _connection: PgConnection,
}

/// Something sealed, or still to be, and the row it is in.
pub struct Sealed {
    kind: String,
    tenant: String,
    key: String,
    stored: Vec<u8>,
}

impl Sealed {
    fn place(&self) -> Result<AssociatedData<'_>, StoreError> {
        let unknown = || StoreError::Unreadable(format!("what is sealed as {}", self.kind));
        match self.kind.as_str() {
            "definition" => {
                let id = self.key.parse().map_err(|_no_number| unknown())?;
                Ok(AssociatedData::Definition { tenant: &self.tenant, id })
            }
            "answer" => Ok(AssociatedData::Answer { tenant: &self.tenant, key: &self.key }),
            "shared_secret" => Ok(AssociatedData::SharedSecret { name: &self.key }),
            _ => Err(unknown()),
        }
    }
}

impl Store {
    /// Seals what belongs to a place.
    pub(super) fn encrypt(
        &self,
        plain: &[u8],
        place: AssociatedData<'_>,
    ) -> Result<String, StoreError> {
        self.sealer
            .encrypt(plain, place, rand::random())
            .ok_or_else(|| StoreError::Unreadable("too large to be sealed".into()))
    }

    /// Opens what is stored in a place.
    pub(super) fn decrypt(
        &self,
        stored: &[u8],
        place: AssociatedData<'_>,
    ) -> Result<Vec<u8>, StoreError> {
        self.sealer.decrypt(stored, place).map_err(|why| {
            let what = match place {
                AssociatedData::Definition { id, .. } => {
                    format!("subscription {}", SubscriptionId::from_stored(id))
                }
                AssociatedData::SharedSecret { name } => format!("the secret {name}"),
                AssociatedData::Answer { .. } => "a kept answer".to_owned(),
            };
            StoreError::Unreadable(format!("{what}: {why}"))
        })
    }

    /// Makes this node's master key the database's. When something there is sealed with keys that the node does not have,
    /// nothing is done, and those keys' ids come back.
    pub async fn insert_master_key(&self) -> Result<Vec<String>, StoreError> {
        let held: Vec<String> = self.sealer.ids().iter().map(ToString::to_string).collect();
        within(
            sqlx::query_scalar!(r#"SELECT missing AS "missing!" FROM take_master_keys($1)"#, &held)
                .fetch_all(&self.pool),
        )
        .await
    }

    /// How many things are not sealed with this node's master key.
    pub async fn count_encrypted_with_old_key(&self) -> Result<i64, StoreError> {
        // Two ranges, for which the indexes are of use.
        within(
            sqlx::query_scalar!(
                r#"SELECT count(*) AS "count!" FROM sealed WHERE sealed_with < $1 OR sealed_with > $1"#,
                self.sealer.current().to_string(),
            )
            .fetch_one(&self.pool),
        )
        .await
    }

    /// Some of those, without the first few.
    pub async fn select_encrypted_with_old_key(
        &self,
        skip: i64,
        most: i64,
    ) -> Result<Vec<Sealed>, StoreError> {
        within(
            sqlx::query_as!(
                Sealed,
                r#"SELECT kind AS "kind!", tenant AS "tenant!", key AS "key!", stored AS "stored!"
                   FROM sealed WHERE sealed_with < $1 OR sealed_with > $1 OFFSET $2 LIMIT $3"#,
                self.sealer.current().to_string(),
                skip,
                most,
            )
            .fetch_all(&self.pool),
        )
        .await
    }

    /// Takes the turn, on a connection of its own; `None` while another node has it, or when the database's master key is
    /// not the one this node seals with.
    pub async fn try_lock_reencryption(&self) -> Result<Option<ResealingTurn>, StoreError> {
        let mut connection = connect(&self.options).await?;
        let taken = within(
            sqlx::query_scalar!(
                r#"SELECT (SELECT id FROM master_keys ORDER BY since DESC LIMIT 1) = $1
                      AND pg_try_advisory_lock(7308324465820956) AS "taken!""#,
                self.sealer.current().to_string(),
            )
            .fetch_one(&mut connection),
        );
        Ok(taken.await?.then_some(ResealingTurn { _connection: connection }))
    }

    /// Seals these with this node's master key, each unless it was changed since it was read. Says how many are done with,
    /// and how many could not be opened, with the reason of one.
    pub async fn reencrypt(&self, read: &[Sealed]) -> Result<Resealed, StoreError> {
        let (mut anew, mut unreadable, mut why) = (Vec::new(), 0, None);
        for sealed in read {
            match self.decrypt_value(sealed).and_then(|plain| self.encrypt(&plain, sealed.place()?))
            {
                Ok(text) => anew.push((sealed, text)),
                Err(error) => {
                    unreadable += 1;
                    why = Some(error.to_string());
                }
            }
        }
        let resealed = self.update_encrypted(&anew).await?;
        Ok(Resealed { resealed, unreadable, why })
    }

    fn decrypt_value(&self, sealed: &Sealed) -> Result<Vec<u8>, StoreError> {
        self.decrypt(&sealed.stored, sealed.place()?)
    }

    /// Puts new texts in the places of what was read, where that is still there; says in how many.
    async fn update_encrypted(&self, anew: &[(&Sealed, String)]) -> Result<i64, StoreError> {
        let kinds: Vec<&str> = anew.iter().map(|(read, _)| read.kind.as_str()).collect();
        let tenants: Vec<&str> = anew.iter().map(|(read, _)| read.tenant.as_str()).collect();
        let keys: Vec<&str> = anew.iter().map(|(read, _)| read.key.as_str()).collect();
        let stored: Vec<&[u8]> = anew.iter().map(|(read, _)| read.stored.as_slice()).collect();
        let texts: Vec<&str> = anew.iter().map(|(_, text)| text.as_str()).collect();
        within(
            sqlx::query_scalar!(
                r#"WITH given AS (
                       SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bytea[], $5::text[])
                                     g(kind, tenant, key, stored, anew)
                   ), definitions AS (
                       UPDATE subscriptions s SET definition = g.anew FROM given g
                       WHERE g.kind = 'definition' AND s.id = CASE g.kind WHEN 'definition' THEN g.key::bigint END
                         AND s.definition = convert_from(g.stored, 'UTF8')
                       RETURNING 1
                   ), answers AS (
                       UPDATE idempotency_keys k SET answer = convert_to(g.anew, 'UTF8') FROM given g
                       WHERE g.kind = 'answer' AND k.tenant = g.tenant AND k.key = g.key AND k.answer = g.stored
                       RETURNING 1
                   ), shared AS (
                       UPDATE shared_secrets v SET value = convert_to(g.anew, 'UTF8') FROM given g
                       WHERE g.kind = 'shared_secret' AND v.name = g.key AND v.value = g.stored
                       RETURNING 1
                   )
                   SELECT (SELECT count(*) FROM definitions) + (SELECT count(*) FROM answers)
                        + (SELECT count(*) FROM shared) AS "swapped!""#,
                &kinds as _,
                &tenants as _,
                &keys as _,
                &stored as _,
                &texts as _,
            )
            .fetch_one(&self.pool),
        )
        .await
    }

    /// Forgets the master keys that nothing is sealed with any more, besides this node's.
    pub async fn delete_old_master_keys(&self) -> Result<(), StoreError> {
        within(
            sqlx::query!(
                "DELETE FROM master_keys m
                 WHERE m.id <> $1 AND NOT EXISTS (SELECT FROM sealed s WHERE s.sealed_with = m.id)",
                self.sealer.current().to_string(),
            )
            .execute(&self.pool),
        )
        .await
        .map(drop)
    }

    /// Subscriptions with an earlier signing secret whose time was over at `now`, each with its definition, unless that
    /// is gone.
    pub async fn select_ended_secrets(
        &self,
        now: UnixMillis,
        most: i64,
    ) -> Result<Vec<(SubscriptionId, Option<Sealed>)>, StoreError> {
        let rows = within(
            sqlx::query!(
                r#"SELECT e.subscription AS "subscription!", s.tenant AS "tenant?",
                          convert_to(s.definition, 'UTF8') AS stored
                   FROM (SELECT DISTINCT subscription FROM secret_ends WHERE ends_at <= $1 LIMIT $2) e
                   LEFT JOIN subscriptions s ON s.id = e.subscription AND s.sealed_with IS NOT NULL"#,
                now.as_i64(),
                most,
            )
            .fetch_all(&self.pool),
        )
        .await?;
        let rows = rows.into_iter().map(|row| {
            let (kind, key) = ("definition".to_owned(), row.subscription.to_string());
            let definition = row.tenant.zip(row.stored);
            let sealed = definition.map(|(tenant, stored)| Sealed { kind, tenant, key, stored });
            (SubscriptionId::from_stored(row.subscription), sealed)
        });
        Ok(rows.collect())
    }

    /// Drops the signing secrets from a definition whose time was over at `now`; whether it still was as it was read.
    pub async fn remove_ended_secrets(
        &self,
        read: &Sealed,
        now: UnixMillis,
    ) -> Result<bool, StoreError> {
        let place = read.place()?;
        let definition = definition(&self.decrypt(&read.stored, place)?, now)?;
        let anew = self.encrypt(&stored(&definition)?, place)?;
        Ok(self.update_encrypted(&[(read, anew)]).await? > 0)
    }

    /// Forgets that signing secrets of a subscription ended up to `now`.
    pub async fn delete_secret_ends(
        &self,
        id: SubscriptionId,
        now: UnixMillis,
    ) -> Result<(), StoreError> {
        within(
            sqlx::query!(
                "DELETE FROM secret_ends WHERE ends_at <= $1 AND subscription = $2",
                now.as_i64(),
                id.stored(),
            )
            .execute(&self.pool),
        )
        .await
        .map(drop)
    }
}

/// What came of sealing some things anew.
#[derive(Debug)]
pub struct Resealed {
    /// How many are sealed anew; the others were changed meanwhile.
    pub resealed: i64,
    /// How many could not be opened.
    pub unreadable: i64,
    /// Why one of those could not.
    pub why: Option<String>,
}

/// A definition as it was stored, without the signing secrets whose time was over at `now`.
pub(super) fn definition(plain: &[u8], now: UnixMillis) -> Result<Definition, StoreError> {
    let read: Result<Definition, _> = serde_json::from_slice(plain);
    // Not the error's own words, for they quote what they stumble over.
    let mut definition = read.map_err(|error| {
        let place = error.column();
        StoreError::Unreadable(format!("a definition is none at column {place}"))
    })?;
    definition.drop_expired_keys(now);
    Ok(definition)
}

/// A definition as it is stored, before it is sealed.
pub(super) fn stored(definition: &Definition) -> Result<Vec<u8>, StoreError> {
    serde_json::to_vec(definition).map_err(|error| StoreError::Unreadable(error.to_string()))
}
