-- Makes one change of a subscription: appends its log entry and updates the tables, or does nothing.
--
-- result is 'changed', 'stale' (the subscription is no longer as it was at position expected; null for a new one) or
-- 'replayed' (a keyed request is repeated: position is the first request's entry).
-- starts_after: where a new subscription's history begins, if that is below its own entry.
--
-- A subscription may change between webhook and pull without losing its place. From webhook to pull, the cursor starts
-- below every event that is not known to be delivered, and waiting retries stay stored. From pull to webhook,
-- acknowledged events no longer wait for a retry, and deliveries continue from the cursor, as after a restart.
CREATE FUNCTION subscription_change(
    append_token uuid, after bigint, request_key text, request_fingerprint bytea,
    entry_type text, entry_data bytea, expected bigint, starts_after bigint,
    new_id bigint, new_tenant text, new_shard smallint, new_callback_url text, new_event_types text[],
    new_definition text, new_status text, new_disabled_reason text, new_deleted boolean
) RETURNS TABLE (result text, "position" bigint, fingerprint bytea, previous bigint)
LANGUAGE plpgsql AS $$
DECLARE
    made     bigint;
    appended record;
    old      subscriptions%ROWTYPE;
    acked    bigint;
BEGIN
    PERFORM pg_advisory_xact_lock(7308324465820951);

    -- A resend after a lost connection: the first send took effect, and may have been changed since.
    SELECT min(e.position) INTO made FROM events e WHERE e.position > after AND e.token = append_token;
    IF made IS NOT NULL THEN
        RETURN QUERY SELECT 'changed', made, NULL::bytea, NULL::bigint;
        RETURN;
    END IF;

    SELECT * INTO old FROM subscriptions s WHERE s.id = new_id;
    IF old.deleted OR old.changed_at IS DISTINCT FROM expected THEN
        RETURN QUERY SELECT 'stale', NULL::bigint, NULL::bytea, NULL::bigint;
        RETURN;
    END IF;

    SELECT a.first_position, a.replayed_fingerprint, a.previous INTO appended
    FROM log_append(
        append_token, after, ARRAY[new_tenant], ARRAY[request_key], ARRAY[request_fingerprint], ARRAY[1],
        ARRAY[1], ARRAY[entry_type], ARRAY[new_id], ARRAY[NULL::bigint], ARRAY[entry_data]
    ) a;
    IF appended.replayed_fingerprint IS NOT NULL THEN
        RETURN QUERY SELECT 'replayed', appended.first_position, appended.replayed_fingerprint, NULL::bigint;
        RETURN;
    END IF;

    INSERT INTO subscriptions AS s
        (id, tenant, shard, callback_url, event_types, definition, status, disabled_reason, changed_at, deleted)
    VALUES
        (new_id, new_tenant, new_shard, new_callback_url, new_event_types, new_definition, new_status,
         new_disabled_reason, appended.first_position, new_deleted)
    ON CONFLICT (id) DO UPDATE
    SET callback_url = excluded.callback_url, event_types = excluded.event_types, definition = excluded.definition,
        status = excluded.status, disabled_reason = excluded.disabled_reason, changed_at = excluded.changed_at,
        deleted = excluded.deleted;

    IF new_deleted THEN
        DELETE FROM retries r WHERE r.subscription = new_id;
        DELETE FROM subscription_cursors c WHERE c.subscription = new_id;
        DELETE FROM pull_cursors p WHERE p.subscription = new_id;
    ELSIF old.id IS NULL OR old.event_types <> new_event_types THEN
        INSERT INTO subscription_versions (subscription, since, event_types)
        VALUES (new_id, least(appended.first_position, starts_after), new_event_types);
    END IF;

    IF old.id IS NULL AND new_callback_url IS NULL THEN
        INSERT INTO pull_cursors (subscription, position, delivered_up_to)
        VALUES (new_id, least(appended.first_position, starts_after), 0);
    ELSIF old.id IS NULL AND starts_after < appended.first_position THEN
        INSERT INTO subscription_cursors (subscription, position) VALUES (new_id, starts_after);
    ELSIF old.callback_url IS NOT NULL AND new_callback_url IS NULL AND NOT new_deleted THEN
        INSERT INTO pull_cursors (subscription, position, delivered_up_to)
        SELECT new_id,
               least(coalesce(c.position, h.cursor), (SELECT min(r.position) - 1 FROM retries r WHERE r.subscription = new_id)),
               appended.first_position
        FROM shards h LEFT JOIN subscription_cursors c ON c.subscription = new_id
        WHERE h.shard = new_shard;
    ELSIF old.id IS NOT NULL AND old.callback_url IS NULL AND new_callback_url IS NOT NULL AND NOT new_deleted THEN
        DELETE FROM pull_cursors p WHERE p.subscription = new_id RETURNING p.position INTO acked;
        DELETE FROM retries r WHERE r.subscription = new_id AND r.position <= acked;
        INSERT INTO subscription_cursors AS c (subscription, position) VALUES (new_id, acked)
        ON CONFLICT (subscription) DO UPDATE SET position = excluded.position;
    END IF;

    RETURN QUERY SELECT 'changed', appended.first_position, NULL::bytea, appended.previous;
END;
$$;

-- Adds to the number of a tenant's subscriptions. Changes of subscriptions are made one at a time, under the log's
-- lock.
CREATE FUNCTION count_subscription() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO subscription_counts AS c (tenant, held) VALUES (NEW.tenant, TG_ARGV[0]::int)
    ON CONFLICT (tenant) DO UPDATE SET held = c.held + excluded.held;
    RETURN NULL;
END;
$$;
CREATE TRIGGER subscription_made AFTER INSERT ON subscriptions
    FOR EACH ROW WHEN (NOT NEW.deleted) EXECUTE FUNCTION count_subscription('1');
CREATE TRIGGER subscription_deleted AFTER UPDATE OF deleted ON subscriptions
    FOR EACH ROW WHEN (NEW.deleted AND NOT OLD.deleted) EXECUTE FUNCTION count_subscription('-1');

-- Returns the tenant if it may have the subscription, else no row. most is its quota; null unless the subscription is
-- new.
--
-- Under the log's lock, which is held until the commit, and volatile: of several creations at once, each one counts
-- those before it. A repeat of a creation that was made passes, to get the same response.
CREATE FUNCTION subscription_room(new_id bigint, new_tenant text, most bigint, request_key text) RETURNS SETOF text
LANGUAGE plpgsql AS $$
BEGIN
    IF most IS NOT NULL THEN
        PERFORM pg_advisory_xact_lock(7308324465820951);
        IF most <= coalesce((SELECT c.held FROM subscription_counts c WHERE c.tenant = new_tenant), 0)
            AND NOT EXISTS (SELECT FROM subscriptions s WHERE s.id = new_id)
            AND NOT EXISTS (
                SELECT FROM idempotency_keys k
                WHERE k.tenant = new_tenant AND k.key = request_key
                  AND k.created_at > clock_timestamp() - interval '24 hours'
            )
        THEN
            RETURN;
        END IF;
    END IF;
    RETURN NEXT new_tenant;
END;
$$;
