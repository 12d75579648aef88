//! Attempts, retries and cursors: the flush statement, and the statements that read them back.

use serde_json::{Value, json};

use super::{Store, StoreError};
use crate::domain::delivery::attempt::Attempt;
use crate::domain::delivery::flush::Flush;
use crate::domain::delivery::outcome::ErrorClass;
use crate::domain::delivery::replay::ReplayProgress;
use crate::domain::delivery::retry::Retry;
use crate::domain::delivery::shard::shard_of;
use crate::domain::delivery::state::DeliveryState;
use crate::domain::id::{AttemptId, ReplayId, SubscriptionId};
use crate::domain::position::Position;
use crate::domain::time::UnixMillis;

/// A stored attempt.
#[derive(Debug, Clone)]
pub struct RecordedAttempt {
    pub attempt: Attempt,
    /// When the retry of its delivery is due; `None`: the delivery has no retry, or it was not selected.
    pub next_attempt: Option<UnixMillis>,
}

/// A delivery that ended or waits for a retry, and whose attempts have expired.
#[derive(Debug)]
pub struct UnrecordedDelivery {
    pub subscription: SubscriptionId,
    pub position: Position,
    /// When its retry is due; `None`: the delivery has ended.
    pub next_attempt: Option<UnixMillis>,
}

#[derive(Debug, Clone, Copy, Default)]
pub struct AttemptFilter {
    pub event: Option<Position>,
    /// The first digit of the HTTP status, 1 to 5; 0 for attempts without a response.
    pub status_class: Option<i16>,
    /// The last attempt of the previous page: its event's position, its number and its subscription.
    pub after: Option<(Position, u16, SubscriptionId)>,
}

struct AttemptRow {
    id: i64,
    subscription: i64,
    position: i64,
    number: i16,
    latency_ms: i32,
    status: Option<i16>,
    error: Option<String>,
    response: Option<String>,
    due_at: Option<i64>,
}

impl From<AttemptRow> for RecordedAttempt {
    fn from(row: AttemptRow) -> Self {
        Self {
            attempt: Attempt {
                id: AttemptId::from_stored(row.id),
                subscription: SubscriptionId::from_stored(row.subscription),
                position: Position::from_stored(row.position),
                number: row.number.unsigned_abs(),
                latency_ms: row.latency_ms.unsigned_abs(),
                status: row.status.map(i16::unsigned_abs),
                error: row.error.and_then(|name| name.parse().ok()),
                response: row.response,
            },
            next_attempt: row.due_at.map(UnixMillis::from_i64),
        }
    }
}

/// Converts a number to Postgres' `smallint`; a larger one becomes the maximum.
fn to_smallint(number: u16) -> i16 {
    i16::try_from(number).unwrap_or(i16::MAX)
}

/// Returns the number of a subscription's shard as a value for a `shard` column.
fn shard_column(id: SubscriptionId) -> i16 {
    to_smallint(shard_of(id))
}

/// The attempts of a flush as one array per column.
#[derive(Default)]
struct Columns<'a> {
    attempt_shards: Vec<i16>,
    subscriptions: Vec<i64>,
    positions: Vec<i64>,
    ids: Vec<i64>,
    latencies: Vec<i32>,
    numbers: Vec<i16>,
    statuses: Vec<Option<i16>>,
    errors: Vec<Option<&'static str>>,
    responses: Vec<Option<&'a str>>,
}

impl<'a> Columns<'a> {
    fn from_attempts(attempts: &'a [Attempt]) -> Self {
        let mut columns = Self::default();
        for attempt in attempts {
            columns.attempt_shards.push(shard_column(attempt.subscription));
            columns.subscriptions.push(attempt.subscription.stored());
            columns.positions.push(attempt.position.stored());
            columns.ids.push(attempt.id.stored());
            columns.latencies.push(i32::try_from(attempt.latency_ms).unwrap_or(i32::MAX));
            columns.numbers.push(to_smallint(attempt.number));
            columns.statuses.push(attempt.status.map(to_smallint));
            columns.errors.push(attempt.error.map(ErrorClass::name));
            columns.responses.push(attempt.response.as_deref());
        }
        columns
    }
}

/// The JSON parameter of `flush.sql`. Replays are rare, and one parameter costs less than ten empty arrays.
fn replays_as_json(replays: &[(ReplayId, SubscriptionId, ReplayProgress)]) -> String {
    let row = |(id, subscription, progress): &(ReplayId, SubscriptionId, ReplayProgress)| {
        json!({
            "shard": shard_of(*subscription), "id": id.stored(), "subscription": subscription.stored(),
            "after": progress.after.stored(), "until": progress.until.stored(), "only": progress.only.name(),
            "count": progress.count, "position": progress.position.stored(), "replayed": progress.replayed,
            "status": progress.state.name(),
        })
    };
    Value::Array(replays.iter().map(row).collect()).to_string()
}

