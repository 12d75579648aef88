-- Who delivers what, how far they are, and what came of it.

CREATE TABLE nodes (
    id           uuid        PRIMARY KEY,
    leased_until timestamptz NOT NULL
);

-- Slices of the subscriptions. A node owns one while it is the holder and its lease has not run out; each taking
-- raises the term, and every write of an owner names it.
CREATE TABLE shards (
    shard  smallint PRIMARY KEY,
    holder uuid,
    term   bigint   NOT NULL DEFAULT 0,
    cursor bigint   NOT NULL DEFAULT 0  -- all at or below is resolved for the subscriptions without a cursor of their own
) WITH (fillfactor = 50);
INSERT INTO shards (shard) SELECT generate_series(0, 63);

-- Takes the shards that nobody owns, or only this node, anew. Under a lock, and volatile, so that of two nodes that
-- ask at once the second sees what the first has taken.
CREATE FUNCTION take_free_shards(node uuid) RETURNS TABLE (taken smallint, new_term bigint, at_cursor bigint)
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(7308324465820953);
    RETURN QUERY
        UPDATE shards s SET holder = node, term = s.term + 1
        WHERE s.holder IS NULL OR s.holder = node
           OR NOT EXISTS (SELECT FROM nodes n WHERE n.id = s.holder AND n.leased_until >= clock_timestamp())
        RETURNING s.shard, s.term, s.cursor;
END;
$$;

-- One row per POST, never changed. Partitioned by the position of the event.
CREATE TABLE attempts (
    subscription bigint   NOT NULL,
    position     bigint   NOT NULL,
    id           bigint   NOT NULL,  -- (milliseconds since 1970 at its start) << 20 | counter
    latency_ms   int      NOT NULL,
    number       smallint NOT NULL,
    status       smallint,           -- HTTP status code, where there was an answer
    error        text,               -- error class, where there was none
    response     text,               -- JSON, for failures: an excerpt of the body, and headers of use
    PRIMARY KEY (subscription, position, number)
) PARTITION BY RANGE (position);

-- Makes sure that events and attempts can be stored from yesterday until some days ahead, a partition a day (UTC)
-- each. Tables are made aside and attached, which lets appends go on meanwhile.
CREATE FUNCTION create_partitions(days_ahead int) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    parent text;
    day    date;
    part   text;
BEGIN
    PERFORM pg_advisory_xact_lock(7308324465820952);
    FOREACH parent IN ARRAY ARRAY['events', 'attempts'] LOOP
        FOR day IN SELECT (now() AT TIME ZONE 'UTC')::date + n FROM generate_series(-1, days_ahead) n LOOP
            part := parent || to_char(day, '_YYYYMMDD');
            CONTINUE WHEN to_regclass(part) IS NOT NULL;
            EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING ALL)', part, parent);
            EXECUTE format(
                'ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%s) TO (%s)', parent, part,
                (extract(epoch FROM day) * 1000)::bigint << 20, (extract(epoch FROM day + 1) * 1000)::bigint << 20
            );
        END LOOP;
    END LOOP;
END;
$$;
