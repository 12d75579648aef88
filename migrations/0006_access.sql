-- Access: API keys, tenants, idempotency keys, the audit log.

-- API keys. Only the hash is stored.
CREATE TABLE keys (
    id           bigint  PRIMARY KEY,
    tenant       text    NOT NULL,
    name         text    NOT NULL,
    hash         bytea   NOT NULL UNIQUE,  -- SHA-256 of the key, which is random
    created_at   bigint  NOT NULL,         -- milliseconds since 1970, as all times here
    revoked      boolean NOT NULL DEFAULT false,
    scopes       text[]  NOT NULL,
    event_types  text[],                   -- patterns of the events it may access; null: all
    expires_at   bigint,
    last_used_at bigint                    -- updated at most once a minute
);
CREATE INDEX keys_by_tenant ON keys (tenant, id);

-- Tenants that an operator has configured. Any other name is a tenant too, with the hub's default quotas.
--
-- A null quota means the hub's default. A deleted row stays, so that nodes learn of the deletion.
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

-- Responses to requests with an Idempotency-Key, stored for 24 hours.
CREATE TABLE idempotency_keys (
    tenant      text        NOT NULL,
    key         text        NOT NULL,
    fingerprint bytea       NOT NULL,  -- SHA-256 of the request
    position    bigint,                -- of its first log entry, if it made any
    answer      bytea,                 -- the response, if it cannot be built from the log
    created_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant, key)
);
CREATE INDEX idempotency_keys_created_at ON idempotency_keys (created_at);
CREATE INDEX answers_by_master_key ON idempotency_keys (sealed_with(answer)) WHERE answer IS NOT NULL;

-- Requests with an Idempotency-Key that run at this moment, while there are several nodes: a repeat that reaches
-- another node is rejected until the first one ends. No decision about duplicates reads it: idempotency_keys is the
-- truth.
CREATE UNLOGGED TABLE idempotency_claims (
    tenant text NOT NULL,
    key    text NOT NULL,
    node   uuid NOT NULL,
    token  uuid NOT NULL,  -- of the claim: the end of a request deletes only its own claim
    PRIMARY KEY (tenant, key)
);

-- The audit log: one row per change, inserted in the transaction of the change and never updated. An action that
-- changes no row, such as a replay, has its row inserted before.
CREATE TABLE audit (
    id         bigint PRIMARY KEY,           -- (milliseconds since 1970) << 20 | random
    token      uuid   NOT NULL UNIQUE,       -- of the change: sent twice after a lost connection, it is still one row
    tenant     text   NOT NULL,
    key        text   NOT NULL,              -- the id of the API key, 'admin', 'hub' or 'receiver'
    address    text,                         -- of the client
    user_agent text,
    request_id text,
    action     text   NOT NULL,              -- for example 'subscription.updated'
    target     text   NOT NULL,              -- the id or name of the changed object
    before     json,                         -- the fields that differ, secrets masked; null if it did not exist
    after      json
);
CREATE INDEX audit_by_tenant ON audit (tenant, id);
