-- name: insert_child
-- The session and the turn that answer a call, in the transaction that stores its wait. It belongs to whom the session of the
-- call belongs to. A new incarnation says of whose sessions it is one: the events of these are told above, too.
WITH parent AS (
    SELECT s.id, s.owner_id, coalesce(s.root_session_id, s.id) AS root_id, t.id AS turn_id, t.ancestors, t.requested_by,
           t.in_background
    FROM tool_calls c JOIN turns t ON t.id = c.turn_id JOIN sessions s ON s.id = c.session_id
    WHERE c.id = %(tool_call_id)s
), session AS (
    INSERT INTO sessions (id, owner_id, name, status, agent_id, config, tags, metadata, created_at, updated_at,
                          event_seq_ceiling, incarnation, last_message_number, last_turn_number,
                          parent_session_id, parent_turn_id, parent_tool_call_id, root_session_id, background_until)
    SELECT %(session_id)s, owner_id, %(name)s, 'ACTIVE', %(agent_id)s, '{}', '{}', '{}', %(now)s, %(now)s,
           %(ceiling)s, %(mark)s || gen_random_uuid()::text, 1, 1,
           id, turn_id, %(tool_call_id)s, root_id, %(background_until)s
    FROM parent
    RETURNING *
), turn AS (
    INSERT INTO turns (id, session_id, number, branch, message_id, requested_by, status, plan, created_at, dispatched_at,
                       hub, quiet_until, ancestors, in_background)
    SELECT %(turn_id)s, session.id, 1, 0, %(message_id)s, parent.requested_by, 'queued', %(plan)s, %(now)s, %(now)s,
           %(hub)s, %(now)s, parent.ancestors || parent.turn_id, parent.in_background OR session.background_until IS NOT NULL
    FROM session, parent
), message AS (
    INSERT INTO messages (id, session_id, turn_id, number, branch, turn_number, step, ordinal, role, content, status,
                          tokens, created_at, sources, author, words)
    SELECT %(message_id)s, session.id, %(turn_id)s, 1, 0, 1, 0, 0, 'user', %(content)s, 'completed', %(tokens)s, %(now)s,
           %(sources)s, parent.requested_by, %(words)s::tsvector
    FROM session, parent
)
SELECT id, event_seq_floor, event_seq_ceiling, incarnation FROM session

-- name: child
-- Of a call: the turn that answers it, and its last answer with the sources of what its model had read.
SELECT t.id AS turn_id, s.id AS session_id, t.status, t.started_at, t.ended_at, t.error_code, t.error_detail,
       said.content, said.output, said.sources, s.agent_id, asked.id AS message_id, asked.content AS input, asked.created_at AS asked_at,
       t.requested_by, s.event_seq_floor, s.event_seq_ceiling, s.incarnation
FROM sessions s JOIN turns t ON t.session_id = s.id JOIN messages asked ON asked.id = t.message_id
LEFT JOIN LATERAL (
    SELECT m.content, m.output, m.sources FROM messages m WHERE m.turn_id = t.id AND m.role = 'assistant'
    ORDER BY m.step DESC LIMIT 1
) said ON true
WHERE s.parent_tool_call_id = %(tool_call_id)s
ORDER BY t.number LIMIT 1

-- name: children_of_question
-- All below the turn that a person began, as a call of one of them sees it.
SELECT count(*) FILTER (WHERE o.ended_at IS NULL) AS open, count(*) AS begun
FROM tool_calls c JOIN turns t ON t.id = c.turn_id
JOIN turns o ON o.ancestors <> '{}' AND o.ancestors @> ARRAY[coalesce(t.ancestors[1], t.id)]
WHERE c.id = %(tool_call_id)s

-- name: stopped_children
-- Open turns of which one above was cancelled or is over, and that nobody has cancelled; all, or those below one turn.
SELECT t.id, t.session_id FROM turns t
WHERE t.ancestors <> '{}' AND t.ended_at IS NULL AND t.cancel_requested_at IS NULL AND stopped_above(t.ancestors)
  AND (%(turn_id)s::text IS NULL OR t.ancestors @> ARRAY[%(turn_id)s::text])
ORDER BY t.id LIMIT %(limit)s

-- name: caller
-- Of a subagent's session: the open turn that waits for it, or the one that began it in the background, also when that has ended.
SELECT p.id AS session_id, p.event_seq_floor, p.event_seq_ceiling, p.incarnation, t.id AS turn_id,
       s.agent_id, s.parent_tool_call_id, s.background_until IS NOT NULL AS background
FROM sessions s JOIN turns t ON t.id = s.parent_turn_id AND (t.ended_at IS NULL OR s.background_until IS NOT NULL)
JOIN sessions p ON p.id = t.session_id
WHERE s.id = %(session_id)s

-- name: lock_child
-- Session before turn, as everywhere.
SELECT t.id, t.ended_at, s.id AS session_id, s.event_seq_floor, s.event_seq_ceiling, s.incarnation
FROM turns t JOIN sessions s ON s.id = t.session_id WHERE t.id = %(turn_id)s
FOR NO KEY UPDATE OF s

-- name: children_of_session
SELECT id, owner_id FROM sessions WHERE parent_session_id = %(session_id)s ORDER BY id LIMIT %(limit)s
