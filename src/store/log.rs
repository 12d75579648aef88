//! The log's table behind a narrow interface: append a batch, read after, before or at positions, oldest and head.

use std::sync::Arc;

use bytes::Bytes;
use sqlx::Connection;
use sqlx::postgres::PgConnection;
use uuid::Uuid;

use super::{STATEMENT_TIMEOUT, Store, StoreError, connect};
use crate::domain::access::idempotency::RequestKey;
use crate::domain::event::event_type::EventType;
use crate::domain::event::page::{Scan, Stretch};
use crate::domain::event::{Event, NewEvent};
use crate::domain::id::SubscriptionId;
use crate::domain::position::Position;
use crate::domain::time::UnixMillis;

/// The events of one request: appended together, in order.
#[derive(Debug, Clone)]
pub struct AppendRequest {
    pub tenant: Arc<str>,
    pub key: Option<RequestKey>,
    pub events: Vec<NewEvent>,
}

/// Several requests in one commit.
#[derive(Debug)]
pub struct AppendBatch {
    /// Identifies this append: a resend after a lost connection appends nothing twice.
    pub token: Uuid,
    /// A position at or below the head before it was first sent.
    pub after: Position,
    /// Whether an earlier send may have committed it.
    pub sent_before: bool,
    /// At most a few hundred.
    pub requests: Vec<AppendRequest>,
}

/// The outcome of one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AppendOutcome {
    /// The position of the first event. The other events have the positions that directly follow.
    Appended(Position),
    /// A repeat of an earlier request; nothing was appended.
    Replayed {
        /// The position of the earlier request's first event; [`Position::START`] if it appended none.
        first: Position,
        /// The earlier request's fingerprint.
        fingerprint: Vec<u8>,
    },
}

#[derive(Debug)]
pub struct BatchOutcome {
    /// The last position drawn before this append; `None` if an earlier send had committed it, or if nothing was
    /// appended.
    pub previous: Option<Position>,
    /// One for each request, in order.
    pub requests: Vec<AppendOutcome>,
}

/// Why an append returned no positions.
#[derive(Debug, thiserror::Error)]
pub enum AppendFailure {
    /// Nothing was stored: the database cannot be reached, or aborted the append for a temporary reason, such as a full
    /// disk.
    #[error("not appended: {0}")]
    NotAppended(StoreError),
    /// The connection broke before the response, or the response did not arrive in time. Sending the same batch again
    /// finds out whether it was committed, and appends nothing twice.
    #[error("the connection broke: {0}")]
    Unknown(StoreError),
    /// Nothing was stored: today's partition is missing.
    #[error("the partition of today is missing")]
    NoPartition,
    /// The database rejected the statement and stored nothing, or its response lacks a request: a fault of the hub or
    /// its schema.
    #[error("rejected: {0}")]
    Refused(#[source] StoreError),
}

impl AppendFailure {
    /// Classifies an error. An error response means that the transaction was aborted and nothing was stored. Only a
    /// response that reports the end of the session (57P…) leaves the outcome unknown.
    fn from_error(error: sqlx::Error) -> Self {
        let code = error
            .as_database_error()
            .and_then(|refusal| refusal.code().map(|code| code.to_string()));
        match (code.as_deref(), StoreError::from(error)) {
            (Some("23514"), _) => Self::NoPartition,
            (Some(code), passing @ StoreError::Unavailable(_)) if !code.starts_with("57P") => {
                Self::NotAppended(passing)
            }
            (_, passing @ StoreError::Unavailable(_)) => Self::Unknown(passing),
            (_, refused) => Self::Refused(refused),
        }
    }
}

/// The connection through which a node appends.
#[derive(Debug)]
pub struct LogWriter {
    store: Store,
    connection: Option<PgConnection>,
}

impl LogWriter {
    /// Opens the connection unless it is open. Fails after three seconds at the latest.
    pub async fn connect(&mut self) -> Result<(), StoreError> {
        if self.connection.is_none() {
            self.connection = Some(connect(&self.store.options).await?);
        }
        Ok(())
    }

    /// Appends the events of all requests of a batch, in one statement and one commit. Opens the connection if
    /// necessary, and drops it after a failure other than [`AppendFailure::NoPartition`].
    pub async fn append(&mut self, batch: &AppendBatch) -> Result<BatchOutcome, AppendFailure> {
        self.connect().await.map_err(AppendFailure::NotAppended)?;
        let Some(connection) = self.connection.as_mut() else {
            return Err(AppendFailure::NotAppended(StoreError::Unavailable(
                "no connection".into(),
            )));
        };
        let columns = Columns::from_batch(batch);
        let sent =
            tokio::time::timeout(STATEMENT_TIMEOUT, append(connection, batch, &columns)).await;
        let failure = match sent {
            Ok(Ok(rows)) => {
                return rows.into_outcome(batch.requests.len()).map_err(AppendFailure::Refused);
            }
            Ok(Err(error)) => AppendFailure::from_error(error),
            Err(_elapsed) => {
                AppendFailure::Unknown(StoreError::Unavailable("an append timed out".into()))
            }
        };
        if !matches!(failure, AppendFailure::NoPartition) {
            self.connection = None;
        }
        Err(failure)
    }

