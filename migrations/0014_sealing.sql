-- What is secret is sealed under a master key of the operator's, which the database never sees. Until it is sealed anew,
-- what was stored before this stays readable.

-- What is deleted keeps no secrets.
UPDATE subscriptions SET definition = '' WHERE deleted;

-- The id of the master key that something stored is sealed with; empty when it is not sealed, null when it is nothing.
CREATE FUNCTION sealed_with(stored text) RETURNS text LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN CASE WHEN stored = '' THEN NULL WHEN stored LIKE 'sealed1.%' THEN substr(stored, 9, 8) ELSE '' END;
CREATE FUNCTION sealed_with(stored bytea) RETURNS text LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN sealed_with(encode(substring(stored FROM 1 FOR 16), 'escape'));

ALTER TABLE subscriptions ADD COLUMN sealed_with text GENERATED ALWAYS AS (sealed_with(definition)) STORED;
CREATE INDEX subscriptions_by_master_key ON subscriptions (sealed_with);
CREATE INDEX answers_by_master_key ON idempotency_keys (sealed_with(answer)) WHERE answer IS NOT NULL;

-- All that is sealed, or shall be; its key with the table says where it is.
CREATE VIEW sealed AS
    SELECT 'definition' AS kind, s.tenant, s.id::text AS key, s.sealed_with, convert_to(s.definition, 'UTF8') AS stored
    FROM subscriptions s WHERE s.sealed_with IS NOT NULL
    UNION ALL
    SELECT 'answer', k.tenant, k.key, sealed_with(k.answer), k.answer
    FROM idempotency_keys k WHERE k.answer IS NOT NULL
    UNION ALL
    SELECT 'shared_secret', '', v.name, sealed_with(v.value), v.value
    FROM shared_secrets v;

-- The master keys that nodes have sealed with and that may still be needed. The one that a node started with last is
-- the database's: what others sealed is sealed anew with that one, so that nodes in the middle of a change of the key do not do
-- each other's work again.
CREATE TABLE master_keys (
    id    text        PRIMARY KEY,
    since timestamptz NOT NULL  -- a node started with it in front
);

-- Takes the first of these keys for the database's. When something in the database is sealed with a key that is not
-- among them, it is left at that, and what comes back are those keys' ids.
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

-- When an earlier signing secret of a subscription ends: from then on it has no business in the definition. A row is there
-- before the secret is; one without a secret means nothing.
CREATE TABLE secret_ends (
    ends_at      bigint NOT NULL,  -- milliseconds since 1970
    subscription bigint NOT NULL,
    PRIMARY KEY (ends_at, subscription)
);
