-- Revokes a tenant's key and appends the log entry. A node that has read the log up to position rejects the key. made:
-- this call revoked it. Returns no row if there is no such key.
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
        -- The entry of its revocation is at or below the head.
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

-- The version of a tenant's change. Drawn under a lock that is held until the commit, so a reader that has seen a
-- version has seen every change below it.
CREATE FUNCTION next_tenant_version() RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(7308324465820954);
    RETURN nextval('tenant_version');
END;
$$;

CREATE FUNCTION audit_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the audit log is append-only';
END;
$$;
CREATE TRIGGER audit_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit
    FOR EACH STATEMENT EXECUTE FUNCTION audit_is_append_only();
