-- name: begin_step
-- In 0066_steps_in_functions.sql, like the next one and `save_step`.
SELECT * FROM begin_turn_step(%(turn_id)s, %(step)s, %(message_id)s, %(now)s, %(quiet_until)s, %(day)s, %(at)s, %(until)s, %(day_tokens)s,
                              %(day_cost_usd)s)

-- name: context_messages
SELECT * FROM context_of(%(turn_id)s, %(step)s, %(limit)s)

-- name: authors_on_path
-- Of all messages up to a turn, for a context that does not reach back to the first and has no answer that tells.
SELECT nullif(ARRAY(SELECT DISTINCT coalesce(m.author, turn_author(m.turn_id, m.created_at))
                    FROM branch_path(t.session_id, t.branch, t.number, 2147483647) path
                    JOIN messages m ON m.session_id = t.session_id AND m.branch = path.branch AND m.role = 'user'
                                   AND (m.turn_number, m.step) <= (path.turn_number, path.step)),
              ARRAY[t.requested_by]) AS authors
FROM turns t WHERE t.id = %(turn_id)s

-- name: reserve
-- More than the share that its step began with, or nothing.
UPDATE token_usage
SET reserved = reserve(reserved, %(turn_id)s, %(at)s, %(until)s,
                       %(day_tokens)s::numeric - input_tokens - output_tokens,
                       %(day_cost_usd)s::numeric - coalesce(cost_usd, 0),
                       %(least_tokens)s, %(most_tokens)s, %(least_cost_usd)s, %(most_cost_usd)s)
WHERE user_id = %(user_id)s AND day = %(day)s
RETURNING reserved

-- name: note_pause
-- What its step reserved is free until it is asked again. What the try said is kept for a turn that ends before the next.
WITH turn AS (
    UPDATE turns SET quiet_until = greatest(quiet_until, %(until)s) WHERE id = %(turn_id)s AND ended_at IS NULL
    RETURNING id, requested_by
), said AS (
    UPDATE messages SET content = %(content)s, words = %(words)s::tsvector, reasoning = nullif(%(reasoning)s, '')
    FROM turn
    WHERE messages.id = %(message_id)s AND messages.turn_id = turn.id AND status = 'streaming' AND attempt = %(attempt)s
)
UPDATE token_usage SET reserved = reserved - turn.id
FROM turn WHERE user_id = turn.requested_by AND day >= %(day)s::date - 1 AND reserved ? turn.id

-- name: save_summary
-- And what it cost, once: whoever was faster has counted his own.
WITH turn AS (
    SELECT id, session_id, requested_by FROM turns WHERE id = %(turn_id)s
), summary AS (
    INSERT INTO conversation_summaries (session_id, branch, turn_number, content, tokens, sources, authors, model,
                                        created_at)
    SELECT turn.session_id, %(branch)s, %(turn_number)s, %(content)s, %(tokens)s, %(sources)s,
           ARRAY(SELECT DISTINCT coalesce(m.author, turn_author(m.turn_id, m.created_at))
                 FROM branch_path(turn.session_id, %(branch)s::integer, %(turn_number)s::integer, 2147483647) path
                 JOIN messages m ON m.session_id = turn.session_id AND m.branch = path.branch AND m.role = 'user'
                                AND (m.turn_number, m.step) <= (path.turn_number, path.step)),
           %(model)s, %(now)s
    FROM turn
    ON CONFLICT (session_id, branch, turn_number) DO NOTHING
)
SELECT 1

