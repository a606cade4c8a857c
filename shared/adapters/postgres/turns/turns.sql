-- name: open_turns
SELECT id, status, dispatched_at, requested_by FROM turns
WHERE session_id = %(session_id)s AND ended_at IS NULL
ORDER BY number

-- name: turn_to_join
-- The turn of a locked session that takes another message before its next step: it runs, and its newest step is not its last.
-- What an answer without calls was stored without, before the turn went on for it, joined it while it was written.
SELECT t.id, t.requested_by, t.plan, t.steps, joined.messages, joined.tokens
FROM turns t JOIN sessions s ON s.id = t.session_id
CROSS JOIN LATERAL (
    SELECT count(*) FILTER (WHERE m.ordinal > 0) AS messages, coalesce(sum(m.tokens), 0)::bigint AS tokens
    FROM messages m WHERE m.turn_id = t.id AND m.role = 'user'
) joined
WHERE t.session_id = %(session_id)s AND t.ended_at IS NULL AND t.dispatched_at IS NOT NULL AND t.cancel_requested_at IS NULL
  AND t.branch = s.active_branch
  AND (t.steps = 0 OR EXISTS (
      SELECT FROM messages m
      WHERE m.turn_id = t.id AND m.step = t.steps AND m.ordinal = 0
        AND (m.status = 'streaming' OR m.status = 'completed' AND (m.calls IS NOT NULL OR t.joined_step >= t.steps))))

-- name: insert_joined_message
-- Behind all that its step has, or will have: a step has as many results as calls, which are far fewer.
WITH session AS (
    UPDATE sessions SET last_message_number = last_message_number + 1, updated_at = %(now)s
    WHERE id = %(session_id)s
    RETURNING last_message_number
), turn AS (
    UPDATE turns SET joined_step = steps WHERE id = %(joins)s
    RETURNING id, branch, number, steps
)
INSERT INTO messages (id, session_id, turn_id, number, branch, turn_number, step, ordinal, role, content, status, tokens,
                      created_at, attachments, attachment_note, sources, author, words)
SELECT %(message_id)s, %(session_id)s, turn.id, session.last_message_number, turn.branch, turn.number, turn.steps,
       (SELECT greatest(999999, max(o.ordinal)) + 1 FROM messages o
        WHERE o.turn_id = turn.id AND o.step = turn.steps AND o.role = 'user'),
       'user', %(content)s, 'completed', %(tokens)s, %(now)s, %(attachments)s, %(note)s, %(sources)s, %(user_id)s,
       %(words)s::tsvector
FROM turn, session
RETURNING (SELECT o.id FROM messages o
           WHERE o.turn_id = messages.turn_id AND o.step = messages.step AND o.step > 0 AND o.ordinal = 0) AS joined_after

-- name: has_open_turns
SELECT EXISTS (SELECT 1 FROM turns WHERE session_id = %(session_id)s AND ended_at IS NULL) AS open

-- name: insert_user_turn
-- With the checkpoint before it: a pointer into these rows, stored with them, can neither miss nor dangle. left_branch: the
-- one that was active before, where the turn begins a new one.
WITH session AS (
    UPDATE sessions
    SET last_message_number = last_message_number + 1, last_turn_number = last_turn_number + 1,
        status = 'ACTIVE', updated_at = %(now)s, title = coalesce(title, %(title)s)
    WHERE id = %(session_id)s
    RETURNING *
), turn AS (
    INSERT INTO turns (id, session_id, number, branch, message_id, requested_by, status, plan, created_at, dispatched_at,
                       hub, quiet_until)
    SELECT %(turn_id)s, %(session_id)s, last_turn_number, active_branch, %(message_id)s, %(user_id)s, 'queued', %(plan)s,
           %(now)s, CASE WHEN %(dispatch)s THEN %(now)s::timestamptz END, CASE WHEN %(dispatch)s THEN %(hub)s::text END, %(now)s
    FROM session
), checkpoint AS (
    INSERT INTO session_checkpoints (session_id, id, branch, turn_number, automatic, name, status, agent_id, config, tags,
                                     metadata, created_at)
    SELECT %(session_id)s, %(checkpoint_id)s, coalesce(%(left_branch)s::integer, active_branch), last_turn_number - 1, true, name, status, agent_id, config, tags,
           metadata, %(now)s
    FROM session
)
INSERT INTO messages (id, session_id, turn_id, number, branch, turn_number, step, ordinal, role, content, status, tokens,
                      created_at, attachments, attachment_note, sources, author, words)