impl Store {
    /// Writes a flush in one commit. Returns the shards whose term is still current; nothing is written for the others.
    /// After a failure, call [`Flush::prepare_resend`] before a repeat.
    pub async fn flush(&self, flush: &Flush) -> Result<Vec<u16>, StoreError> {
        let shards: Vec<i16> = flush.shards.iter().map(|(shard, ..)| to_smallint(*shard)).collect();
        let terms: Vec<i64> = flush.shards.iter().map(|(_, term, _)| *term).collect();
        let shard_cursors: Vec<i64> =
            flush.shards.iter().map(|(_, _, cursor)| cursor.stored()).collect();
        let attempts = Columns::from_attempts(&flush.attempts);
        let retry = |(id, position, retry): &(SubscriptionId, Position, Option<Retry>)| {
            (shard_column(*id), id.stored(), position.stored(), *retry)
        };
        let retries: Vec<_> = flush.retries.iter().map(retry).collect();
        let retry_column = |of: fn(&Retry) -> Option<i64>| -> Vec<Option<i64>> {
            retries.iter().map(|(_, _, _, retry)| retry.as_ref().and_then(of)).collect()
        };
        let replays = (!flush.replays.is_empty()).then(|| replays_as_json(&flush.replays));
        let rows = self.fetch_scalars(sqlx::query_file_scalar!(
            "src/store/flush.sql",
            &shards,
            &terms,
            &shard_cursors,
            &attempts.attempt_shards,
            &attempts.subscriptions,
            &attempts.positions,
            &attempts.ids,
            &attempts.latencies,
            &attempts.numbers,
            &attempts.statuses as _,
            &attempts.errors as _,
            &attempts.responses as _,
            &retries.iter().map(|(shard, ..)| *shard).collect::<Vec<_>>(),
            &retries.iter().map(|(_, id, ..)| *id).collect::<Vec<_>>(),
            &retries.iter().map(|(_, _, position, _)| *position).collect::<Vec<_>>(),
            &retry_column(|retry| Some(retry.attempts.into())) as _,
            &retry_column(|retry| Some(retry.due.as_i64())) as _,
            &retry_column(|retry| Some(retry.first_attempt.as_i64())) as _,
            &retry_column(|retry| retry.order_key) as _,
            &flush.cursors.iter().map(|(id, _)| shard_column(*id)).collect::<Vec<_>>(),
            &flush.cursors.iter().map(|(id, _)| id.stored()).collect::<Vec<_>>(),
            &flush.cursors.iter().map(|(_, at)| at.map(Position::stored)).collect::<Vec<_>>() as _,
            replays,
            flush.sent_before,
        ));
        Ok(rows.await?.into_iter().map(i16::unsigned_abs).collect())
    }

    /// Selects the state from which the owner of these subscriptions' shards resumes delivery: their cursors, retries,
    /// attempted events above the cursor, and running replays.
    pub async fn select_delivery_state(
        &self,
        subscriptions: &[i64],
    ) -> Result<DeliveryState, StoreError> {
        let cursors = self.fetch_all(sqlx::query!(
            "SELECT subscription, position FROM subscription_cursors WHERE subscription = ANY($1)",
            subscriptions,
        ));
        let retries = self.fetch_all(sqlx::query!(
            "SELECT subscription, position, attempts, due_at, first_attempt, order_key FROM retries
             WHERE subscription = ANY($1)",
            subscriptions,
        ));
        let attempted = self.fetch_all(sqlx::query!(
            "SELECT DISTINCT a.subscription, a.position
             FROM subscriptions s
             JOIN shards h ON h.shard = s.shard
             LEFT JOIN subscription_cursors c ON c.subscription = s.id
             JOIN attempts a ON a.subscription = s.id AND a.position > coalesce(c.position, h.cursor)
             WHERE s.id = ANY($1)",
            subscriptions,
        ));
        let pair =
            |id, position| (SubscriptionId::from_stored(id), Position::from_stored(position));
        let cursors = cursors.await?.into_iter().map(|row| pair(row.subscription, row.position));
        let retries = retries.await?.into_iter().map(|row| {
            let (id, position) = pair(row.subscription, row.position);
            let retry = Retry {
                attempts: row.attempts.unsigned_abs(),
                due: UnixMillis::from_i64(row.due_at),
                first_attempt: UnixMillis::from_i64(row.first_attempt),
                order_key: row.order_key,
            };
            (id, position, retry)
        });
        let attempted =
            attempted.await?.into_iter().map(|row| pair(row.subscription, row.position));
        Ok(DeliveryState {
            cursors: cursors.collect(),
            retries: retries.collect(),
            attempted: attempted.collect(),
            replays: self.select_running_replays(subscriptions).await?,
        })
    }

