-- API keys, known by their hash alone.

CREATE TABLE keys (
    id         bigint  PRIMARY KEY,
    tenant     text    NOT NULL,
    name       text    NOT NULL,
    hash       bytea   NOT NULL UNIQUE,  -- SHA-256 of the key, which is random
    created_at bigint  NOT NULL,         -- milliseconds since 1970
    revoked    boolean NOT NULL DEFAULT false
);
CREATE INDEX keys_by_tenant ON keys (tenant, id);
