-- Replays: stretches of the log that are delivered to a subscription once more. Each is asked for by an entry in the log,
-- whose position is its id; the row says how far its owner has come.

CREATE TABLE replays (
    id           bigint PRIMARY KEY,
    subscription bigint NOT NULL,
    after        bigint NOT NULL,
    until        bigint NOT NULL,
    "only"       text   NOT NULL CHECK ("only" IN ('undelivered', 'all')),
    count        bigint NOT NULL,  -- deliveries it was asked for
    position     bigint NOT NULL,  -- all up to here has been handed to delivery
    replayed     bigint NOT NULL,  -- so many deliveries
    status       text   NOT NULL CHECK (status IN ('running', 'completed', 'cancelled'))
);
CREATE INDEX replays_by_subscription ON replays (subscription, id);
