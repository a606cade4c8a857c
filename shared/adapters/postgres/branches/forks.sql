-- name: session_to_fork
-- Held against erasure only: turns go on, and what they store meanwhile is simply not part of the copy.
SELECT s.*, CASE WHEN s.owner_id = %(user_id)s THEN 'owner' ELSE p.access END AS access
FROM sessions s
LEFT JOIN session_participants p ON p.session_id = s.id AND p.user_id = %(user_id)s
WHERE s.id = %(session_id)s AND (s.owner_id = %(user_id)s OR p.user_id IS NOT NULL)
FOR KEY SHARE OF s

-- name: place_of_message
SELECT m.branch, m.turn_number, m.step, (m.step > 0 OR m.ordinal > 0) AND t.ended_at IS NULL AS is_open
FROM messages m LEFT JOIN turns t ON t.id = m.turn_id
WHERE m.session_id = %(session_id)s AND m.id = %(message_id)s

-- name: count_history
SELECT count(*) AS messages FROM (
    SELECT 1 FROM branch_path(%(source_id)s, %(branch)s, %(turn_number)s, %(step)s) part
    JOIN messages m ON m.session_id = %(source_id)s AND m.branch = part.branch
                   AND (m.turn_number, m.step) <= (part.turn_number, part.step)
    LIMIT %(limit)s
) counted

-- name: steady_plan
-- For this transaction. How many rows a session has is a guess of the planner's, worst for one that has just grown; where
-- it guesses few, it nests loops over the whole history (10,000 messages: 20 s instead of 3). Hashing is never bad here.
SELECT set_config('enable_nestloop', 'off', true), set_config('jit', 'off', true)

