-- name: end_idle_sessions
UPDATE sessions s
SET status = 'ENDED', updated_at = %(now)s, ended_at = %(now)s, granted_tools = '{}',
    hold_version = s.hold_version + (s.status = 'SUSPENDED')::integer,
    hold_pending = s.hold_pending OR s.status = 'SUSPENDED',
    hold_told_at = CASE WHEN s.status = 'SUSPENDED' THEN NULL ELSE s.hold_told_at END
-- An array: the inner query must run once.
WHERE s.id = ANY (ARRAY(
    SELECT i.id FROM sessions i
    WHERE i.created_at < %(before)s AND i.updated_at < %(before)s AND i.status <> 'ENDED'
      AND NOT EXISTS (SELECT 1 FROM turns t WHERE t.session_id = i.id AND (t.ended_at IS NULL OR t.ended_at >= %(before)s))
    ORDER BY i.created_at
    LIMIT %(limit)s
    -- What is locked is being used.
    FOR UPDATE SKIP LOCKED))
RETURNING s.*, 'owner' AS access

-- name: claim_old_sessions
INSERT INTO session_erasures (session_id, owner_id, requested_at, attempted_at, by_retention)
SELECT o.id, o.owner_id, %(now)s, %(now)s, true
FROM (
    SELECT s.id, s.owner_id FROM sessions s
    WHERE s.status = 'ENDED' AND s.ended_at < %(before)s
      AND NOT EXISTS (SELECT 1 FROM turns t WHERE t.session_id = s.id AND t.ended_at IS NULL)
      AND NOT EXISTS (SELECT 1 FROM approvals a WHERE a.session_id = s.id AND a.status = 'pending')
      AND NOT EXISTS (SELECT 1 FROM session_erasures e WHERE e.session_id = s.id AND e.finished_at IS NULL)
    ORDER BY s.ended_at
    LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED) o
ON CONFLICT (session_id) DO UPDATE -- an id that a client chose, and that was erased before
SET owner_id = excluded.owner_id, requested_at = excluded.requested_at, attempted_at = excluded.attempted_at,
    by_retention = true, instances = NULL, finished_at = NULL
WHERE session_erasures.finished_at IS NOT NULL
RETURNING session_id
