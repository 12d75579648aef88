-- Encryption at rest. Secrets are encrypted with a master key that the database never sees.

-- The id of the master key that a stored value is encrypted with: empty for plain text, null for no value.
CREATE FUNCTION sealed_with(stored text) RETURNS text LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN CASE WHEN stored = '' THEN NULL WHEN stored LIKE 'sealed1.%' THEN substr(stored, 9, 8) ELSE '' END;
CREATE FUNCTION sealed_with(stored bytea) RETURNS text LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN sealed_with(encode(substring(stored FROM 1 FOR 16), 'escape'));

-- The master keys that nodes have encrypted with and that may still be needed. The newest one is the database's:
-- values encrypted with other keys are re-encrypted with it. So nodes in the middle of a key change do not undo each
-- other's work.
CREATE TABLE master_keys (
    id    text        PRIMARY KEY,
    since timestamptz NOT NULL  -- when a node last started with it as the current key
);

-- Secrets that all nodes of a hub share. The first node that needs one creates it.
CREATE TABLE shared_secrets (
    name  text  PRIMARY KEY,
    value bytea NOT NULL
);

-- When rotated signing secrets end; after that they are removed from the definition. A row whose secret is not in the
-- definition (any more) has no meaning.
CREATE TABLE secret_ends (
    ends_at      bigint NOT NULL,  -- milliseconds since 1970
    subscription bigint NOT NULL,
    PRIMARY KEY (ends_at, subscription)
);
