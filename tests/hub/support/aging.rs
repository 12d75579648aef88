//! Moves a database into the past, as if its hub had run days ago.

use hookhub::domain::position::{COUNTER_BITS, Position};
use sqlx::{AssertSqlSafe, Executor};

use super::database::Database;

const DAY_MS: i64 = 86_400_000;

/// The id of an event after [`age`] moved its log `days` days into the past.
pub(crate) fn aged(id: &str, days: i64) -> String {
    let position: Position = id.parse().expect("an event id");
    Position::from_stored(position.stored() - ((days * DAY_MS) << COUNTER_BITS)).to_string()
}

/// The ids of several events after [`age`].
pub(crate) fn all_aged(ids: &[String], days: i64) -> Vec<String> {
    ids.iter().map(|id| aged(id, days)).collect()
}

/// Moves the log and everything with a position `days` days into the past. No hub may run on the database.
pub(crate) async fn age(database: &Database, days: i64) {
    let by = (days * DAY_MS) << COUNTER_BITS;
    let make_partitions = format!(
        "DO $$
         DECLARE parent text; day date;
         BEGIN
             FOR parent, day IN
                 SELECT p.parent, date '1970-01-01' + (e.day - {days})
                 FROM (SELECT DISTINCT ((position >> 20) / {DAY_MS})::int AS day FROM events) e
                 CROSS JOIN unnest(ARRAY['events', 'attempts']) p(parent)
             LOOP
                 EXECUTE format(
                     'CREATE TABLE IF NOT EXISTS %I PARTITION OF %I FOR VALUES FROM (%s) TO (%s)',
                     parent || to_char(day, '_YYYYMMDD'), parent,
                     (extract(epoch FROM day) * 1000)::bigint << 20, (extract(epoch FROM day + 1) * 1000)::bigint << 20
                 );
             END LOOP;
         END; $$"
    );
    let mut connection = database.connect().await;
    connection.execute(AssertSqlSafe(make_partitions)).await.expect("partitions of those days");
    for (table, column) in [
        ("events", "position"),
        ("attempts", "position"),
        ("attempts", "id"),
        ("retries", "position"),
        ("shards", "cursor"),
        ("subscription_cursors", "position"),
        ("pull_cursors", "position"),
        ("pull_cursors", "delivered_up_to"),
        ("subscription_versions", "since"),
        ("subscriptions", "changed_at"),
        ("horizons", "events"),
        ("horizons", "attempts"),
        ("expirations", "up_to"),
    ] {
        let shift = format!("UPDATE {table} SET {column} = {column} - {by} WHERE {column} > {by}");
        connection.execute(AssertSqlSafe(shift)).await.expect(table);
    }
    // Drops the days whose events have moved.
    let drop_others = format!(
        "DO $$
         DECLARE part text;
         BEGIN
             FOREACH part IN ARRAY (
                 SELECT coalesce(array_agg(relname::text), '{{}}') FROM pg_class
                 WHERE relkind = 'r' AND relname ~ '^(events|attempts)_[0-9]{{8}}$'
                   AND to_date(right(relname, 8), 'YYYYMMDD') < (now() AT TIME ZONE 'UTC')::date - 1
                   AND to_date(right(relname, 8), 'YYYYMMDD') - date '1970-01-01'
                       NOT IN (SELECT ((position >> 20) / {DAY_MS})::int FROM events)
             ) LOOP
                 EXECUTE format('DROP TABLE %I', part);
             END LOOP;
         END; $$"
    );
    connection.execute(AssertSqlSafe(drop_others)).await.expect("other days");
    let back = format!("SELECT setval('log_position', last_value - {by}) FROM log_position");
    connection.execute(AssertSqlSafe(back)).await.expect("the sequence");
}
