-- Subscriptions whose receiver must agree before it is sent anything.

ALTER TABLE subscriptions DROP CONSTRAINT subscriptions_status_check;
ALTER TABLE subscriptions ADD CONSTRAINT subscriptions_status_check
    CHECK (status IN ('active', 'failing', 'paused', 'disabled', 'unverified'));

-- How far the handshakes have come that were not agreed to yet; for their owners to look at, nothing hangs on it.
CREATE TABLE verifications (
    subscription    bigint PRIMARY KEY,
    asked_at        bigint NOT NULL,  -- milliseconds since 1970, as the other times; tells this handshake from an earlier one
    attempts        int    NOT NULL,
    last_attempt_at bigint NOT NULL,
    last_error      text   NOT NULL,
    next_attempt_at bigint            -- null: none but on request
);
