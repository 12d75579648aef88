-- Writes one flush. All parts join owned: the shards whose term is still the writer's.
WITH owned AS (
    UPDATE shards s SET cursor = greatest(s.cursor, f.cursor)
    FROM unnest($1::smallint[], $2::bigint[], $3::bigint[]) f(shard, term, cursor)
    WHERE s.shard = f.shard AND s.term = f.term
    RETURNING s.shard
), attempted AS (
    INSERT INTO attempts (subscription, position, id, latency_ms, number, status, error, response)
    SELECT a.subscription, a.position, a.id, a.latency_ms, a.number, a.status, a.error, a.response
    FROM unnest($4::smallint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::int[],
                $9::smallint[], $10::smallint[], $11::text[], $12::text[])
         a(shard, subscription, position, id, latency_ms, number, status, error, response)
    JOIN owned USING (shard)
    WHERE a.position > (SELECT attempts FROM horizons)
      -- Only a flush that was sent before can find its attempts stored. ON CONFLICT DO NOTHING would avoid this check,
      -- but cost a record of its own in the WAL for each row.
      AND NOT ($24::boolean AND EXISTS (
          SELECT FROM attempts b
          WHERE b.subscription = a.subscription AND b.position = a.position AND b.number = a.number
      ))
), retried AS (
    INSERT INTO retries AS r (subscription, position, attempts, due_at, first_attempt, order_key)
    SELECT n.subscription, n.position, n.attempts::smallint, n.due_at, n.first_attempt, n.order_key
    FROM unnest($13::smallint[], $14::bigint[], $15::bigint[], $16::bigint[], $17::bigint[],
                $18::bigint[], $19::bigint[])
         n(shard, subscription, position, attempts, due_at, first_attempt, order_key)
    JOIN owned USING (shard)
    WHERE n.due_at IS NOT NULL
    ON CONFLICT (subscription, position) DO UPDATE
    SET attempts = excluded.attempts, due_at = excluded.due_at
), settled AS (
    DELETE FROM retries r
    USING unnest($13::smallint[], $14::bigint[], $15::bigint[], $17::bigint[])
          n(shard, subscription, position, due_at), owned
    WHERE n.due_at IS NULL AND owned.shard = n.shard
      AND r.subscription = n.subscription AND r.position = n.position
), moved AS (
    INSERT INTO subscription_cursors AS c (subscription, position)
    SELECT n.subscription, n.position
    FROM unnest($20::smallint[], $21::bigint[], $22::bigint[]) n(shard, subscription, position)
    JOIN owned USING (shard)
    WHERE n.position IS NOT NULL
    ON CONFLICT (subscription) DO UPDATE SET position = excluded.position
), joined AS (
    DELETE FROM subscription_cursors c
    USING unnest($20::smallint[], $21::bigint[], $22::bigint[]) n(shard, subscription, position), owned
    WHERE n.position IS NULL AND owned.shard = n.shard AND c.subscription = n.subscription
), replayed AS (
    INSERT INTO replays AS p (id, subscription, after, until, "only", count, position, replayed, status)
    SELECT n.id, n.subscription, n.after, n.until, n."only", n.count, n.position, n.replayed, n.status
    FROM jsonb_to_recordset(coalesce($23::text, '[]')::jsonb)
         n(shard smallint, id bigint, subscription bigint, after bigint, until bigint, "only" text, count bigint,
           position bigint, replayed bigint, status text)
    JOIN owned USING (shard)
    ON CONFLICT (id) DO UPDATE
    SET position = excluded.position, replayed = excluded.replayed, status = excluded.status
    WHERE p.status = 'running'
)
SELECT shard FROM owned
