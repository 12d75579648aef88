-- Retention: how far the log is gone, and what went before its subscription had it.

CREATE TABLE horizons (
    one      boolean PRIMARY KEY DEFAULT true CHECK (one),
    events   bigint  NOT NULL DEFAULT 0,  -- the newest event that is gone
    attempts bigint  NOT NULL DEFAULT 0   -- attempts at events up to here are not kept
);
INSERT INTO horizons DEFAULT VALUES;

-- Subscriptions whose events went before they were delivered or acked.
CREATE TABLE expirations (
    subscription bigint PRIMARY KEY,
    events       bigint NOT NULL,  -- how many, ever
    up_to        bigint NOT NULL   -- all at or below is counted
);

-- All that events and attempts are still needed for is above these places: cursors stand there, or retries wait.
-- Attempts say what not to repeat: to the next owner of a shard, and to a puller of what a callback had begun on.
CREATE FUNCTION needed_above() RETURNS TABLE (events bigint, attempts bigint) LANGUAGE sql STABLE AS $$
    SELECT least(called, (SELECT min(p.position) FROM pull_cursors p)),
           least(called, (SELECT min(p.position) FROM pull_cursors p WHERE p.position < p.delivered_up_to))
    FROM (
        SELECT least(
            (SELECT min(h.cursor) FROM shards h),
            (SELECT min(c.position) FROM subscription_cursors c),
            (SELECT min(r.position) - 1 FROM retries r)
        ) AS called
    ) callbacks;
$$;

-- Notes that a subscription does not get expired_events of its events at or below up_to any more, ends their retries,
-- moves its own cursor there, and tells it in the log. Once for the same stretch, whichever node comes first.
CREATE FUNCTION expire_deliveries(
    id bigint, gone_up_to bigint, expired_events bigint, append_token uuid, entry_type text, entry_data bytea
) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
    owner text;
BEGIN
    PERFORM pg_advisory_xact_lock(7308324465820951);

    SELECT s.tenant INTO owner FROM subscriptions s WHERE s.id = expire_deliveries.id AND NOT s.deleted;
    IF owner IS NULL OR EXISTS (SELECT FROM expirations x WHERE x.subscription = id AND x.up_to >= gone_up_to) THEN
        RETURN false;
    END IF;

    DELETE FROM retries r WHERE r.subscription = id AND r.position <= gone_up_to;
    UPDATE subscription_cursors c SET position = gone_up_to WHERE c.subscription = id AND c.position < gone_up_to;
    UPDATE pull_cursors p SET position = gone_up_to WHERE p.subscription = id AND p.position < gone_up_to;
    INSERT INTO expirations AS x (subscription, events, up_to) VALUES (id, expired_events, gone_up_to)
    ON CONFLICT (subscription) DO UPDATE SET events = x.events + excluded.events, up_to = excluded.up_to;

    PERFORM log_append(
        append_token, (SELECT last_value FROM log_position), ARRAY[owner], ARRAY[NULL::text], ARRAY[NULL::bytea],
        ARRAY[1], ARRAY[1], ARRAY[entry_type], ARRAY[id], ARRAY[NULL::bigint], ARRAY[entry_data]
    );
    RETURN true;
END;
$$;

-- Moves every cursor that is below to the newest event that goes, and ends what retries are left up to there. Who lost
-- something by it was told before.
CREATE FUNCTION pass_over(gone_up_to bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE horizons SET events = gone_up_to WHERE events < gone_up_to;
    UPDATE shards SET cursor = gone_up_to WHERE cursor < gone_up_to;
    UPDATE subscription_cursors SET position = gone_up_to WHERE position < gone_up_to;
    UPDATE pull_cursors SET position = gone_up_to WHERE position < gone_up_to;
    DELETE FROM retries WHERE position <= gone_up_to;
END;
$$;
