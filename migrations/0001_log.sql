-- The log: all events in one order. log_append (0007) is the only way to append to it.

-- The last position drawn. Read and set only under the log's lock. A rollback does not undo it, so a failed append
-- leaves a hole, and no position is drawn twice.
CREATE SEQUENCE log_position AS bigint MINVALUE 0 START 0;

CREATE TABLE events (
    position    bigint NOT NULL,  -- (milliseconds since 1970) << 20 | counter
    tenant      text   NOT NULL,
    type        text   NOT NULL,
    about       bigint,           -- the subscription that an entry of the hub itself describes
    occurred_at bigint,           -- milliseconds since 1970, if the publisher gave a time
    token       uuid   NOT NULL,  -- of the append that inserted the event
    data        bytea  NOT NULL,  -- one JSON value on one line
    PRIMARY KEY (position)
) PARTITION BY RANGE (position);

-- Most payloads are small: compression would cost more than the bytes it saves.
ALTER TABLE events ALTER COLUMN data SET STORAGE EXTERNAL;

-- How far retention has expired the log. One row.
CREATE TABLE horizons (
    one      boolean PRIMARY KEY DEFAULT true CHECK (one),
    events   bigint  NOT NULL DEFAULT 0,  -- the newest expired event
    attempts bigint  NOT NULL DEFAULT 0   -- attempts for events up to here are not stored
);
INSERT INTO horizons DEFAULT VALUES;
