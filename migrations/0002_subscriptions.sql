-- Subscriptions. A change of one is an entry in the log, made in the same transaction.

CREATE TABLE subscriptions (
    id              bigint   PRIMARY KEY,
    tenant          text     NOT NULL,
    shard           smallint NOT NULL,
    callback_url    text     NOT NULL,
    event_types     text[]   NOT NULL,
    definition      text     NOT NULL,  -- JSON: all that its owner says of it, the secret too
    status          text     NOT NULL CHECK (status IN ('active', 'paused', 'disabled')),
    disabled_reason text,
    changed_at      bigint   NOT NULL,  -- position of the log entry of its latest change
    deleted         boolean  NOT NULL DEFAULT false
);
CREATE INDEX subscriptions_by_tenant ON subscriptions (tenant, id);

-- The patterns of a subscription over time: each version is in force for the events above its position.
CREATE TABLE subscription_versions (
    subscription bigint NOT NULL,
    since        bigint NOT NULL,
    event_types  text[] NOT NULL,
    PRIMARY KEY (subscription, since)
);

-- Subscriptions that are not at the head of the log: all at or below the position is resolved.
CREATE TABLE subscription_cursors (
    subscription bigint PRIMARY KEY,
    position     bigint NOT NULL
);

-- (subscription, event) pairs that failed and wait for their next attempt.
CREATE TABLE retries (
    subscription  bigint   NOT NULL,
    position      bigint   NOT NULL,
    attempts      smallint NOT NULL,  -- made so far
    due_at        bigint   NOT NULL,  -- milliseconds since 1970
    first_attempt bigint   NOT NULL,  -- milliseconds since 1970
    PRIMARY KEY (subscription, position)
);

-- Makes one change: appends its entry and brings the tables to it, or does nothing.
--
-- result is 'changed', 'stale' (the subscription is no longer as it was at position expected, null for a new one) or
-- 'replayed' (a keyed request is repeated: position is that of the first one's entry).
-- starts_after: where a new subscription's history begins, when that is below its own entry.
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
BEGIN
    PERFORM pg_advisory_xact_lock(7308324465820951);

    -- A second sending after a lost connection: what the first one did stands, and may have been changed since.
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
    ELSIF old.id IS NULL OR old.event_types <> new_event_types THEN
        INSERT INTO subscription_versions (subscription, since, event_types)
        VALUES (new_id, least(appended.first_position, starts_after), new_event_types);
    END IF;
    IF old.id IS NULL AND starts_after < appended.first_position THEN
        INSERT INTO subscription_cursors (subscription, position) VALUES (new_id, starts_after);
    END IF;

    RETURN QUERY SELECT 'changed', appended.first_position, NULL::bytea, appended.previous;
END;
$$;
