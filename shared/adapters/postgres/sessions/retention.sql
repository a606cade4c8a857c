-- name: end_idle_sessions
-- Looks at no more than `limit`, those that were found in use the longest ago: each is ended, or noted as in use until its last
-- turn or change. One row without a session tells how many were looked at where none was ended.
WITH looked AS MATERIALIZED (
    SELECT i.id, i.updated_at FROM sessions i
    WHERE i.status <> 'ENDED' AND coalesce(i.in_use_at, i.created_at) < %(before)s
    ORDER BY coalesce(i.in_use_at, i.created_at)
    LIMIT %(limit)s
    -- What is locked is being used.
    FOR UPDATE SKIP LOCKED
), judged AS MATERIALIZED (
    SELECT l.id, greatest(l.updated_at, turns.last, CASE WHEN turns.open THEN %(before)s::timestamptz END) AS in_use_at
    FROM looked l CROSS JOIN LATERAL (
        SELECT max(t.ended_at) AS last, coalesce(bool_or(t.ended_at IS NULL), false) AS open
        FROM turns t WHERE t.session_id = l.id) turns
), kept AS (
    UPDATE sessions s SET in_use_at = j.in_use_at FROM judged j WHERE s.id = j.id AND j.in_use_at >= %(before)s
), ended AS (
    UPDATE sessions s
    SET status = 'ENDED', updated_at = %(now)s, ended_at = %(now)s, granted_tools = '{}',
        hold_version = s.hold_version + (s.status = 'SUSPENDED')::integer,
        hold_pending = s.hold_pending OR s.status = 'SUSPENDED',
        hold_told_at = CASE WHEN s.status = 'SUSPENDED' THEN NULL ELSE s.hold_told_at END
    FROM judged j WHERE s.id = j.id AND j.in_use_at < %(before)s
    RETURNING s.*
)
SELECT (SELECT count(*) FROM looked) AS looked, ended.*, 'owner' AS access FROM (VALUES (1)) one LEFT JOIN ended ON true

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