-- name: add_usage
-- What a model was asked in vain, or beside the answers of the turn. The session is locked before the turn, as everywhere.
WITH session AS (
    UPDATE sessions SET used_tokens = used_tokens + %(input_tokens)s + %(output_tokens)s,
        used_cost_usd = used_cost_usd + coalesce(%(cost_usd)s, 0)
    WHERE id = (SELECT session_id FROM turns WHERE id = %(turn_id)s)
    RETURNING id
), turn AS (
    UPDATE turns
    SET input_tokens = input_tokens + %(input_tokens)s, output_tokens = output_tokens + %(output_tokens)s,
        cached_input_tokens = cached_input_tokens + %(cached_input_tokens)s,
        reasoning_tokens = reasoning_tokens + %(reasoning_tokens)s,
        cost_usd = CASE WHEN %(cost_usd)s::numeric IS NULL THEN cost_usd ELSE coalesce(cost_usd, 0) + %(cost_usd)s END,
        counted_tokens = counted_tokens + %(input_tokens)s + %(output_tokens)s
    FROM session WHERE turns.id = %(turn_id)s
    RETURNING turns.requested_by
)
INSERT INTO token_usage (user_id, day, input_tokens, output_tokens, cached_input_tokens, reasoning_tokens, cost_usd)
SELECT requested_by, %(day)s, %(input_tokens)s, %(output_tokens)s, %(cached_input_tokens)s, %(reasoning_tokens)s,
       %(cost_usd)s::numeric
FROM turn
ON CONFLICT (user_id, day) DO UPDATE
SET input_tokens = token_usage.input_tokens + excluded.input_tokens,
    output_tokens = token_usage.output_tokens + excluded.output_tokens,
    cached_input_tokens = token_usage.cached_input_tokens + excluded.cached_input_tokens,
    reasoning_tokens = token_usage.reasoning_tokens + excluded.reasoning_tokens,
    cost_usd = coalesce(token_usage.cost_usd + excluded.cost_usd, token_usage.cost_usd, excluded.cost_usd)

-- name: leave_out
-- What the provider's filter refused: the results that the step before it left and the messages that joined after it, or,
-- where a model would read none of them any more, the question of the turn. Fenced by the attempt, as what an answer is stored
-- by.
WITH newest AS (
    SELECT 1 FROM messages
    WHERE turn_id = %(turn_id)s AND step = %(step)s AND ordinal = 0 AND status = 'streaming' AND attempt = %(attempt)s
), results AS (
    UPDATE messages SET left_out = 'content_filter'
    WHERE left_out IS NULL AND turn_id = %(turn_id)s AND step = %(step)s - 1
      AND (role = 'tool' OR role = 'user' AND ordinal > 0) AND EXISTS (SELECT 1 FROM newest)
    RETURNING id, role
), question AS (
    UPDATE messages SET left_out = 'content_filter'
    WHERE left_out IS NULL AND id = (SELECT message_id FROM turns WHERE id = %(turn_id)s)
      AND NOT EXISTS (SELECT 1 FROM results) AND EXISTS (SELECT 1 FROM newest)
    RETURNING id, role
)
SELECT id, role FROM results UNION ALL SELECT id, role FROM question

-- name: leave_out_before
-- All that a turn reads of earlier ones, since its question is let through and they are not. A turn is not read whose
-- question is left out; what is summarised of them goes, too.
WITH turn AS (
    SELECT t.session_id, t.branch, t.number, t.message_id FROM turns t
    WHERE t.id = %(turn_id)s AND EXISTS (
        SELECT 1 FROM messages WHERE turn_id = t.id AND status = 'streaming' AND attempt = %(attempt)s)
), path AS MATERIALIZED (
    SELECT part.* FROM turn CROSS JOIN LATERAL branch_path(turn.session_id, turn.branch, turn.number, 2147483647) part
), marked AS (
    UPDATE messages m SET left_out = 'content_filter'
    FROM turn, path
    WHERE m.session_id = turn.session_id AND m.branch = path.branch
      AND (m.turn_number, m.step) <= (path.turn_number, path.step)
      AND m.role = 'user' AND m.left_out IS NULL AND m.id <> turn.message_id AND m.turn_number < turn.number
)
DELETE FROM conversation_summaries s USING turn, path
WHERE s.session_id = turn.session_id AND s.branch = path.branch AND s.turn_number < path.turn_number

