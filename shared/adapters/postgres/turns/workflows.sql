-- name: begin_workflow
-- The session is locked, so that whoever suspends it finds this workflow among those that run, or it finds the session
-- suspended.
WITH stands AS (
    SELECT w.id, s.status = 'SUSPENDED' OR held_above(t.ancestors) AS held,
           w.status = 'pending' AND t.ended_at IS NULL AND t.cancel_requested_at IS NULL AND NOT stopped_above(t.ancestors)
           AND s.status IN ('ACTIVE', 'SUSPENDED') AS awaited
    FROM tool_waits w JOIN turns t ON t.id = w.turn_id JOIN sessions s ON s.id = w.session_id
    WHERE w.tool_call_id = %(tool_call_id)s AND w.workflow IS NOT NULL
    FOR SHARE OF s
), begun AS (
    UPDATE tool_waits w SET begun_by = %(start)s
    FROM stands
    WHERE w.id = stands.id AND stands.awaited AND NOT stands.held AND coalesce(w.begun_by, %(start)s) = %(start)s
    RETURNING w.id
)
SELECT stands.held AND stands.awaited AS held, EXISTS (SELECT FROM begun) AS begun FROM stands

-- name: workflows_to_look_at
-- Not those of suspended sessions, which wait, but for those that nobody waits for any more.
UPDATE tool_waits SET looked_at = %(now)s
WHERE id IN (
    SELECT w.id
    FROM tool_waits w JOIN turns t ON t.id = w.turn_id JOIN sessions s ON s.id = w.session_id
    WHERE w.workflow IS NOT NULL AND w.workflow_over_at IS NULL
      AND coalesce(w.looked_at, w.opened_at) < CASE WHEN w.status = 'pending' THEN %(pending_before)s ELSE %(over_before)s END
      AND (w.status <> 'pending' OR s.status <> 'SUSPENDED' AND NOT held_above(t.ancestors))
      AND (t.hub = %(hub)s OR t.hub IS NULL AND %(is_only)s)
    ORDER BY w.looked_at NULLS FIRST
    LIMIT %(limit)s)
RETURNING id, tool_call_id, workflow, workflow_id, status, begun_by

-- name: workflow_is_over
UPDATE tool_waits SET workflow_over_at = %(now)s WHERE id = %(wait_id)s
