-- What a key may do, of which events and until when; revoked by an entry in the log, which every node follows.

ALTER TABLE keys
    ADD COLUMN scopes       text[] NOT NULL DEFAULT '{publish,subscribe,read,stream}',
    ADD COLUMN event_types  text[],  -- patterns of the events that are there for it; null: all
    ADD COLUMN expires_at   bigint,  -- milliseconds since 1970, as the other times
    ADD COLUMN last_used_at bigint;  -- written now and then
ALTER TABLE keys ALTER COLUMN scopes DROP DEFAULT;

-- All of the log up to this position holds on the node: it lets no key in that was revoked up to there.
ALTER TABLE nodes ADD COLUMN seen bigint NOT NULL DEFAULT 0;

-- Revokes a tenant's key with its entry in the log. position: where all nodes must have come to; made: whether it was
-- this call that revoked it. No row: there is no such key.
CREATE FUNCTION key_revoke(
    append_token uuid, key_tenant text, key_id bigint, entry_type text, entry_data bytea
) RETURNS TABLE (made boolean, "position" bigint, previous bigint)
LANGUAGE plpgsql AS $$
DECLARE
    was_revoked boolean;
BEGIN
    PERFORM pg_advisory_xact_lock(7308324465820951);

    SELECT k.revoked INTO was_revoked FROM keys k WHERE k.tenant = key_tenant AND k.id = key_id;
    IF was_revoked IS NULL THEN
        RETURN;
    END IF;
    IF was_revoked THEN
        -- Its entry is at or below the head.
        RETURN QUERY
            SELECT false, coalesce((SELECT e.position FROM events e ORDER BY e.position DESC LIMIT 1), 0), NULL::bigint;
        RETURN;
    END IF;
    UPDATE keys SET revoked = true WHERE id = key_id;
    RETURN QUERY
        SELECT true, a.first_position, a.previous
        FROM log_append(
            append_token, NULL, ARRAY[key_tenant], ARRAY[NULL::text], ARRAY[NULL::bytea], ARRAY[1],
            ARRAY[1], ARRAY[entry_type], ARRAY[NULL::bigint], ARRAY[NULL::bigint], ARRAY[entry_data]
        ) a;
END;
$$;

-- Requests under an Idempotency-Key that run at this moment, where there are several nodes: so that a repeat which
-- another node is asked for is told to wait. Nothing hangs on it but that answer: idempotency_keys says what was done.
CREATE UNLOGGED TABLE idempotency_claims (
    tenant text NOT NULL,
    key    text NOT NULL,
    node   uuid NOT NULL,
    token  uuid NOT NULL,  -- of the claim: only it is let go by its end
    PRIMARY KEY (tenant, key)
);
