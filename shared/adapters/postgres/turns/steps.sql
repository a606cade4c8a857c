-- name: begin_step
-- The session is locked before the turn, as everywhere: a cancel that comes at the same time waits, and is not killed.
-- A turn acts for its user: one that was posted while they were taken out, and so not cancelled, goes no further. Nor does
-- one whose session is suspended, whatever its orchestration has heard of that.
WITH session AS (
    UPDATE sessions SET last_message_number = last_message_number + 1
    FROM turns
    WHERE turns.id = %(turn_id)s AND turns.session_id = sessions.id AND turns.ended_at IS NULL
      AND turns.cancel_requested_at IS NULL AND sessions.status = 'ACTIVE'
      AND NOT stopped_above(turns.ancestors) AND NOT held_above(turns.ancestors)
      AND (sessions.owner_id = turns.requested_by OR EXISTS (
          SELECT 1 FROM session_participants p
          WHERE p.session_id = coalesce(sessions.root_session_id, sessions.id)
            AND p.user_id = turns.requested_by AND p.access = 'write'))
    RETURNING sessions.last_message_number, sessions.event_seq_floor, sessions.event_seq_ceiling, sessions.incarnation,
              sessions.used_tokens, sessions.used_cost_usd, sessions.granted_tools,
              (sessions.config ->> 'max_session_tokens')::bigint AS max_session_tokens,
              (sessions.config ->> 'max_session_cost_usd')::float8 AS max_session_cost_usd
), turn AS (
    UPDATE turns
    SET status = 'running', started_at = coalesce(started_at, %(now)s), steps = greatest(steps, %(step)s),
        -- A step that is stored is only said again.
        quiet_until = CASE WHEN EXISTS (
            SELECT FROM messages m
            WHERE m.turn_id = %(turn_id)s AND m.step = %(step)s AND m.ordinal = 0 AND m.status <> 'streaming'
        ) THEN turns.quiet_until ELSE %(quiet_until)s END
    FROM session
    WHERE id = %(turn_id)s AND ended_at IS NULL AND cancel_requested_at IS NULL
    RETURNING id, session_id, number, branch, requested_by, plan, input_tokens + output_tokens AS used_tokens,
              counted_tokens, cost_usd, ancestors
), message AS (
    INSERT INTO messages (id, session_id, turn_id, number, branch, turn_number, step, ordinal, role, content, status,
                          tokens, created_at, agent_id)
    SELECT %(message_id)s, turn.session_id, turn.id, session.last_message_number, turn.branch, turn.number, %(step)s, 0,
           'assistant', '', 'streaming', 0, %(now)s, turn.plan ->> 'agent_id'
    FROM turn, session
    ON CONFLICT (turn_id, step, ordinal) DO UPDATE SET attempt = messages.attempt + 1, content = '', words = NULL, reasoning = NULL
        WHERE messages.status = 'streaming'
    RETURNING id, attempt, created_at
), day AS (
    -- Only where the day has a limit. Last of all locks, as wherever usage is counted.
    INSERT INTO token_usage (user_id, day, input_tokens, output_tokens, reserved)
    SELECT turn.requested_by, %(day)s, 0, 0,
           reserve('{}', turn.id, %(at)s, %(until)s, %(day_tokens)s, %(day_cost_usd)s, NULL, NULL, NULL, NULL)
    FROM turn JOIN message ON true
    WHERE %(day_tokens)s::bigint IS NOT NULL OR %(day_cost_usd)s::numeric IS NOT NULL
    ON CONFLICT (user_id, day) DO UPDATE
    SET reserved = reserve(token_usage.reserved, %(turn_id)s, %(at)s, %(until)s,
                           %(day_tokens)s::numeric - token_usage.input_tokens - token_usage.output_tokens,
                           %(day_cost_usd)s::numeric - coalesce(token_usage.cost_usd, 0), NULL, NULL, NULL, NULL)
    RETURNING input_tokens + output_tokens AS tokens, cost_usd, reserved
)
SELECT turn.session_id, turn.requested_by, turn.plan, session.event_seq_floor, session.event_seq_ceiling,
       session.incarnation, session.granted_tools, message.id AS message_id, message.attempt, message.created_at AS message_created_at,
       turn.used_tokens AS turn_tokens, turn.used_tokens - turn.counted_tokens AS uncounted_tokens,
       session.used_tokens AS session_tokens, session.max_session_tokens,
       turn.cost_usd AS turn_cost_usd, session.used_cost_usd AS session_cost_usd, session.max_session_cost_usd,
       coalesce(day.tokens, usage.tokens) AS user_day_tokens, coalesce(day.cost_usd, usage.cost_usd) AS user_day_cost_usd,
       day.reserved,
       (SELECT coalesce(max(floor(extract(epoch FROM n.joined_at) * 1000)), 0)::bigint FROM session_subscriptions n
        WHERE n.session_id = turn.session_id AND n.ended_at IS NULL) AS subscribed_ms,
       ARRAY(SELECT a.arguments_digest FROM approvals a
             WHERE a.turn_id = turn.id AND a.status IN ('rejected', 'timed_out')) AS declined_digests,
       (SELECT coalesce(sum(c.choice_bits), 0) FROM tool_calls c
        WHERE c.turn_id = turn.id AND c.step < %(step)s AND NOT c.contained) + bits_beside(turn.id, turn.ancestors) AS spent_bits,
       above.tokens AS tokens_left_above, above.cost_usd AS cost_left_above_usd