-- name: take_in
UPDATE messages SET left_out = NULL WHERE id = (SELECT message_id FROM turns WHERE id = %(turn_id)s) RETURNING id

-- name: restate_step
-- A stored step that is asked for again: whoever did it was cut off before it could say so, perhaps before it had sent
-- everything. The higher attempt lets its text be sent whole once more. What comes after it begins at once.
WITH turn AS (
    -- Never earlier: it may come late, while a later step streams.
    UPDATE turns SET quiet_until = greatest(quiet_until, %(now)s)
    WHERE id = %(turn_id)s AND EXISTS (
        SELECT FROM messages WHERE turn_id = %(turn_id)s AND step = %(step)s AND ordinal = 0 AND status <> 'streaming')
)
UPDATE messages m SET attempt = m.attempt + 1
FROM sessions s, turns t
WHERE m.turn_id = %(turn_id)s AND m.step = %(step)s AND m.ordinal = 0 AND m.status <> 'streaming' AND s.id = m.session_id
  AND t.id = m.turn_id
RETURNING m.id AS message_id, m.session_id, m.status, m.content, m.finish_reason, m.reasoning, m.output, m.attempt, s.event_seq_floor, s.event_seq_ceiling, s.incarnation,
    t.error_code, t.error_detail, coalesce(t.joined_step >= m.step, false) AS is_joined,
    coalesce((SELECT jsonb_agg(jsonb_build_object('id', c.id, 'name', c.name, 'arguments', c.arguments,
                                                  'needs_approval', c.needs_approval, 'is_client', c.is_client)
                              ORDER BY c.ordinal)
              FROM tool_calls c WHERE c.message_id = m.id), '[]') AS calls

-- name: step_is_stored
-- By this attempt, and not closed with its turn: an answer that was saved names its authors.
SELECT coalesce(t.joined_step >= m.step, false) AS is_joined
FROM messages m JOIN turns t ON t.id = m.turn_id
WHERE m.id = %(message_id)s AND m.attempt = %(attempt)s AND m.status <> 'streaming' AND m.authors IS NOT NULL

-- name: save_step
SELECT * FROM save_turn_step(%(message_id)s, %(attempt)s, %(content)s, %(status)s, %(provider_calls)s, %(tokens)s, %(sources)s, %(authors)s,
                             %(finish_reason)s, %(reasoning)s, %(kept)s, %(output)s, %(words)s, %(input_tokens)s, %(output_tokens)s,
                             %(cached_input_tokens)s, %(reasoning_tokens)s, %(cost_usd)s, %(day)s, %(now)s, %(error_code)s,
                             %(error_detail)s, %(calls)s, %(closes)s, %(hub)s)

-- name: queued_step
-- A step that is stored is only said again, and asks no model.
SELECT t.requested_by, t.plan ->> 'model' AS model, t.session_id, s.event_seq_floor, s.event_seq_ceiling, s.incarnation
FROM turns t JOIN sessions s ON s.id = t.session_id
WHERE t.id = %(turn_id)s AND t.ended_at IS NULL AND t.cancel_requested_at IS NULL AND NOT EXISTS (
    SELECT FROM messages m
    WHERE m.turn_id = t.id AND m.step = %(step)s AND m.ordinal = 0 AND m.status <> 'streaming')

-- name: turn_state
-- Of a turn that began no step. held: only its session kept it from that, which may have been resumed since then.
SELECT t.status, t.cancel_requested_at,
       t.ended_at IS NULL AND t.cancel_requested_at IS NULL AND s.status IN ('ACTIVE', 'SUSPENDED')
       AND NOT stopped_above(t.ancestors)
       AND (s.owner_id = t.requested_by OR EXISTS (
           SELECT 1 FROM session_participants p
           WHERE p.session_id = coalesce(s.root_session_id, s.id) AND p.user_id = t.requested_by AND p.access = 'write')) AS held
FROM turns t JOIN sessions s ON s.id = t.session_id WHERE t.id = %(turn_id)s