SELECT %(message_id)s, %(session_id)s, %(turn_id)s, last_message_number, active_branch, last_turn_number, 0, 0, 'user',
       %(content)s, 'completed', %(tokens)s, %(now)s, %(attachments)s, %(note)s, %(sources)s, %(user_id)s, %(words)s::tsvector
FROM session

-- name: insert_user_turn_if_free
-- The common case in one statement: the session takes messages and no turn of it is open. Of two at once the second
-- finds no row, or is refused by turns_one_dispatched; the caller then takes the long way.
WITH session AS (
    UPDATE sessions
    SET last_message_number = last_message_number + 1, last_turn_number = last_turn_number + 1,
        status = 'ACTIVE', updated_at = %(now)s, title = coalesce(title, %(title)s)
    WHERE id = %(session_id)s AND status IN ('CREATED', 'ACTIVE')
      AND (owner_id = %(user_id)s OR EXISTS (
          SELECT 1 FROM session_participants p
          WHERE p.session_id = sessions.id AND p.user_id = %(user_id)s AND p.access = ANY (%(may_post)s)))
      AND NOT EXISTS (SELECT 1 FROM turns t WHERE t.session_id = sessions.id AND t.ended_at IS NULL)
    RETURNING *
), turn AS (
    INSERT INTO turns (id, session_id, number, branch, message_id, requested_by, status, plan, created_at, dispatched_at,
                       hub, quiet_until)
    SELECT %(turn_id)s, %(session_id)s, last_turn_number, active_branch, %(message_id)s, %(user_id)s, 'queued', %(plan)s,
           %(now)s, %(now)s, %(hub)s, %(now)s
    FROM session
), checkpoint AS (
    INSERT INTO session_checkpoints (session_id, id, branch, turn_number, automatic, name, status, agent_id, config, tags,
                                     metadata, created_at)
    SELECT %(session_id)s, %(checkpoint_id)s, active_branch, last_turn_number - 1, true, name, status, agent_id, config, tags,
           metadata, %(now)s
    FROM session
), message AS (
    INSERT INTO messages (id, session_id, turn_id, number, branch, turn_number, step, ordinal, role, content, status,
                          tokens, created_at, attachments, attachment_note, sources, author, words)
    SELECT %(message_id)s, %(session_id)s, %(turn_id)s, last_message_number, active_branch, last_turn_number, 0, 0, 'user',
           %(content)s, 'completed', %(tokens)s, %(now)s, %(attachments)s, %(note)s, %(sources)s, %(user_id)s,
           %(words)s::tsvector
    FROM session
)
SELECT session.event_seq_floor, session.event_seq_ceiling, session.incarnation, session.active_branch,
       before.status = 'CREATED' AS activated,
       -- Whoever made it may have been killed before it was told of: then its log begins with this message.
       before.status = 'CREATED' AND before.created_at > %(now)s - interval '10 minutes' AS may_seed,
       before.created_at AS made_at
FROM session, sessions before -- as it was when the statement began
WHERE before.id = %(session_id)s

-- name: cancel_requested
SELECT id FROM turns WHERE id = ANY(%(turn_ids)s) AND (cancel_requested_at IS NOT NULL OR ended_at IS NOT NULL)

-- name: lock_turn_for_user
-- NO KEY, here and wherever a session is locked to be changed: a row that is added to it only needs it to stay, and must
-- not wait for this while it holds its turn (two who wait for each other: one of them is killed).
SELECT t.id, t.session_id, t.status, t.dispatched_at, t.ended_at, t.requested_by, s.event_seq_floor, s.event_seq_ceiling, s.incarnation,
       CASE WHEN s.owner_id = %(user_id)s THEN 'owner' ELSE p.access END AS access
FROM turns t
JOIN sessions s ON s.id = t.session_id
LEFT JOIN session_participants p ON p.session_id = s.id AND p.user_id = %(user_id)s
WHERE t.id = %(turn_id)s AND t.session_id = %(session_id)s AND (s.owner_id = %(user_id)s OR p.user_id IS NOT NULL)
FOR NO KEY UPDATE OF s

-- name: request_cancel
UPDATE turns
SET cancel_requested_at = coalesce(cancel_requested_at, %(now)s),
    status = CASE WHEN dispatched_at IS NULL THEN 'cancelled' ELSE status END,
    ended_at = CASE WHEN dispatched_at IS NULL THEN %(now)s ELSE ended_at END
WHERE id = ANY(%(turn_ids)s) AND ended_at IS NULL
RETURNING id, dispatched_at, ended_at

