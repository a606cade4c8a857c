-- name: claim_untitled
-- Each for one process, for a while. A session that is busy with another statement is left to the next run.
WITH due AS (
    SELECT s.id FROM sessions s
    WHERE s.titled_at IS NULL AND s.name IS NULL AND s.parent_session_id IS NULL AND s.forked_from IS NULL
      AND s.status <> 'ENDED' AND s.created_at > %(since)s AND (s.title_due_at IS NULL OR s.title_due_at <= %(now)s)
      AND EXISTS (SELECT 1 FROM turns t WHERE t.session_id = s.id AND t.status = 'completed')
    ORDER BY s.created_at
    LIMIT %(limit)s
    FOR NO KEY UPDATE OF s SKIP LOCKED
), claimed AS (
    UPDATE sessions s
    SET title_tries = title_tries + 1, title_due_at = %(until)s,
        titled_at = CASE WHEN title_tries + 1 >= %(most_tries)s THEN %(now)s::timestamptz END
    FROM due WHERE s.id = due.id
    RETURNING s.id
)
SELECT claimed.id AS session_id, turn.id AS turn_id, turn.requested_by,
       ARRAY(SELECT left(m.content, %(most_chars)s) FROM messages m
             WHERE m.session_id = claimed.id AND m.role = 'user' AND m.left_out IS NULL AND m.content <> ''
             ORDER BY m.turn_number, m.step, m.ordinal LIMIT %(most_messages)s) AS said
FROM claimed
CROSS JOIN LATERAL (SELECT t.id, t.requested_by FROM turns t
                    WHERE t.session_id = claimed.id AND t.status = 'completed' ORDER BY t.number LIMIT 1) turn

-- name: set_title
-- No row: it was erased, or named meanwhile.
UPDATE sessions SET title = %(title)s, titled_at = %(now)s
WHERE id = %(session_id)s AND name IS NULL
RETURNING *, 'owner' AS access

-- name: leave_title
UPDATE sessions SET titled_at = %(now)s WHERE id = %(session_id)s
