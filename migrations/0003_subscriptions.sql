-- Subscriptions. Each change of one is also an entry in the log, in the same transaction.

CREATE TABLE subscriptions (
    id              bigint   PRIMARY KEY,
    tenant          text     NOT NULL,
    shard           smallint NOT NULL,
    callback_url    text,               -- null for a pull subscription
    event_types     text[]   NOT NULL,
    definition      text     NOT NULL,  -- encrypted JSON of all settings; empty when deleted
    status          text     NOT NULL CHECK (status IN ('active', 'failing', 'paused', 'disabled', 'unverified')),
    disabled_reason text,
    changed_at      bigint   NOT NULL,  -- position of the log entry of its latest change
    deleted         boolean  NOT NULL DEFAULT false,
    sealed_with     text     GENERATED ALWAYS AS (sealed_with(definition)) STORED
);
CREATE INDEX subscriptions_by_tenant ON subscriptions (tenant, id);
CREATE INDEX subscriptions_by_master_key ON subscriptions (sealed_with);

-- The history of a subscription's patterns. A version applies to the events above its position.
CREATE TABLE subscription_versions (
    subscription bigint NOT NULL,
    since        bigint NOT NULL,
    event_types  text[] NOT NULL,
    PRIMARY KEY (subscription, since)
);

-- The number of subscriptions per tenant. Triggers maintain it, since counting thousands of rows would block the log.
CREATE TABLE subscription_counts (
    tenant text PRIMARY KEY,
    held   int  NOT NULL
) WITH (fillfactor = 50);

-- The cursors of pull subscriptions. Their clients move them.
CREATE TABLE pull_cursors (
    subscription    bigint PRIMARY KEY,
    position        bigint NOT NULL,  -- everything at or below is acknowledged
    delivered_up_to bigint NOT NULL   -- it was a webhook up to here: events it delivered are not served again
) WITH (fillfactor = 50);

-- Subscriptions that lost events to retention before these were delivered or acknowledged.
CREATE TABLE expirations (
    subscription bigint PRIMARY KEY,
    events       bigint NOT NULL,  -- how many in total
    up_to        bigint NOT NULL   -- everything at or below is counted
);

-- The progress of pending verifications. For display only; no decision reads it.
CREATE TABLE verifications (
    subscription    bigint PRIMARY KEY,
    asked_at        bigint NOT NULL,  -- milliseconds since 1970, as all times here; distinguishes a verification from earlier ones
    attempts        int    NOT NULL,
    last_attempt_at bigint NOT NULL,
    last_error      text   NOT NULL,
    next_attempt_at bigint            -- null: only on request
);
