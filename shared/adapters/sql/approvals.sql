-- name: request_approval
WITH call AS (
    SELECT c.id, c.session_id, c.turn_id, c.name, c.arguments, t.requested_by
    FROM tool_calls c JOIN turns t ON t.id = c.turn_id
    WHERE c.id = %(tool_call_id)s AND c.ended_at IS NULL AND t.ended_at IS NULL AND t.cancel_requested_at IS NULL
    FOR UPDATE OF t
), approval AS (
    INSERT INTO approvals (id, tool_call_id, session_id, turn_id, tool, arguments, arguments_digest, status,
                           requested_by, requested_at, expires_at, instance_id)
    SELECT %(approval_id)s, id, session_id, turn_id, name, arguments, %(digest)s, 'pending', requested_by, %(now)s,
           %(expires_at)s, %(instance_id)s
    FROM call
    ON CONFLICT (tool_call_id) DO NOTHING
    RETURNING id, turn_id
)
UPDATE turns SET status = 'waiting_approval'
FROM approval WHERE turns.id = approval.turn_id
RETURNING approval.id

-- name: approval_of_tool_call
SELECT a.*, s.event_seq_floor, s.event_seq_ceiling
FROM approvals a JOIN sessions s ON s.id = a.session_id WHERE a.tool_call_id = %(tool_call_id)s

-- name: approval
SELECT a.*, s.owner_id, s.event_seq_floor, s.event_seq_ceiling,
       EXISTS (SELECT 1 FROM session_participants p WHERE p.session_id = s.id AND p.user_id = %(user_id)s) AS participates
FROM approvals a JOIN sessions s ON s.id = a.session_id WHERE a.id = %(approval_id)s

-- name: lock_turn_of_approval
SELECT t.id FROM turns t JOIN approvals a ON a.turn_id = t.id WHERE a.id = %(approval_id)s FOR UPDATE OF t

-- name: decide_approval
WITH approval AS (
    UPDATE approvals
    SET status = %(status)s, decided_by = %(user_id)s, decided_at = %(now)s, comment = %(comment)s,
        decided_arguments = %(decided_arguments)s, arguments_digest = coalesce(%(digest)s, arguments_digest)
    WHERE id = %(approval_id)s AND status = 'pending' AND expires_at > %(now)s
    RETURNING *
), call AS (
    UPDATE tool_calls
    SET status = %(status)s FROM approval WHERE tool_calls.id = approval.tool_call_id
), turn AS (
    UPDATE turns SET status = 'running'
    FROM approval
    WHERE turns.id = approval.turn_id AND turns.status = 'waiting_approval' AND NOT EXISTS (
        SELECT 1 FROM approvals o WHERE o.turn_id = turns.id AND o.status = 'pending' AND o.id <> %(approval_id)s)
)
SELECT * FROM approval

-- name: waiting_instances
SELECT id, instance_id FROM approvals WHERE turn_id = ANY(%(turn_ids)s) AND delivered_at IS NULL

-- name: undelivered_approvals
SELECT id, instance_id, status FROM approvals
WHERE decided_at IS NOT NULL AND delivered_at IS NULL AND decided_at < %(before)s
ORDER BY decided_at
LIMIT %(limit)s

-- name: give_up_delivery
UPDATE approvals SET delivered_at = %(now)s WHERE id = %(approval_id)s