-- name: copy_history
-- One statement, so that all of it is of one moment. A new id keeps the time in the old one and takes the rest from a
-- hash of both, so that copies sort as their originals do. What the turns cost was spent there, and counts there.
WITH picked AS MATERIALIZED (
    SELECT m.id, m.turn_id, m.number, m.turn_number, m.step,
           m.step > 0 OR m.ordinal > 0 AS is_said, -- in its turn, and not what began that
           left(m.id, 15) || regexp_replace(left(md5(%(fork_id)s || m.id), 18), '^(.{3})(.{3})', '\1-8\2-') AS new_id
    FROM branch_path(%(source_id)s, %(branch)s, %(turn_number)s, %(step)s) part
    JOIN messages m ON m.session_id = %(source_id)s AND m.branch = part.branch
                   AND (m.turn_number, m.step) <= (part.turn_number, part.step)
    LEFT JOIN turns t ON t.id = m.turn_id
    WHERE t.id IS NULL OR t.ended_at IS NOT NULL OR m.id = %(message_id)s::text
), turn AS MATERIALIZED ( -- those that answered something on this branch
    SELECT t.id, t.message_id, said.steps,
           left(t.id, 15) || regexp_replace(left(md5(%(fork_id)s || t.id), 18), '^(.{3})(.{3})', '\1-8\2-') AS new_id
    FROM (SELECT turn_id, max(step) AS steps FROM picked WHERE step > 0 GROUP BY turn_id) said
    JOIN turns t ON t.session_id = %(source_id)s AND t.id = said.turn_id
), call AS MATERIALIZED (
    SELECT c.id, turn.new_id AS turn_id, picked.new_id AS message_id,
           left(c.id, 15) || regexp_replace(left(md5(%(fork_id)s || c.id), 18), '^(.{3})(.{3})', '\1-8\2-') AS new_id
    FROM picked
    JOIN tool_calls c ON c.session_id = %(source_id)s AND c.message_id = picked.id
    JOIN turn ON turn.id = c.turn_id
), copied_turns AS (
    INSERT INTO turns (id, session_id, number, message_id, requested_by, status, plan, steps, error_code, error_detail,
                       created_at, started_at, ended_at, dispatched_at, cancel_requested_at, finish_reason)
    SELECT turn.new_id, %(fork_id)s, t.number, asked.new_id, t.requested_by, t.status, t.plan, turn.steps, t.error_code,
           t.error_detail, t.created_at, t.started_at, t.ended_at, t.dispatched_at, t.cancel_requested_at, t.finish_reason
    FROM turn JOIN turns t ON t.session_id = %(source_id)s AND t.id = turn.id JOIN picked asked ON asked.id = t.message_id
    ORDER BY t.number
), copied_messages AS (
    -- A question is of the turn that answers it here, which another one may have been where it was asked.
    INSERT INTO messages (id, session_id, turn_id, number, turn_number, step, ordinal, role, content, status, tool_call_id,
                          calls, attempt, tokens, created_at, attachments, attachment_note, sources, authors, author,
                          finish_reason, reasoning, output, left_out, words, agent_id, from_subagent)
    SELECT picked.new_id, %(fork_id)s, coalesce(answering.new_id, saying.new_id), m.number, m.turn_number, m.step,
           m.ordinal, m.role, m.content, m.status, m.tool_call_id, m.calls, m.attempt, m.tokens, m.created_at,
           m.attachments, m.attachment_note, m.sources, m.authors,
           CASE WHEN m.role = 'user' THEN coalesce(m.author, turn_author(m.turn_id, m.created_at)) END, m.finish_reason, m.reasoning,
           m.output, m.left_out, w.words, m.agent_id, m.from_subagent
    FROM picked
    JOIN messages m ON m.session_id = %(source_id)s AND m.id = picked.id
    LEFT JOIN message_words w ON w.session_id = %(source_id)s AND w.message_id = picked.id
    LEFT JOIN turn answering ON answering.message_id = picked.id AND NOT picked.is_said
    LEFT JOIN turn saying ON saying.id = picked.turn_id AND picked.is_said
    ORDER BY m.number
), copied_summaries AS (
    -- Those of which all that they stand for is taken; a copy is one branch.
    INSERT INTO conversation_summaries (session_id, branch, turn_number, content, tokens, sources, authors, model,
                                        created_at)
    SELECT %(fork_id)s, 0, s.turn_number, s.content, s.tokens, s.sources, s.authors, s.model, s.created_at
    FROM branch_path(%(source_id)s, %(branch)s, %(turn_number)s, %(step)s) part
    JOIN conversation_summaries s ON s.session_id = %(source_id)s AND s.branch = part.branch
                                 AND s.turn_number < part.turn_number
), copied_calls AS (
    INSERT INTO tool_calls (id, session_id, turn_id, message_id, step, ordinal, provider_call_id, name, arguments,
                            decided_arguments, argument_error, needs_approval, contained, declined, choice_bits, is_client,
                            status, result, error_code, begun_at, ended_at)
    SELECT call.new_id, %(fork_id)s, call.turn_id, call.message_id, c.step, c.ordinal, c.provider_call_id, c.name,
           c.arguments, c.decided_arguments, c.argument_error, c.needs_approval, c.contained, c.declined, c.choice_bits,
           c.is_client, c.status, c.result, c.error_code, c.begun_at, c.ended_at
    FROM call JOIN tool_calls c ON c.session_id = %(source_id)s AND c.id = call.id
), copied_files AS (
    -- Those that came with a message that is taken, or that a call that is taken made. The bytes are shared: the rows of
    -- both sessions name one blob, which goes with the last of them.
    INSERT INTO attachments (session_id, id, created_by, name, kind, media_type, size_bytes, sha256, blob_name, text,
                             text_chars, facts, warnings, tool_call_id, tool_call_file, created_at)
    SELECT %(fork_id)s, a.id, a.created_by, a.name, a.kind, a.media_type, a.size_bytes, a.sha256, a.blob_name, a.text,
           a.text_chars, a.facts, a.warnings, call.new_id, a.tool_call_file, a.created_at
    FROM attachments a LEFT JOIN call ON call.id = a.tool_call_id
    WHERE a.session_id = %(source_id)s AND (call.id IS NOT NULL OR a.id IN (
        SELECT sent ->> 'id'
        FROM picked
        JOIN messages m ON m.session_id = %(source_id)s AND m.id = picked.id AND m.attachments IS NOT NULL
        CROSS JOIN LATERAL jsonb_array_elements(m.attachments) sent))
)
UPDATE sessions
SET last_message_number = last.number, last_turn_number = last.turn_number
FROM (SELECT coalesce(max(number), 0) AS number, coalesce(max(turn_number), 0) AS turn_number FROM picked) last
WHERE id = %(fork_id)s
