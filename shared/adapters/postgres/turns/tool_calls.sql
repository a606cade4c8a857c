-- name: begin_tool_call
-- The turn and its session are looked at here, where nothing comes between this and the call: a cancel or a suspension that
-- was accepted before holds.
WITH turn AS (
    SELECT t.cancel_requested_at IS NOT NULL OR t.ended_at IS NOT NULL OR s.status NOT IN ('ACTIVE', 'SUSPENDED')
           OR stopped_above(t.ancestors) AS cancelled,
           s.status = 'SUSPENDED' OR held_above(t.ancestors) AS held
    FROM turns t JOIN tool_calls c ON c.turn_id = t.id JOIN sessions s ON s.id = t.session_id WHERE c.id = %(tool_call_id)s
), begun AS (
    UPDATE tool_calls SET begun_at = %(now)s, begun_by = %(start_id)s FROM turn
    WHERE id = %(tool_call_id)s AND ended_at IS NULL AND begun_at IS NULL AND NOT turn.cancelled AND NOT turn.held
    RETURNING id
)
SELECT turn.cancelled, turn.held,
       -- Also when this start was stored before and its answer was lost: then nobody has run it.
       EXISTS (SELECT FROM begun) OR EXISTS (
           SELECT FROM tool_calls WHERE id = %(tool_call_id)s AND ended_at IS NULL AND begun_by = %(start_id)s
       ) AS begun_now,
       EXISTS (SELECT FROM begun) AS stored_now
FROM turn

-- name: tool_call_for_execution
SELECT c.*, t.plan, t.requested_by, t.cancel_requested_at, t.ended_at AS turn_ended_at,
       s.event_seq_floor, s.event_seq_ceiling, s.incarnation, s.granted_tools,
       s.status = 'SUSPENDED' OR held_above(t.ancestors) AS is_held, stopped_above(t.ancestors) AS is_stopped_above,
       a.id AS approval_id, a.status AS approval_status, a.decided_by, a.comment, a.decided_arguments,
       a.arguments_digest, r.id AS result_message_id, said.sources,
       (SELECT to_jsonb(w) || jsonb_build_object('request', w.request::text) FROM tool_waits w
        WHERE w.tool_call_id = c.id ORDER BY w.number DESC LIMIT 1) AS wait
FROM tool_calls c
JOIN turns t ON t.id = c.turn_id
JOIN sessions s ON s.id = c.session_id
JOIN messages said ON said.id = c.message_id
LEFT JOIN approvals a ON a.tool_call_id = c.id
LEFT JOIN messages r ON r.turn_id = c.turn_id AND r.step = c.step AND r.ordinal = c.ordinal + 1
WHERE c.id = %(tool_call_id)s

-- name: save_tool_result
-- The session is locked before the call, as everywhere: the end of the turn at the same time waits, and is not killed.
WITH session AS (
    UPDATE sessions SET last_message_number = last_message_number + 1
    FROM tool_calls c
    WHERE c.id = %(tool_call_id)s AND c.ended_at IS NULL AND sessions.id = c.session_id
    RETURNING last_message_number, audit_lines, audit_hash
), call AS (
    UPDATE tool_calls
    SET status = %(status)s, result = %(result)s, error_code = %(error_code)s, ended_at = %(now)s,
        -- Older code that decided it stored them with the approval alone.
        decided_arguments = coalesce(tool_calls.decided_arguments, (
            SELECT a.decided_arguments FROM approvals a
            WHERE a.tool_call_id = %(tool_call_id)s AND a.status = 'approved'))
    FROM session
    WHERE id = %(tool_call_id)s AND ended_at IS NULL
    RETURNING id, session_id, turn_id, step, ordinal, provider_call_id
)
INSERT INTO messages (id, session_id, turn_id, number, branch, turn_number, step, ordinal, role, content, status,
                      tool_call_id, tokens, created_at, words, sources)
SELECT %(message_id)s, call.session_id, call.turn_id, session.last_message_number, turns.branch, turns.number, call.step,
       call.ordinal + 1, 'tool', %(content)s, 'completed', call.provider_call_id, %(tokens)s, %(now)s,
       %(words)s::tsvector, %(sources)s::text[]
FROM call JOIN turns ON turns.id = call.turn_id, session
RETURNING session_id AS id, (SELECT audit_lines FROM session) AS audit_lines, (SELECT audit_hash FROM session) AS audit_hash

-- name: hand_over
-- With the result, whose statement has locked the session: the turn goes on with another plan, and its session with another
-- agent where its owner's turn says so.
WITH turn AS (
    UPDATE turns t
    SET plan = jsonb_set(%(plan)s::jsonb, '{handed_over,step}', to_jsonb(c.step))
    FROM tool_calls c
    WHERE c.id = %(tool_call_id)s AND t.id = c.turn_id AND t.ended_at IS NULL
    RETURNING t.session_id
)
UPDATE sessions SET agent_id = %(agent_id)s, updated_at = %(now)s
FROM turn WHERE sessions.id = turn.session_id AND %(for_session)s

-- name: lock_turn_of_tool_call
SELECT t.id FROM turns t JOIN tool_calls c ON c.turn_id = t.id WHERE c.id = %(tool_call_id)s FOR UPDATE OF t

-- name: time_out_approval
-- Nobody decided: its policy says what that means.
WITH approval AS (
    UPDATE approvals
    SET status = CASE WHEN policy ->> 'on_timeout' = 'approve' THEN 'approved' ELSE 'timed_out' END,
        decided_at = %(now)s, delivered_at = %(now)s
    WHERE tool_call_id = %(tool_call_id)s AND status = 'pending'
    RETURNING tool_call_id, turn_id, status
), call AS (
    UPDATE tool_calls SET status = 'approved'
    FROM approval
    WHERE approval.status = 'approved' AND tool_calls.id = approval.tool_call_id AND tool_calls.ended_at IS NULL
), turn AS (
    UPDATE turns SET status = CASE
        WHEN EXISTS (SELECT FROM tool_waits w WHERE w.turn_id = turns.id AND w.status = 'pending' AND w.kind <> 'agent')
        THEN 'waiting_input'
        ELSE 'running' END
    FROM approval
    WHERE turns.id = approval.turn_id AND turns.status = 'waiting_approval' AND NOT EXISTS (
        SELECT 1 FROM approvals o WHERE o.turn_id = turns.id AND o.status = 'pending' AND o.tool_call_id <> %(tool_call_id)s)
)
SELECT status FROM approval

-- name: mark_approval_delivered
UPDATE approvals SET delivered_at = coalesce(delivered_at, %(now)s) WHERE tool_call_id = %(tool_call_id)s

-- name: newest_tool_calls
-- Ids are in the order of time.
SELECT id FROM tool_calls WHERE session_id = %(session_id)s ORDER BY id DESC LIMIT %(limit)s
