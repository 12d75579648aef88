-- Acquires at most this number of shards without a live owner. A shard whose holder is this node, but that is not in
-- held, counts as free. A node whose lease has ended acquires none: the next node would take them again.
--
-- Under a lock, and volatile: of two nodes that ask at once, the second sees what the first acquired.
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
