-- Several nodes, each with a fair share of the shards.

ALTER TABLE nodes
    ADD COLUMN address    text        NOT NULL DEFAULT '',
    ADD COLUMN version    text        NOT NULL DEFAULT '',
    ADD COLUMN started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- It is stopping: it hands its shards over and takes none.
    ADD COLUMN leaving    boolean     NOT NULL DEFAULT false,
    -- It has acted on all changes of subscriptions up to this position of the log.
    ADD COLUMN acted_on   bigint      NOT NULL DEFAULT 0;

DROP FUNCTION take_free_shards(uuid);

-- Takes at most so many of the shards that nobody owns, and of those on record as the node's own that it does not hold;
-- none for a node whose lease has run out, since the next to ask would take them again.
-- Under a lock, and volatile, so that of two nodes that ask at once the second sees what the first has taken.
CREATE FUNCTION take_shards(node uuid, held smallint[], most int)
RETURNS TABLE (taken smallint, new_term bigint, at_cursor bigint)
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(7308324465820953);
    IF NOT EXISTS (SELECT FROM nodes n WHERE n.id = node AND n.leased_until >= clock_timestamp()) THEN
        RETURN;
    END IF;
    RETURN QUERY
        UPDATE shards s SET holder = node, term = s.term + 1
        FROM (
            SELECT f.shard FROM shards f
            LEFT JOIN nodes n ON n.id = f.holder AND n.leased_until >= clock_timestamp()
            WHERE CASE WHEN f.holder = node THEN NOT f.shard = ANY (held) ELSE n.id IS NULL END
            ORDER BY f.shard LIMIT most
        ) free
        WHERE s.shard = free.shard
        RETURNING s.shard, s.term, s.cursor;
END;
$$;
