-- name: open_wait
-- Once for each number: of two who ran the call, the first one's question stands.
WITH call AS (
    SELECT c.id, c.session_id, c.turn_id, c.name
    FROM tool_calls c JOIN turns t ON t.id = c.turn_id
    WHERE c.id = %(tool_call_id)s AND c.ended_at IS NULL AND t.ended_at IS NULL AND t.cancel_requested_at IS NULL
      AND NOT stopped_above(t.ancestors)
    FOR UPDATE OF t
), wait AS (
    INSERT INTO tool_waits (id, tool_call_id, session_id, turn_id, number, tool, kind, status, request, state, asked_of,
                            opened_at, expires_at, instance_id, workflow, workflow_id)
    SELECT %(wait_id)s, id, session_id, turn_id, %(number)s, name, %(kind)s, 'pending', %(request)s::json, %(state)s, %(asked_of)s,
           %(now)s, %(expires_at)s, %(instance_id)s, %(workflow)s, %(workflow_id)s
    FROM call
    ON CONFLICT (tool_call_id, number) DO NOTHING
    RETURNING turn_id
)
UPDATE turns
SET status = CASE WHEN status = 'waiting_approval' OR %(kind)s = 'agent' THEN status ELSE 'waiting_input' END
FROM wait WHERE turns.id = wait.turn_id
RETURNING turns.id

-- name: wait
-- With what the user is in its session. request: as text, since jsonb forgets the order of fields.
SELECT w.*, w.request::text AS request, c.message_id, s.event_seq_floor, s.event_seq_ceiling, s.incarnation,
       CASE WHEN s.owner_id = %(user_id)s THEN 'owner' ELSE p.access END AS access
FROM tool_waits w JOIN tool_calls c ON c.id = w.tool_call_id JOIN sessions s ON s.id = w.session_id
LEFT JOIN session_participants p ON p.session_id = s.id AND p.user_id = %(user_id)s
WHERE w.tool_call_id = %(tool_call_id)s AND w.id = coalesce(%(wait_id)s::text, w.id)
ORDER BY w.number DESC LIMIT 1

-- name: answer_wait
WITH wait AS (
    UPDATE tool_waits
    SET status = 'answered', answer = %(answer)s, answer_digest = %(digest)s, actions = %(actions)s, ended_at = %(now)s,
        ended_by = %(user_id)s
    WHERE id = %(wait_id)s AND status = 'pending' AND expires_at > %(now)s
    RETURNING id, turn_id
), turn AS (
    UPDATE turns SET status = 'running'
    FROM wait
    WHERE turns.id = wait.turn_id AND turns.status = 'waiting_input' AND NOT EXISTS (
        SELECT FROM tool_waits o WHERE o.turn_id = turns.id AND o.status = 'pending' AND o.kind <> 'agent' AND o.id <> %(wait_id)s)
)
SELECT id FROM wait

-- name: time_out_wait
WITH wait AS (
    UPDATE tool_waits SET status = 'timed_out', ended_at = %(now)s, delivered_at = %(now)s, state = NULL
    WHERE id = %(wait_id)s AND status = 'pending'
    RETURNING id, turn_id
), turn AS (
    UPDATE turns SET status = 'running'
    FROM wait
    WHERE turns.id = wait.turn_id AND turns.status = 'waiting_input' AND NOT EXISTS (
        SELECT FROM tool_waits o WHERE o.turn_id = turns.id AND o.status = 'pending' AND o.kind <> 'agent' AND o.id <> %(wait_id)s)
)
SELECT id FROM wait

-- name: resume_wait
-- As `begin_tool_call`, for a call that goes on with an answer: a cancel or a suspension that was accepted before holds.
WITH turn AS (
    SELECT t.cancel_requested_at IS NOT NULL OR t.ended_at IS NOT NULL OR s.status NOT IN ('ACTIVE', 'SUSPENDED')
           OR stopped_above(t.ancestors) AS cancelled,
           s.status = 'SUSPENDED' OR held_above(t.ancestors) AS held
    FROM turns t JOIN tool_waits w ON w.turn_id = t.id JOIN sessions s ON s.id = t.session_id WHERE w.id = %(wait_id)s
), resumed AS (
    UPDATE tool_waits SET resumed_at = %(now)s, resumed_by = %(start_id)s, delivered_at = coalesce(delivered_at, %(now)s)
    FROM turn
    WHERE id = %(wait_id)s AND status = 'answered' AND resumed_at IS NULL AND NOT turn.cancelled AND NOT turn.held
    RETURNING id
)
SELECT turn.cancelled, turn.held,
       EXISTS (SELECT FROM resumed) OR EXISTS (
           SELECT FROM tool_waits w JOIN tool_calls c ON c.id = w.tool_call_id
           WHERE w.id = %(wait_id)s AND c.ended_at IS NULL AND w.resumed_by = %(start_id)s
       ) AS begun_now,
       EXISTS (SELECT FROM resumed) AS stored_now
FROM turn

-- name: forget_waits
-- Of a call that has ended: nobody needs the answers any more.
UPDATE tool_waits SET delivered_at = coalesce(delivered_at, %(now)s), state = NULL, answer = NULL
WHERE tool_call_id = %(tool_call_id)s

-- name: undelivered_waits
-- As `undelivered_approvals`.
SELECT w.id, w.instance_id
FROM tool_waits w JOIN sessions s ON s.id = w.session_id JOIN turns t ON t.id = w.turn_id
WHERE w.ended_at IS NOT NULL AND w.delivered_at IS NULL AND w.ended_at < %(before)s AND s.status <> 'SUSPENDED'
  AND (t.hub = %(hub)s OR t.hub IS NULL AND %(is_only)s)
ORDER BY random()
LIMIT %(limit)s

-- name: give_up_wait
UPDATE tool_waits SET delivered_at = %(now)s WHERE id = %(wait_id)s