FROM turn CROSS JOIN session LEFT JOIN message ON true LEFT JOIN day ON true CROSS JOIN LATERAL left_above(turn.ancestors) AS above
LEFT JOIN LATERAL (SELECT u.input_tokens + u.output_tokens AS tokens, u.cost_usd FROM token_usage u
                   WHERE u.user_id = turn.requested_by AND u.day = %(day)s) usage ON true

-- name: context_messages
-- The turn's branch up to the step before this one; of what a summary stands for, the newest summary on the way alone. The
-- bound on each part keeps an endless one from being read whole. What an API wants back, it wants within the turn. Authors
-- are null where the user that the turn runs for is the only one.
WITH turn AS (
    SELECT id, session_id, branch, number, requested_by, message_id FROM turns WHERE id = %(turn_id)s
), path AS MATERIALIZED (
    SELECT part.* FROM turn
    CROSS JOIN LATERAL branch_path(turn.session_id, turn.branch, turn.number, %(step)s::integer - 1) part
), summary AS MATERIALIZED (
    SELECT s.* FROM turn CROSS JOIN path
    JOIN conversation_summaries s ON s.session_id = turn.session_id AND s.branch = path.branch
                                 AND s.turn_number < path.turn_number
    ORDER BY s.turn_number DESC LIMIT 1
)
SELECT m.role, m.content, m.tool_call_id, m.calls, m.tokens, m.turn_number, m.step, m.status, m.attachment_note,
       m.attachments, m.sources,
       CASE m.role
           WHEN 'user' THEN nullif(ARRAY[coalesce(m.author, turn_author(m.turn_id, m.created_at))], ARRAY[turn.requested_by])
           WHEN 'assistant' THEN nullif(coalesce(m.authors, '{}'), ARRAY[turn.requested_by])
       END,
       m.finish_reason, m.left_out, CASE WHEN m.turn_id = turn.id THEN m.kept END, m.branch,
       m.role = 'user' AND m.ordinal > 0 AND m.id <> turn.message_id, m.ordinal
FROM turn CROSS JOIN path
CROSS JOIN LATERAL (
    SELECT o.* FROM messages o
    WHERE o.session_id = turn.session_id AND o.branch = path.branch AND o.status <> 'streaming'
      AND (o.turn_number, o.step) <= (path.turn_number, path.step)
      AND o.turn_number > coalesce((SELECT summary.turn_number FROM summary), 0)
    ORDER BY o.turn_number DESC, o.step DESC, o.ordinal DESC
    LIMIT %(limit)s
) m
UNION ALL
SELECT 'summary', summary.content, NULL, NULL, summary.tokens, summary.turn_number, 2147483647, 'completed', NULL, NULL,
       summary.sources, nullif(summary.authors, ARRAY[turn.requested_by]), NULL, NULL, NULL, summary.branch, false, 0