-- name: cancel_approvals
-- And what else calls wait for.
WITH waits AS (
    UPDATE tool_waits SET status = 'cancelled', ended_at = %(now)s, state = NULL
    WHERE turn_id = ANY(%(turn_ids)s) AND status = 'pending'
    RETURNING id, instance_id
), approvals AS (
    UPDATE approvals SET status = 'cancelled', decided_at = %(now)s
    WHERE turn_id = ANY(%(turn_ids)s) AND status = 'pending'
    RETURNING id, instance_id
)
SELECT id, instance_id, true AS is_approval FROM approvals UNION ALL SELECT id, instance_id, false FROM waits

-- name: lock_session_of_turn
SELECT s.id, s.event_seq_floor, s.event_seq_ceiling, s.incarnation FROM sessions s
WHERE s.id = (SELECT session_id FROM turns WHERE id = %(turn_id)s)
FOR NO KEY UPDATE

-- name: finish_turn
-- The statement that closes a turn, and so does it once. What older code stored of it and did not count yet, it counts; what
-- a killed process had reserved for it is free.
WITH closed AS (
    UPDATE turns
    SET status = %(status)s, ended_at = %(now)s, error_code = %(error_code)s, error_detail = %(error_detail)s,
        counted_tokens = input_tokens + output_tokens
    WHERE id = %(turn_id)s AND ended_at IS NULL
    RETURNING id, session_id, requested_by, input_tokens, output_tokens,
              (SELECT o.input_tokens + o.output_tokens - o.counted_tokens FROM turns o WHERE o.id = %(turn_id)s) AS uncounted
), session AS (
    UPDATE sessions SET used_tokens = used_tokens + closed.uncounted
    FROM closed WHERE sessions.id = closed.session_id AND closed.uncounted > 0
), usage AS (
    INSERT INTO token_usage (user_id, day, input_tokens, output_tokens)
    SELECT requested_by, %(day)s, least(input_tokens, uncounted), uncounted - least(input_tokens, uncounted)
    FROM closed WHERE uncounted > 0
    ON CONFLICT (user_id, day) DO UPDATE
    SET reserved = token_usage.reserved - (SELECT closed.id FROM closed),
        input_tokens = token_usage.input_tokens + excluded.input_tokens,
        output_tokens = token_usage.output_tokens + excluded.output_tokens
), freed AS (
    UPDATE token_usage SET reserved = reserved - closed.id
    FROM closed
    WHERE token_usage.user_id = closed.requested_by AND token_usage.day >= %(day)s::date - 1
      AND token_usage.reserved ? closed.id AND closed.uncounted <= 0
)
SELECT id FROM closed

-- name: turn_end
SELECT status, error_code, error_detail, steps, input_tokens, output_tokens, cached_input_tokens, reasoning_tokens, cost_usd,
       finish_reason, coalesce(started_at, created_at) AS began_at,
       ended_at, plan ->> 'agent_id' AS agent_id, plan ->> 'agent_version' AS agent_version, plan ->> 'model' AS model,
       plan ->> 'traceparent' AS traceparent, plan ->> 'correlation_id' AS correlation_id, answered_call(id) AS answers
FROM turns WHERE id = %(turn_id)s

-- name: open_answer
SELECT m.id, m.session_id, m.content, coalesce(m.reasoning, '') AS reasoning, s.event_seq_floor, s.event_seq_ceiling, s.incarnation
FROM messages m JOIN sessions s ON s.id = m.session_id
WHERE m.turn_id = %(turn_id)s AND m.status = 'streaming'

-- name: close_open_messages
-- With what was streamed of it. What its model had read is not known here, so it counts as read from everywhere.
UPDATE messages
SET status = CASE WHEN %(status)s = 'cancelled' THEN 'cancelled' ELSE 'failed' END,
    finish_reason = CASE WHEN %(status)s = 'cancelled' THEN 'cancelled' END,
    content = coalesce(%(content)s, content), words = %(words)s::tsvector,
    reasoning = coalesce(%(reasoning)s, reasoning),
    tokens = coalesce(%(tokens)s, tokens), sources = coalesce(%(sources)s, sources)
WHERE turn_id = %(turn_id)s AND status = 'streaming'

