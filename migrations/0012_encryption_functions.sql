-- All values that are, or should be, encrypted. kind and key say where each is stored.
CREATE VIEW sealed AS
    SELECT 'definition' AS kind, s.tenant, s.id::text AS key, s.sealed_with, convert_to(s.definition, 'UTF8') AS stored
    FROM subscriptions s WHERE s.sealed_with IS NOT NULL
    UNION ALL
    SELECT 'answer', k.tenant, k.key, sealed_with(k.answer), k.answer
    FROM idempotency_keys k WHERE k.answer IS NOT NULL
    UNION ALL
    SELECT 'shared_secret', '', v.name, sealed_with(v.value), v.value
    FROM shared_secrets v;

-- Makes the first of these keys the database's. If master_keys has a key that is not in the list, or a stored value is
-- encrypted with one, changes nothing and returns the ids of the missing keys.
CREATE FUNCTION take_master_keys(held text[]) RETURNS TABLE (missing text) LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(7308324465820955);
    RETURN QUERY
        SELECT m.id FROM master_keys m WHERE m.id <> ALL (held)
        UNION
        SELECT s.sealed_with FROM sealed s WHERE s.sealed_with <> '' AND s.sealed_with <> ALL (held);
    IF NOT FOUND THEN
        INSERT INTO master_keys AS m (id, since) VALUES (held[1], clock_timestamp())
        ON CONFLICT (id) DO UPDATE SET since = excluded.since;
    END IF;
END;
$$;
