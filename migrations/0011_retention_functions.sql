-- Makes sure that events and attempts can be stored from yesterday until some days ahead: one partition per day (UTC).
-- A partition is created on its own and then attached, so appends continue meanwhile.
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

-- The positions above which events and attempts are still needed, by cursors or retries. Attempts prevent repeats: for
-- the next owner of a shard, and for a pull subscription that was a webhook.
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

-- Records that a subscription loses expired_events of its events at or below gone_up_to, deletes their retries, moves
-- its cursor there, and appends the gap entry to the log. Returns false, without effect, if losses are recorded up to
-- there already or the subscription is deleted.
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

-- Makes gone_up_to the newest expired event: moves every cursor below it there, and deletes the retries up to it. The
-- gaps of the subscriptions that lose events are recorded before.
CREATE FUNCTION pass_over(gone_up_to bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE horizons SET events = gone_up_to WHERE events < gone_up_to;
    UPDATE shards SET cursor = gone_up_to WHERE cursor < gone_up_to;
    UPDATE subscription_cursors SET position = gone_up_to WHERE position < gone_up_to;
    UPDATE pull_cursors SET position = gone_up_to WHERE position < gone_up_to;
    DELETE FROM retries WHERE position <= gone_up_to;
END;
$$;