-- name: close_open_tool_calls
-- And what was asked of people for them; the sweep tells those who wait for an answer.
WITH calls AS (
    UPDATE tool_calls
    SET status = 'failed', ended_at = %(now)s, error_code = 'TOOL_EXECUTION_FAILED',
        result = CASE
            WHEN EXISTS (SELECT FROM tool_waits w WHERE w.tool_call_id = tool_calls.id AND w.resumed_at IS NULL)
            THEN '{"error": "The turn ended while this call waited for an answer."}'::jsonb
            WHEN begun_at IS NULL THEN '{"error": "The turn ended before this call ran."}'::jsonb
            ELSE '{"error": "The turn ended while this call ran; its outcome is unknown."}' END
    WHERE turn_id = %(turn_id)s AND ended_at IS NULL
), waits AS (
    UPDATE tool_waits
    SET status = CASE WHEN status = 'pending' THEN 'cancelled' ELSE status END, ended_at = coalesce(ended_at, %(now)s),
        state = NULL, answer = NULL
    WHERE turn_id = %(turn_id)s
)
UPDATE approvals SET status = 'cancelled', decided_at = %(now)s WHERE turn_id = %(turn_id)s AND status = 'pending'

-- name: claim_next_turn
-- Of a session, or of the session of a turn that has just ended. ended_at: only if it ended in this transaction, at that time.
UPDATE turns SET dispatched_at = %(now)s, hub = %(hub)s, quiet_until = %(now)s
WHERE id = (
    SELECT t.id FROM turns t JOIN sessions s ON s.id = t.session_id
    WHERE t.session_id = coalesce(%(session_id)s::text, (
              SELECT session_id FROM turns
              WHERE id = %(turn_id)s::text AND ended_at IS NOT DISTINCT FROM coalesce(%(ended_at)s::timestamptz, ended_at)))
      AND t.ended_at IS NULL AND s.status = 'ACTIVE'
      AND NOT EXISTS (SELECT 1 FROM turns o
                      WHERE o.session_id = t.session_id AND o.ended_at IS NULL AND o.dispatched_at IS NOT NULL)
    ORDER BY t.number LIMIT 1
) AND dispatched_at IS NULL AND ended_at IS NULL -- checked again on the row itself: another may have been faster
RETURNING id

-- name: handed_over
-- The turn that was claimed when this one ended, while nothing of it has begun: whoever claimed it may have been cut before he
-- could start it. A start of one that runs changes nothing.
SELECT n.id FROM turns t JOIN turns n ON n.session_id = t.session_id
WHERE t.id = %(turn_id)s AND n.ended_at IS NULL AND n.dispatched_at IS NOT NULL AND n.started_at IS NULL
  AND n.id <> t.id AND n.hub IS NOT DISTINCT FROM %(hub)s

-- name: turn
SELECT t.*, calls_of(t.id) AS called
FROM turns t
WHERE t.id = %(turn_id)s AND t.session_id = %(session_id)s

-- name: readable_turn
SELECT t.*, s.incarnation, calls_of(t.id) AS called
FROM sessions s LEFT JOIN turns t ON t.id = %(turn_id)s AND t.session_id = s.id
WHERE s.id = %(session_id)s AND (s.owner_id = %(user_id)s OR EXISTS (
    SELECT 1 FROM session_participants p WHERE p.session_id = s.id AND p.user_id = %(user_id)s))

-- name: open_turn
SELECT t.*, s.incarnation,
       coalesce((SELECT jsonb_agg(jsonb_build_object('id', c.id, 'message_id', c.message_id, 'name', c.name,
                                                     'arguments', c.arguments, 'decided_arguments', c.decided_arguments,
                                                     'status', c.status, 'result', c.result, 'is_client', c.is_client)
                                  ORDER BY c.step, c.ordinal)
                 FROM tool_calls c WHERE c.turn_id = t.id), '[]') AS tool_calls
FROM sessions s LEFT JOIN turns t ON t.id = (
    SELECT o.id FROM turns o WHERE o.session_id = s.id AND o.ended_at IS NULL
    ORDER BY o.cancel_requested_at IS NOT NULL, o.number LIMIT 1)
WHERE s.id = %(session_id)s AND (s.owner_id = %(user_id)s OR EXISTS (
    SELECT 1 FROM session_participants p WHERE p.session_id = s.id AND p.user_id = %(user_id)s))

-- name: some_tool_calls
-- Those of its subagents are among them.
SELECT c.id, c.message_id, c.name, c.arguments, c.decided_arguments, c.status, c.result, c.is_client
FROM tool_calls c JOIN turns t ON t.id = c.turn_id
WHERE c.id = ANY (%(ids)s) AND (t.session_id = %(session_id)s OR EXISTS (
    SELECT FROM turns o WHERE o.id = ANY (t.ancestors) AND o.session_id = %(session_id)s))

