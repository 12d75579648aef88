-- Tenants of which an operator has said something. Any other name is a tenant too, with what the hub allows each.

-- A quota that is null is the hub's own. A deleted row stays, so that nodes learn of the deletion.
CREATE TABLE tenants (
    name          text    PRIMARY KEY,
    description   text,
    events_per_s  int,
    subscriptions int,
    streams       int,
    event_bytes   int,
    created_at    bigint  NOT NULL,  -- milliseconds since 1970
    updated_at    bigint  NOT NULL,
    version       bigint  NOT NULL UNIQUE,
    deleted       boolean NOT NULL DEFAULT false
);

CREATE SEQUENCE tenant_version AS bigint;

-- The version of a change. It is drawn under a lock that is held until the commit, so that who has seen a version has
-- seen every change below.
CREATE FUNCTION next_tenant_version() RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(7308324465820954);
    RETURN nextval('tenant_version');
END;
$$;

-- The subscriptions that a tenant has, to be counted.
CREATE INDEX subscriptions_held ON subscriptions (tenant) WHERE NOT deleted;

-- Gives the tenant of a new subscription when that may have one more, else no row. most: so many it may have; null when
-- nothing new is made.
--
-- Under the log's lock, which is held on until the commit, and volatile, so that of several that are made at once each
-- counts those before it. One that was made already is let through, for the same answer as before.
CREATE FUNCTION subscription_room(new_id bigint, new_tenant text, most bigint, request_key text) RETURNS SETOF text
LANGUAGE plpgsql AS $$
BEGIN
    IF most IS NOT NULL THEN
        PERFORM pg_advisory_xact_lock(7308324465820951);
        IF NOT EXISTS (SELECT FROM subscriptions s WHERE s.id = new_id)
            AND NOT EXISTS (
                SELECT FROM idempotency_keys k
                WHERE k.tenant = new_tenant AND k.key = request_key
                  AND k.created_at > clock_timestamp() - interval '24 hours'
            )
            AND most <= (
                SELECT count(*)
                FROM (SELECT FROM subscriptions s WHERE s.tenant = new_tenant AND NOT s.deleted LIMIT most) held
            )
        THEN
            RETURN;
        END IF;
    END IF;
    RETURN NEXT new_tenant;
END;
$$;
