-- Receivers that take nothing, and events that are ordered by a key.

ALTER TABLE subscriptions DROP CONSTRAINT subscriptions_status_check;
ALTER TABLE subscriptions ADD CONSTRAINT subscriptions_status_check
    CHECK (status IN ('active', 'failing', 'paused', 'disabled'));

-- What a failed event is ordered by: none of the same key is tried before it has come to its end.
ALTER TABLE retries ADD COLUMN order_key bigint;