-- name: turns_to_look_at
-- With the time until which each may be silent: what its newest step may take, and what its calls and the people who are
-- asked may; not before its session was resumed. A turn of an older version has none yet.
-- A process of an older version beside this one writes none while it streams, nor before.
-- Those of this hub, and those that name none: whether they are its own is seen by looking.
SELECT t.id, t.session_id, t.status, t.restarts, running.until AS runs_until, t.hub IS NOT NULL AS names_hub,
       greatest(
           coalesce(t.quiet_until, greatest(t.created_at, t.started_at, t.dispatched_at) + interval '1 hour'), s.hold_told_at,
           root.hold_told_at,
           running.until,
           (SELECT max(c.ended_at) FROM tool_calls c WHERE c.turn_id = t.id),
           (SELECT max(m.created_at) + interval '10 minutes' FROM messages m
            WHERE m.turn_id = t.id AND m.status = 'streaming' AND m.created_at > t.quiet_until),
           (SELECT max(coalesce(a.decided_at, a.expires_at)) FROM approvals a WHERE a.turn_id = t.id),
           (SELECT max(coalesce(w.ended_at, w.expires_at)) FROM tool_waits w WHERE w.turn_id = t.id)
       ) AS quiet_until
FROM turns t JOIN sessions s ON s.id = t.session_id LEFT JOIN sessions root ON root.id = s.root_session_id
CROSS JOIN LATERAL (
    SELECT max(coalesce(w.resumed_at, c.begun_at) + make_interval(secs => (t.plan ->> 'tool_timeout_seconds')::float8)) AS until
    FROM tool_calls c LEFT JOIN tool_waits w ON w.tool_call_id = c.id WHERE c.turn_id = t.id AND c.ended_at IS NULL
) running
WHERE t.ended_at IS NULL AND s.status <> 'SUSPENDED' AND NOT (s.hold_pending AND s.hold_told_at IS NULL)
  AND (root.id IS NULL OR root.status <> 'SUSPENDED' AND NOT (root.hold_pending AND root.hold_told_at IS NULL))
  AND (t.hub = %(hub)s OR t.hub IS NULL)
  AND CASE WHEN %(turn_id)s::text IS NULL
      THEN t.dispatched_at < CASE WHEN t.status IN ('waiting_approval', 'waiting_input') AND t.hub IS NOT NULL THEN %(waiting_before)s::timestamptz
                             ELSE %(running_before)s::timestamptz END
      ELSE t.id = %(turn_id)s AND t.dispatched_at IS NOT NULL END
ORDER BY t.dispatched_at
LIMIT %(limit)s

-- name: queue_passed
-- Whether a turn that became ready then has only to wait for its turn. Ids begin with their time. passed: a turn that was made
-- later has begun. busy: another one runs, and may hold what this one waits for.
SELECT EXISTS (SELECT FROM turns
               WHERE id > %(later_ids)s AND started_at IS NOT NULL AND (hub = %(hub)s OR hub IS NULL)) AS passed,
       EXISTS (SELECT FROM turns
               WHERE ended_at IS NULL AND quiet_until > %(now)s AND status = 'running'
                 AND (hub = %(hub)s OR hub IS NULL)) AS busy

-- name: idle_sessions_with_queue
SELECT DISTINCT t.session_id FROM turns t JOIN sessions s ON s.id = t.session_id
WHERE t.ended_at IS NULL AND t.dispatched_at IS NULL AND t.created_at < %(before)s AND s.status = 'ACTIVE'
  AND NOT EXISTS (SELECT 1 FROM turns o
                  WHERE o.session_id = t.session_id AND o.ended_at IS NULL AND o.dispatched_at IS NOT NULL)
LIMIT %(limit)s

-- name: touch_dispatch
UPDATE turns SET dispatched_at = %(now)s WHERE id = %(turn_id)s AND ended_at IS NULL AND dispatched_at IS NOT NULL

-- name: own_turn
-- A turn that names no hub is this one's.
UPDATE turns SET hub = %(hub)s WHERE id = %(turn_id)s AND hub IS NULL

-- name: calls_that_wait
SELECT id FROM tool_calls c
WHERE turn_id = %(turn_id)s AND (needs_approval OR EXISTS (SELECT FROM tool_waits w WHERE w.tool_call_id = c.id))
ORDER BY step, ordinal

-- name: note_restart
UPDATE turns SET dispatched_at = %(now)s, quiet_until = %(now)s, restarts = restarts + 1
WHERE id = %(turn_id)s AND ended_at IS NULL AND restarts < %(most)s
RETURNING restarts

-- name: forget_restart
UPDATE turns SET restarts = restarts - 1 WHERE id = %(turn_id)s AND restarts > 0
