-- Delivery: cursors, retries, attempts and replays.

-- Subscriptions that lag behind their shard's cursor. Everything at or below the position is resolved.
CREATE TABLE subscription_cursors (
    subscription bigint PRIMARY KEY,
    position     bigint NOT NULL
);

-- (subscription, event) pairs that failed and wait for their next attempt.
CREATE TABLE retries (
    subscription  bigint   NOT NULL,
    position      bigint   NOT NULL,
    attempts      smallint NOT NULL,  -- made so far
    due_at        bigint   NOT NULL,  -- milliseconds since 1970
    first_attempt bigint   NOT NULL,  -- milliseconds since 1970
    order_key     bigint,             -- no later event with this key is attempted before this one is resolved
    PRIMARY KEY (subscription, position)
);

-- One row per request to a receiver, never updated. Partitioned by the position of the event.
CREATE TABLE attempts (
    subscription bigint   NOT NULL,
    position     bigint   NOT NULL,
    id           bigint   NOT NULL,  -- (milliseconds since 1970 at its start) << 20 | counter
    latency_ms   int      NOT NULL,
    number       smallint NOT NULL,
    status       smallint,           -- HTTP status code, if there was a response
    error        text,               -- error class, if there was none
    response     text,               -- JSON, for failures: an excerpt of the body, and useful headers
    PRIMARY KEY (subscription, position, number)
) PARTITION BY RANGE (position);

-- Replays: ranges of the log that are delivered to a subscription once more. A log entry requests each one, and its
-- position is the replay's id. The row holds the progress.
CREATE TABLE replays (
    id           bigint PRIMARY KEY,
    subscription bigint NOT NULL,
    after        bigint NOT NULL,
    until        bigint NOT NULL,
    "only"       text   NOT NULL CHECK ("only" IN ('undelivered', 'all')),
    count        bigint NOT NULL,  -- deliveries it covers
    position     bigint NOT NULL,  -- everything up to here is handed to delivery
    replayed     bigint NOT NULL,  -- deliveries handed over so far
    status       text   NOT NULL CHECK (status IN ('running', 'completed', 'cancelled'))
);
CREATE INDEX replays_by_subscription ON replays (subscription, id);
