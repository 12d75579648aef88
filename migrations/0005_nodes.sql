-- Nodes, and the shards they own.

CREATE TABLE nodes (
    id           uuid        PRIMARY KEY,
    leased_until timestamptz NOT NULL,
    address      text        NOT NULL DEFAULT '',
    version      text        NOT NULL DEFAULT '',
    started_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    leaving      boolean     NOT NULL DEFAULT false,  -- it is stopping: it releases its shards and acquires none
    acted_on     bigint      NOT NULL DEFAULT 0,      -- it has applied all subscription changes up to this position
    seen         bigint      NOT NULL DEFAULT 0       -- it has read the log up to here: keys revoked up to here are rejected
);

-- Slices of the subscriptions. A node owns a shard while it is the holder and its lease runs. Each acquisition raises
-- the term, which is the fencing token: every write of an owner names it.
CREATE TABLE shards (
    shard  smallint PRIMARY KEY,
    holder uuid,
    term   bigint   NOT NULL DEFAULT 0,
    cursor bigint   NOT NULL DEFAULT 0  -- everything at or below is resolved for subscriptions without their own cursor
) WITH (fillfactor = 50);
INSERT INTO shards (shard) SELECT generate_series(0, 63);
