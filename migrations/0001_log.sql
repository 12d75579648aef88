-- The log: events in one order, and the only way to append to it.

-- The last position given out. Read and set only under the log's lock; not rolled back, so that a failed append
-- leaves a hole and never a number given twice.
CREATE SEQUENCE log_position AS bigint MINVALUE 0 START 0;

CREATE TABLE events (
    position    bigint NOT NULL,  -- (milliseconds since 1970) << 20 | counter
    tenant      text   NOT NULL,
    type        text   NOT NULL,
    about       bigint,           -- the subscription an entry of the hub's own is about
    occurred_at bigint,           -- milliseconds since 1970, where the publisher said so
    token       uuid   NOT NULL,  -- of the append it came in
    data        bytea  NOT NULL,  -- one JSON value on one line
    PRIMARY KEY (position)
) PARTITION BY RANGE (position);

-- Payloads are mostly small, and compressing costs more than the bytes it saves.
ALTER TABLE events ALTER COLUMN data SET STORAGE EXTERNAL;

-- Answers kept for the repeats of a request, for 24 hours.
CREATE TABLE idempotency_keys (
    tenant      text        NOT NULL,
    key         text        NOT NULL,
    fingerprint bytea       NOT NULL,  -- SHA-256 of what was asked
    position    bigint,                -- of its first entry in the log, where it made any
    answer      bytea,                 -- where the answer cannot be built from the log
    created_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant, key)
);
CREATE INDEX idempotency_keys_created_at ON idempotency_keys (created_at);

-- Appends the events of several requests in one go: all under the lock, at neighbouring positions, in order.
--
-- The lock is held until the transaction ends, and Postgres makes a commit visible before it lets go of such locks:
-- who sees a position has seen every one below.
--
-- A row per request comes back: the position of its first event, and for a repeat of a keyed request, which appends
-- nothing, the fingerprint of the first one. previous is the position given out last before this append; null when
-- the append had been made before (same token), which makes it safe to send again after a lost connection.
-- after is a position at or below the log's head when the append was first sent: the token is looked for above it.
--
-- Volatile on purpose: each statement in here sees all that was committed before the lock was had.
CREATE FUNCTION log_append(
    append_token uuid, after bigint,
    request_tenants text[], request_keys text[], request_fingerprints bytea[], request_sizes int[],
    event_requests int[], event_types text[], event_abouts bigint[], event_times bigint[], event_data bytea[]
) RETURNS TABLE (request int, first_position bigint, replayed_fingerprint bytea, previous bigint)
LANGUAGE plpgsql AS $$
DECLARE
    base     bigint;  -- the position before the first appended one
    earlier  bigint;
    replayed boolean[];
    kept     record;
BEGIN
    PERFORM pg_advisory_xact_lock(7308324465820951);

    SELECT min(e.position) - 1 INTO base FROM events e WHERE e.position > after AND e.token = append_token;

    replayed := array_fill(false, ARRAY[cardinality(request_tenants)]);
    FOR kept IN
        -- A key of a request that appended nothing has no position; its fingerprint is another one's all the same.
        SELECT r.n, coalesce(k.position, 0) AS at, k.fingerprint
        FROM unnest(request_tenants, request_keys) WITH ORDINALITY r(tenant, key, n)
        JOIN idempotency_keys k ON k.tenant = r.tenant AND k.key = r.key
        WHERE k.created_at > clock_timestamp() - interval '24 hours'
    LOOP
        -- On a second sending the keys of the first are there too; those are no repeats.
        CONTINUE WHEN EXISTS (SELECT FROM events e WHERE e.position = kept.at AND e.token = append_token);
        replayed[kept.n] := true;
        request := kept.n;
        first_position := kept.at;
        replayed_fingerprint := kept.fingerprint;
        previous := NULL;
        RETURN NEXT;
    END LOOP;

    IF base IS NULL THEN
        SELECT last_value INTO earlier FROM log_position;
        base := greatest(earlier, ((extract(epoch FROM clock_timestamp()) * 1000)::bigint << 20) - 1);

        INSERT INTO events (position, tenant, type, about, occurred_at, token, data)
        SELECT base + row_number() OVER (ORDER BY e.n), request_tenants[e.request], e.type, e.about, e.occurred_at,
               append_token, e.data
        FROM unnest(event_requests, event_types, event_abouts, event_times, event_data)
             WITH ORDINALITY e(request, type, about, occurred_at, data, n)
        WHERE NOT replayed[e.request];

        INSERT INTO idempotency_keys AS k (tenant, key, fingerprint, position)
        SELECT r.tenant, r.key, r.fingerprint, base + 1 + r.start
        FROM (
            SELECT u.tenant, u.key, u.fingerprint, u.n,
                   sum(CASE WHEN replayed[u.n] THEN 0 ELSE u.size END) OVER (ORDER BY u.n) - u.size AS start
            FROM unnest(request_tenants, request_keys, request_fingerprints, request_sizes)
                 WITH ORDINALITY u(tenant, key, fingerprint, size, n)
        ) r
        WHERE r.key IS NOT NULL AND NOT replayed[r.n]
        ON CONFLICT (tenant, key) DO UPDATE
        SET fingerprint = excluded.fingerprint, position = excluded.position, answer = NULL, created_at = clock_timestamp();

        PERFORM setval('log_position', base + appended.count)
        FROM (SELECT count(*) FROM unnest(event_requests) e(request) WHERE NOT replayed[e.request]) appended
        WHERE appended.count > 0;
    END IF;

    FOR kept IN
        SELECT u.n, sum(CASE WHEN replayed[u.n] THEN 0 ELSE u.size END) OVER (ORDER BY u.n) - u.size AS start
        FROM unnest(request_sizes) WITH ORDINALITY u(size, n)
    LOOP
        CONTINUE WHEN replayed[kept.n];
        request := kept.n;
        first_position := base + 1 + kept.start;
        replayed_fingerprint := NULL;
        previous := earlier;
        RETURN NEXT;
    END LOOP;
END;
$$;