FROM summary, turn
ORDER BY turn_number DESC, step DESC, ordinal DESC
LIMIT %(limit)s + (SELECT count(*) FROM summary)

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
-- What it used counts at once, for its turn, its session and its user's day: a budget binds while a turn waits, too. The
-- session is locked before the turn, as everywhere. Parameters come in the smallest type that holds them: two that are
-- added have to be told that their sum may be larger.
-- closes: the turn ends with it, unless older code stored something of it that is not counted yet, which `finish_turn` counts, or
-- a message joined the turn since the step began. One that joins at this moment holds the session, and has written into the
-- turn's row, which is read anew; what is in other tables by then, this statement does not see.
WITH session AS (
    SELECT id, event_seq_floor, event_seq_ceiling, incarnation FROM sessions
    WHERE id = (SELECT session_id FROM messages WHERE id = %(message_id)s)
    FOR NO KEY UPDATE
), message AS (
    UPDATE messages
    SET content = %(content)s, status = %(status)s, calls = %(provider_calls)s, tokens = %(tokens)s,
        sources = %(sources)s, authors = %(authors)s, finish_reason = %(finish_reason)s, reasoning = %(reasoning)s, kept = %(kept)s,
        output = %(output)s, words = %(words)s::tsvector
    FROM session
    WHERE messages.id = %(message_id)s AND messages.status = 'streaming' AND attempt = %(attempt)s
    RETURNING messages.id, session_id, turn_id, step
), turn AS (
    UPDATE turns
    SET input_tokens = input_tokens + %(input_tokens)s, output_tokens = output_tokens + %(output_tokens)s,
        cached_input_tokens = cached_input_tokens + %(cached_input_tokens)s,
        reasoning_tokens = reasoning_tokens + %(reasoning_tokens)s,
        cost_usd = CASE WHEN %(cost_usd)s::numeric IS NULL THEN cost_usd ELSE coalesce(cost_usd, 0) + %(cost_usd)s END,
        counted_tokens = counted_tokens + %(input_tokens)s + %(output_tokens)s,
        finish_reason = %(finish_reason)s, quiet_until = %(now)s, restarts = 0,
        error_code = CASE WHEN NOT %(closes)s THEN coalesce(%(error_code)s, error_code) END,
        error_detail = CASE WHEN NOT %(closes)s THEN coalesce(%(error_detail)s, error_detail) END,
        status = CASE WHEN %(closes)s AND ended_at IS NULL AND input_tokens + output_tokens = counted_tokens
                      AND coalesce(joined_step < message.step, true)
                 THEN 'completed' ELSE status END,
        ended_at = CASE WHEN %(closes)s AND ended_at IS NULL AND input_tokens + output_tokens = counted_tokens
                        AND coalesce(joined_step < message.step, true)
                   THEN %(now)s ELSE ended_at END
    FROM message WHERE turns.id = message.turn_id
    RETURNING turns.*
), freed AS (
    -- What it reserved before midnight, when it began.
    UPDATE token_usage u SET reserved = u.reserved - turn.id
    FROM turn
    WHERE turn.ended_at IS NOT NULL AND u.user_id = turn.requested_by AND u.day = %(day)s::date - 1 AND u.reserved ? turn.id
), used AS (
    UPDATE sessions SET used_tokens = used_tokens + %(input_tokens)s + %(output_tokens)s,
        used_cost_usd = used_cost_usd + coalesce(%(cost_usd)s, 0)
    FROM message WHERE sessions.id = message.session_id AND %(input_tokens)s::bigint + %(output_tokens)s > 0
), usage AS (
    INSERT INTO token_usage AS u (user_id, day, input_tokens, output_tokens, cached_input_tokens, reasoning_tokens, cost_usd)
    SELECT requested_by, %(day)s, %(input_tokens)s, %(output_tokens)s, %(cached_input_tokens)s, %(reasoning_tokens)s,
           %(cost_usd)s::numeric
    FROM turn WHERE %(input_tokens)s::bigint + %(output_tokens)s > 0 OR EXISTS (
        SELECT FROM token_usage o WHERE o.user_id = turn.requested_by AND o.day = %(day)s AND o.reserved ? turn.id)
    ON CONFLICT (user_id, day) DO UPDATE
    SET reserved = u.reserved - (SELECT turn.id FROM turn),
        input_tokens = u.input_tokens + excluded.input_tokens,
        output_tokens = u.output_tokens + excluded.output_tokens,
        cached_input_tokens = u.cached_input_tokens + excluded.cached_input_tokens,
        reasoning_tokens = u.reasoning_tokens + excluded.reasoning_tokens,
        cost_usd = coalesce(u.cost_usd + excluded.cost_usd, u.cost_usd, excluded.cost_usd)
), calls AS (
    INSERT INTO tool_calls (id, session_id, turn_id, message_id, step, ordinal, provider_call_id, name, arguments,
                            argument_error, needs_approval, contained, declined, choice_bits, is_client, status)
    SELECT c.id, message.session_id, message.turn_id, message.id, message.step, c.ordinal, c.provider_call_id, c.name,
           c.arguments, c.argument_error, c.needs_approval, c.contained, c.declined, c.choice_bits, c.is_client, 'pending'
    FROM message, jsonb_populate_recordset(NULL::tool_calls, %(calls)s) c
)
SELECT m.session_id, s.event_seq_floor, s.event_seq_ceiling, s.incarnation, t.status,
       t.error_code, t.error_detail, t.steps, t.input_tokens, t.output_tokens, t.cached_input_tokens,
       t.reasoning_tokens, t.cost_usd, t.finish_reason, coalesce(t.started_at, t.created_at) AS began_at,
       t.ended_at, t.plan ->> 'agent_id' AS agent_id, t.plan ->> 'agent_version' AS agent_version,
       t.plan ->> 'model' AS model, t.plan ->> 'traceparent' AS traceparent,
       t.plan ->> 'correlation_id' AS correlation_id, answered_call(t.id) AS answers,
       coalesce(t.joined_step >= m.step, false) AS is_joined
FROM message m CROSS JOIN session s LEFT JOIN turn t ON true

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