    pub async fn close(self) {
        if let Some(connection) = self.connection
            && let Err(error) = connection.close().await
        {
            tracing::debug!(%error, "closing the append connection");
        }
    }
}

/// A batch as one array per column.
#[derive(Default)]
struct Columns<'a> {
    tenants: Vec<&'a str>,
    keys: Vec<Option<&'a str>>,
    fingerprints: Vec<Option<&'a [u8]>>,
    sizes: Vec<i32>,
    event_requests: Vec<i32>,
    types: Vec<&'a str>,
    abouts: Vec<Option<i64>>,
    times: Vec<Option<i64>>,
    data: Vec<&'a [u8]>,
}

impl<'a> Columns<'a> {
    /// Row `n` of the request columns is request `n`; row `n` of the event columns is event `n` over all requests.
    fn from_batch(batch: &'a AppendBatch) -> Self {
        let mut columns = Self::default();
        for (request, number) in batch.requests.iter().zip(1..) {
            columns.tenants.push(&request.tenant);
            columns.keys.push(request.key.as_ref().map(|key| key.key.as_str()));
            columns.fingerprints.push(request.key.as_ref().map(|key| key.fingerprint.as_slice()));
            columns.sizes.push(i32::try_from(request.events.len()).unwrap_or(i32::MAX));
            for event in &request.events {
                columns.event_requests.push(number);
                columns.types.push(event.event_type.as_str());
                columns.abouts.push(event.about.map(SubscriptionId::stored));
                columns.times.push(event.occurred_at.map(UnixMillis::as_i64));
                columns.data.push(&event.data);
            }
        }
        columns
    }
}

struct OutcomeRow {
    request: i32,
    first_position: i64,
    replayed_fingerprint: Option<Vec<u8>>,
    previous: Option<i64>,
}

struct OutcomeRows(Vec<OutcomeRow>);

/// Runs the append statement on an open connection. Returns one row for each request, in any order.
async fn append(
    connection: &mut PgConnection,
    batch: &AppendBatch,
    columns: &Columns<'_>,
) -> Result<OutcomeRows, sqlx::Error> {
    sqlx::query_as!(
        OutcomeRow,
        r#"SELECT request AS "request!", first_position AS "first_position!", replayed_fingerprint, previous
           FROM log_append($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)"#,
        batch.token,
        batch.sent_before.then(|| batch.after.stored()),
        &columns.tenants as _,
        &columns.keys as _,
        &columns.fingerprints as _,
        &columns.sizes,
        &columns.event_requests,
        &columns.types as _,
        &columns.abouts as _,
        &columns.times as _,
        &columns.data as _,
    )
    .fetch_all(connection)
    .await
    .map(OutcomeRows)
}

impl OutcomeRows {
    /// Converts the rows to outcomes in the order of the batch. Fails unless each of the `requests` requests has a row.
    fn into_outcome(mut self, requests: usize) -> Result<BatchOutcome, StoreError> {
        self.0.sort_by_key(|row| row.request);
        if self.0.len() != requests {
            return Err(StoreError::Unreadable(
                "an append returned no row for some request".into(),
            ));
        }
        let previous = self.0.iter().find_map(|row| row.previous).map(Position::from_stored);
        let outcomes = self.0.into_iter().map(|row| {
            let first = Position::from_stored(row.first_position);
            match row.replayed_fingerprint {
                Some(fingerprint) => AppendOutcome::Replayed { first, fingerprint },
                None => AppendOutcome::Appended(first),
            }
        });
        Ok(BatchOutcome { previous, requests: outcomes.collect() })
    }
}

struct EventRow {
    position: i64,
    examined: i64,
    tenant: String,
    event_type: String,
    about: Option<i64>,
    occurred_at: Option<i64>,
    data: Option<Vec<u8>>,
}

impl EventRow {
    /// `None` for a row without data: the event belongs to another tenant than the one that was read.
    fn into_event(self) -> Option<Arc<Event>> {
        let new = NewEvent {
            event_type: EventType::from_stored(&self.event_type),
            about: self.about.map(SubscriptionId::from_stored),
            occurred_at: self.occurred_at.map(UnixMillis::from_i64),
            data: Bytes::from(self.data?),
        };
        Some(Arc::new(Event::at(Position::from_stored(self.position), &self.tenant.into(), &new)))
    }
}

