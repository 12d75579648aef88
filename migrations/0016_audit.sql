-- Who changed what, and from where: a row for each change, made in the change's own transaction, and never altered.

CREATE TABLE audit (
    id         bigint PRIMARY KEY,           -- (milliseconds since 1970) << 20 | random
    token      uuid   NOT NULL UNIQUE,       -- of the change: one sent twice after a lost connection is one row
    tenant     text   NOT NULL,
    key        text   NOT NULL,              -- the id of the key it was asked with, 'admin', or 'hub' for the hub itself
    address    text,                         -- of the client
    user_agent text,
    request_id text,
    action     text   NOT NULL,              -- such as 'subscription.updated'
    target     text   NOT NULL,              -- the id or name of what was changed
    before     json,                         -- the members that differ, secrets masked; null for what was not there
    after      json
);
CREATE INDEX audit_by_tenant ON audit (tenant, id);

CREATE FUNCTION audit_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the audit log is append-only';
END;
$$;
CREATE TRIGGER audit_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit
    FOR EACH STATEMENT EXECUTE FUNCTION audit_is_append_only();
