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

-- How many subscriptions each tenant has: kept up, since counting thousands would hold up the log.
CREATE TABLE subscription_counts (
    tenant text PRIMARY KEY,
    held   int  NOT NULL
) WITH (fillfactor = 50);

-- Changes of subscriptions are made one at a time, under the log's lock.
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

-- After the triggers, which keep others from changing any until this is committed.
INSERT INTO subscription_counts (tenant, held)
SELECT tenant, count(*) FROM subscriptions WHERE NOT deleted GROUP BY tenant;

-- Gives the tenant of a new subscription when that may have one more, else no row. most: so many it may have; null when
-- nothing new is made.
--
-- Under the log's lock, which is held on until the commit, and volatile, so that of several that are made at once each
-- is counted by the next. One that was made already is let through, for the same answer as before.
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