impl Stretch {
    /// Builds the result of a read from its rows, in reading order. Rows of other tenants have no data and give no
    /// event.
    ///
    /// `from`: where the read began. `limit`: how many rows the read examines at most. A read that examined fewer and
    /// returned them all is complete.
    fn from_rows(rows: Vec<EventRow>, from: Position, limit: u16) -> Self {
        let examined = rows.first().map_or(0, |row| row.examined);
        let all_returned = i64::try_from(rows.len()).is_ok_and(|returned| returned == examined);
        let scanned = rows.last().map_or(from, |row| Position::from_stored(row.position));
        Self {
            complete: all_returned && examined < i64::from(limit),
            scanned,
            events: rows.into_iter().filter_map(EventRow::into_event).collect(),
        }
    }
}

/// The query of a scan in the order `$order`: the page is bounded first by its number of rows, then by its bytes. The
/// first row is returned whatever its size.
macro_rules! read_query {
    ($scan:ident, $order:literal) => {
        sqlx::query_as!(
            EventRow,
            r#"SELECT position AS "position!", examined AS "examined!", tenant AS "tenant!",
                      type AS "event_type!", about, occurred_at, CASE WHEN selected THEN data END AS data
               FROM (
                   SELECT *, row_number() OVER (ORDER BY "# + $order + r#") AS n, count(*) OVER () AS examined,
                          sum(CASE WHEN selected THEN octet_length(data) END) OVER (ORDER BY "# + $order + r#") AS bytes
                   FROM (
                       SELECT *, (tenant = $3 OR $3 IS NULL) AS selected
                       FROM events WHERE position > $1 AND position <= $2 ORDER BY "# + $order + r#" LIMIT $4
                   ) first
               ) counted
               WHERE bytes IS NULL OR bytes <= $5 OR n = 1
               ORDER BY "# + $order,
            $scan.after.stored(),
            $scan.up_to.stored(),
            $scan.tenant,
            i64::from($scan.limit.events),
            i64::from($scan.limit.bytes),
        )
    };
}

impl Store {
    /// Creates a writer, which later opens a connection of its own, outside the pool.
    pub fn log_writer(&self) -> LogWriter {
        LogWriter { store: self.clone(), connection: None }
    }

    /// Reads forward, oldest first: above `scan.after` and up to `scan.up_to`. The log has no late arrivals: after a
    /// `complete` read, every new event has a higher position.
    pub async fn read_after(&self, scan: Scan<'_>) -> Result<Stretch, StoreError> {
        let rows = self.fetch_all(read_query!(scan, "position")).await?;
        Ok(Stretch::from_rows(rows, scan.after, scan.limit.events))
    }

    /// Reads backward, newest first: from `scan.up_to` down to, but not including, `scan.after`.
    pub async fn read_before(&self, scan: Scan<'_>) -> Result<Stretch, StoreError> {
        let rows = self.fetch_all(read_query!(scan, "position DESC")).await?;
        Ok(Stretch::from_rows(rows, scan.up_to, scan.limit.events))
    }

    /// Reads the events at `positions`, oldest first. Leaves out those that retention has dropped and, if `tenant` is
    /// set, those of other tenants.
    pub async fn read_at(
        &self,
        positions: &[i64],
        tenant: Option<&str>,
    ) -> Result<Vec<Arc<Event>>, StoreError> {
        let rows = self.fetch_all(sqlx::query_as!(
            EventRow,
            r#"SELECT position, 0::bigint AS "examined!", tenant, type AS event_type, about, occurred_at,
                      data AS "data?"
               FROM events WHERE position = ANY($1) AND (tenant = $2 OR $2 IS NULL) ORDER BY position"#,
            positions,
            tenant,
        ))
        .await?;
        Ok(rows.into_iter().filter_map(EventRow::into_event).collect())
    }

    /// The position of the newest event, even if expired; without events, the position where the log begins.
    pub async fn head(&self) -> Result<Position, StoreError> {
        self.fetch_scalar(sqlx::query_scalar!(
            r#"SELECT coalesce((SELECT position FROM events ORDER BY position DESC LIMIT 1), events) AS "head!"
               FROM horizons"#
        ))
        .await
        .map(Position::from_stored)
    }

    /// Selects the position of the oldest event that has not expired; `None` if all have.
    pub async fn oldest(&self) -> Result<Option<Position>, StoreError> {
        self.fetch_optional_scalar(sqlx::query_scalar!(
            "SELECT position FROM events WHERE position > (SELECT events FROM horizons) ORDER BY position LIMIT 1"
        ))
        .await
        .map(|oldest| oldest.map(Position::from_stored))
    }
}