    /// Selects all recorded attempts to deliver the events at `positions` to `subscriptions`, ordered by subscription,
    /// position and number, each with the due time of its retry.
    pub async fn select_attempts_of(
        &self,
        subscriptions: &[i64],
        positions: &[i64],
    ) -> Result<Vec<RecordedAttempt>, StoreError> {
        self.fetch_all(sqlx::query_as!(
            AttemptRow,
            r#"SELECT a.id, a.subscription, a.position, a.number, a.latency_ms, a.status, a.error, a.response,
                      r.due_at AS "due_at?"
               FROM attempts a
               LEFT JOIN retries r ON r.subscription = a.subscription AND r.position = a.position
               WHERE a.subscription = ANY($1) AND a.position = ANY($2)
               ORDER BY a.subscription, a.position, a.number"#,
            subscriptions,
            positions,
        ))
        .await
        .map(|rows| rows.into_iter().map(RecordedAttempt::from).collect())
    }

    /// Selects the (subscription, event) pairs whose attempts have expired and that have a retry, or whose event is at
    /// or below the cursor. Ignores event types: the caller knows which pairs are deliveries.
    pub async fn select_unrecorded(
        &self,
        subscriptions: &[i64],
        positions: &[i64],
    ) -> Result<Vec<UnrecordedDelivery>, StoreError> {
        let rows = self.fetch_all(sqlx::query!(
            r#"SELECT s.id AS "id!", e.position AS "position!", r.due_at AS "due_at?"
               FROM subscriptions s
               JOIN shards h ON h.shard = s.shard
               CROSS JOIN unnest($2::bigint[]) e(position)
               LEFT JOIN subscription_cursors c ON c.subscription = s.id
               LEFT JOIN pull_cursors p ON p.subscription = s.id
               LEFT JOIN retries r ON r.subscription = s.id AND r.position = e.position
               WHERE s.id = ANY($1) AND e.position <= (SELECT attempts FROM horizons)
                 AND (e.position <= coalesce(p.position, c.position, h.cursor) OR r.due_at IS NOT NULL)"#,
            subscriptions,
            positions,
        ));
        let unrecorded = rows.await?.into_iter().map(|row| UnrecordedDelivery {
            subscription: SubscriptionId::from_stored(row.id),
            position: Position::from_stored(row.position),
            next_attempt: row.due_at.map(UnixMillis::from_i64),
        });
        Ok(unrecorded.collect())
    }

    /// Selects attempts that match `filter`, newest event first, then highest number first. `subscription`: `None`
    /// selects all of the tenant. Does not select `next_attempt`.
    pub async fn select_attempts(
        &self,
        tenant: &str,
        subscription: Option<SubscriptionId>,
        filter: AttemptFilter,
        limit: i64,
    ) -> Result<Vec<RecordedAttempt>, StoreError> {
        let (position, number, after) =
            filter.after.unwrap_or((Position::END, 0, SubscriptionId::from_stored(0)));
        self.fetch_all(sqlx::query_as!(
            AttemptRow,
            r#"SELECT a.id, a.subscription, a.position, a.number, a.latency_ms, a.status, a.error, a.response,
                      NULL::bigint AS due_at
               FROM subscriptions s
               CROSS JOIN LATERAL (
                   SELECT * FROM attempts a
                   WHERE a.subscription = s.id AND a.position <= $3 AND (a.position = $4 OR $4 IS NULL)
                     AND (a.position, a.number, a.subscription) < ($3, $5::smallint, $6::bigint)
                     AND ($7::smallint IS NULL OR coalesce(a.status / 100, 0) = $7)
                   ORDER BY a.position DESC, a.number DESC LIMIT $8
               ) a
               WHERE s.tenant = $1 AND (s.id = $2 OR $2 IS NULL)
               ORDER BY a.position DESC, a.number DESC, a.subscription DESC LIMIT $8"#,
            tenant,
            subscription.map(SubscriptionId::stored),
            position.stored(),
            filter.event.map(Position::stored),
            to_smallint(number),
            after.stored(),
            filter.status_class,
            limit,
        ))
        .await
        .map(|rows| rows.into_iter().map(RecordedAttempt::from).collect())
    }

    /// Deletes the expirations of deleted subscriptions, and the retries and cursors that a flush wrote after their
    /// deletion. Returns the number of rows.
    pub async fn delete_state_of_deleted(&self) -> Result<u64, StoreError> {
        let retries = self.count_affected(sqlx::query!(
            "DELETE FROM retries r USING subscriptions s WHERE s.id = r.subscription AND s.deleted"
        ));
        let cursors = self.count_affected(sqlx::query!(
            "DELETE FROM subscription_cursors c USING subscriptions s WHERE s.id = c.subscription AND s.deleted"
        ));
        let expirations = self.count_affected(sqlx::query!(
            "DELETE FROM expirations x USING subscriptions s WHERE s.id = x.subscription AND s.deleted"
        ));
        Ok(retries.await? + cursors.await? + expirations.await?)
    }
}
