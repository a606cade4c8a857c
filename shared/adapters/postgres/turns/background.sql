-- name: open_background
-- A call that begins a subagent in the background, whose turn goes on; its session is locked. No row: its turn is over or
-- cancelled. child: it was begun before.
SELECT EXISTS (SELECT FROM sessions o WHERE o.parent_tool_call_id = c.id) AS child
FROM tool_calls c JOIN turns t ON t.id = c.turn_id
WHERE c.id = %(tool_call_id)s AND c.ended_at IS NULL AND t.ended_at IS NULL AND t.cancel_requested_at IS NULL AND t.ancestors = '{}'
FOR UPDATE OF t

-- name: open_in_background
SELECT count(*) AS open FROM sessions s JOIN turns t ON t.session_id = s.id
WHERE s.parent_session_id = %(session_id)s AND s.background_until IS NOT NULL AND s.result_told_at IS NULL AND t.ended_at IS NULL

-- name: call_of_background
SELECT parent_tool_call_id FROM sessions
WHERE id = %(session_id)s AND background_until IS NOT NULL AND result_told_at IS NULL

-- name: results_to_tell
-- Of subagents in the background that have ended. A session that is suspended is told when it goes on.
SELECT s.parent_tool_call_id
FROM sessions s JOIN turns t ON t.session_id = s.id JOIN sessions p ON p.id = s.parent_session_id
WHERE s.background_until IS NOT NULL AND s.result_told_at IS NULL AND t.ended_at < %(before)s AND p.status <> 'SUSPENDED'
ORDER BY random()
LIMIT %(limit)s

-- name: overdue_background
SELECT t.id
FROM sessions s JOIN turns t ON t.session_id = s.id
WHERE s.background_until < %(now)s AND s.result_told_at IS NULL AND t.ended_at IS NULL AND t.cancel_requested_at IS NULL
ORDER BY t.id LIMIT %(limit)s

-- name: take_result
-- Of two who would tell it, the second one waits here and finds that it is told. The child is locked before its caller, as
-- everywhere.
UPDATE sessions s SET result_told_at = %(now)s
FROM turns t, turns p, tool_calls c
WHERE s.id = %(session_id)s AND s.background_until IS NOT NULL AND s.result_told_at IS NULL
  AND t.session_id = s.id AND t.ended_at IS NOT NULL AND p.id = s.parent_turn_id AND c.id = s.parent_tool_call_id
RETURNING s.parent_session_id, s.parent_turn_id, s.parent_tool_call_id, p.requested_by, p.plan,
          t.status = 'cancelled' AND t.cancel_requested_at >= s.background_until AS is_late

-- name: lock_parent
-- With what the user for whom its turn ran is in it by now; null: nothing.
SELECT s.*, CASE WHEN s.owner_id = %(user_id)s THEN 'owner' ELSE p.access END AS access
FROM sessions s LEFT JOIN session_participants p ON p.session_id = s.id AND p.user_id = %(user_id)s
WHERE s.id = %(session_id)s
FOR NO KEY UPDATE OF s

-- name: place_of_call
-- Of the call of a subagent, in a session that is locked: whether the branch that goes on has it, and its turn was neither
-- cancelled nor failed.
SELECT p.branch,
       p.cancel_requested_at IS NULL AND p.status <> 'failed' AND p.status <> 'cancelled' AS is_wanted,
       EXISTS (SELECT FROM branch_path(s.id, s.active_branch, 2147483647, 2147483647) part
               WHERE part.branch = p.branch AND (p.number, c.step) <= (part.turn_number, part.step)) AS is_on_branch
FROM tool_calls c JOIN turns p ON p.id = c.turn_id JOIN sessions s ON s.id = p.session_id
WHERE c.id = %(tool_call_id)s

-- name: mark_result
UPDATE messages SET from_subagent = %(from_subagent)s WHERE id = %(message_id)s
