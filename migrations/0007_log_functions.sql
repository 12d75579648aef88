-- Appends the events of several requests at once: under the log's lock, at adjacent positions, in order.
--
-- The lock is held until the transaction ends, and Postgres makes a commit visible before it releases such locks. So a
-- reader that sees a position has seen every position below it.
--
-- Returns one row per request: the position of its first event. For a repeat of a keyed request, which appends nothing,
-- also the fingerprint of the first request. previous is the last position drawn before this append. It is null if the
-- append was already made (same token), which makes a resend after a lost connection safe.
-- after is a position at or below the log's head when the append was first sent: the token is searched above it. It is
-- null on the first send, when there is nothing to find.
--
-- Volatile on purpose: each statement in the function sees everything committed before the lock was acquired.
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
    keyed    boolean := EXISTS (SELECT FROM unnest(request_keys) key WHERE key IS NOT NULL);
    kept     record;
BEGIN
    PERFORM pg_advisory_xact_lock(7308324465820951);

    IF after IS NOT NULL THEN
        SELECT min(e.position) - 1 INTO base FROM events e WHERE e.position > after AND e.token = append_token;
    END IF;

    replayed := array_fill(false, ARRAY[cardinality(request_tenants)]);
    IF keyed THEN
        FOR kept IN
            -- The key of a request that appended nothing has no position, but a fingerprint to compare.
            SELECT r.n, coalesce(k.position, 0) AS at, k.fingerprint
            FROM unnest(request_tenants, request_keys) WITH ORDINALITY r(tenant, key, n)
            JOIN idempotency_keys k ON k.tenant = r.tenant AND k.key = r.key
            WHERE k.created_at > clock_timestamp() - interval '24 hours'
        LOOP
            -- After a resend the keys of the first send are stored too; those are not repeats.
            CONTINUE WHEN EXISTS (SELECT FROM events e WHERE e.position = kept.at AND e.token = append_token);
            replayed[kept.n] := true;
            request := kept.n;
            first_position := kept.at;
            replayed_fingerprint := kept.fingerprint;
            previous := NULL;
            RETURN NEXT;
        END LOOP;
    END IF;

    IF base IS NULL THEN
        SELECT last_value INTO earlier FROM log_position;
        base := greatest(earlier, ((extract(epoch FROM clock_timestamp()) * 1000)::bigint << 20) - 1);

        INSERT INTO events (position, tenant, type, about, occurred_at, token, data)
        SELECT base + row_number() OVER (ORDER BY e.n), request_tenants[e.request], e.type, e.about, e.occurred_at,
               append_token, e.data
        FROM unnest(event_requests, event_types, event_abouts, event_times, event_data)
             WITH ORDINALITY e(request, type, about, occurred_at, data, n)
        WHERE NOT replayed[e.request];

        IF keyed THEN
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
        END IF;

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
