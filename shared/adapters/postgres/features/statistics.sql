-- A marker tells whether statistics that were computed before still hold. It is made of what every write that counts
-- changes anyway, so writers do nothing for it: each new message and turn moves its session's numbers, and all else
-- that is counted can only change while its turn is open, or, when a turn ended before its approval was decided,
-- together with the number of pending approvals. Open turns are few, and have an index. What a model used is also counted
-- in its session, by the statement that counts it in the turn: that tells of a turn that had ended by then.

-- name: session_marker
SELECT concat_ws(' ', s.updated_at, s.last_message_number, s.last_turn_number, s.used_tokens, s.used_cost_usd,
                 open.marker, (
    SELECT count(*) FROM approvals a WHERE a.session_id = s.id AND a.status = 'pending')) AS marker
FROM sessions s
LEFT JOIN LATERAL (
    SELECT md5(string_agg(concat_ws(' ', t.id, t.status, t.started_at, t.input_tokens, t.output_tokens,
                                    t.cached_input_tokens, t.reasoning_tokens, t.cost_usd, t.finish_reason, calls.marker),
                          ',' ORDER BY t.number)) AS marker
    FROM turns t
    LEFT JOIN LATERAL (
        SELECT string_agg(concat_ws('/', c.status, a.status), ' ' ORDER BY c.step, c.ordinal) AS marker
        FROM tool_calls c LEFT JOIN approvals a ON a.tool_call_id = c.id
        WHERE c.turn_id = t.id
    ) calls ON true
    WHERE t.session_id = s.id AND t.ended_at IS NULL
) open ON true
WHERE s.id = %(session_id)s AND (s.owner_id = %(user_id)s OR EXISTS (
    SELECT 1 FROM session_participants p WHERE p.session_id = s.id AND p.user_id = %(user_id)s))

-- name: period_marker
-- The sums cannot meet an older value by chance: a session that is deleted lowers the count, and whatever raises it or
-- the numbers again is newer than all before. The open turns are joined from the side that has few of them. The caller's
-- days count what other people's sessions used, too; there is a row for each of the last days.
WITH own AS (
    SELECT count(*) AS sessions, max(updated_at) AS newest, sum(last_message_number) AS messages,
           sum(last_turn_number) AS turns, sum(used_tokens) AS tokens, sum(used_cost_usd) AS cost_usd
    FROM sessions WHERE owner_id = %(user_id)s
), open AS (
    SELECT md5(string_agg(concat_ws(' ', t.id, t.status, t.started_at, t.input_tokens, t.output_tokens,
                                    t.cached_input_tokens, t.reasoning_tokens, t.cost_usd, t.finish_reason, calls.marker),
                          ',' ORDER BY t.id)) AS marker
    FROM sessions s
    JOIN turns t ON t.session_id = s.id AND t.ended_at IS NULL
    LEFT JOIN LATERAL (
        SELECT string_agg(concat_ws('/', c.status, a.status), ' ' ORDER BY c.step, c.ordinal) AS marker
        FROM tool_calls c LEFT JOIN approvals a ON a.tool_call_id = c.id
        WHERE c.turn_id = t.id
    ) calls ON true
    WHERE s.owner_id = %(user_id)s
), days AS (
    SELECT md5(string_agg(concat_ws(' ', day, input_tokens, output_tokens, cached_input_tokens, reasoning_tokens, cost_usd),
                          ',' ORDER BY day)) AS marker
    FROM token_usage WHERE user_id = %(user_id)s
)
SELECT concat_ws(' ', own.newest, own.sessions, own.messages, own.turns, own.tokens, own.cost_usd,
                 coalesce(open.marker, '-'), coalesce(days.marker, '-'), (
    SELECT count(*) FROM sessions s JOIN approvals a ON a.session_id = s.id
    WHERE s.owner_id = %(user_id)s AND a.status = 'pending')) AS marker
FROM own, open, days

-- name: session_messages
-- An answer that was cut when its turn was cancelled has no reason of its own.
SELECT role AS kind, coalesce(finish_reason, CASE status WHEN 'cancelled' THEN 'cancelled' END) AS finish_reason,
       count(*) AS number
FROM messages WHERE session_id = %(session_id)s
GROUP BY role, coalesce(finish_reason, CASE status WHEN 'cancelled' THEN 'cancelled' END)

-- name: session_turns
SELECT status AS kind, plan ->> 'model' AS model, count(*) AS number, sum(input_tokens)::bigint AS input_tokens,
       sum(output_tokens)::bigint AS output_tokens, sum(cached_input_tokens)::bigint AS cached_input_tokens,
       sum(reasoning_tokens)::bigint AS reasoning_tokens, sum(cost_usd) AS cost_usd
FROM turns WHERE session_id = %(session_id)s GROUP BY status, plan ->> 'model'

-- name: session_turn_durations
SELECT count(*) AS number, avg(seconds) AS mean, max(seconds) AS longest,
       percentile_cont(ARRAY[0.5, 0.95]) WITHIN GROUP (ORDER BY seconds) AS percentiles
FROM (SELECT extract(epoch FROM ended_at - started_at)::float8 AS seconds FROM turns
      WHERE session_id = %(session_id)s AND ended_at IS NOT NULL AND started_at IS NOT NULL) measured

-- name: session_tool_calls
SELECT c.status AS kind, count(*) AS number
FROM turns t JOIN tool_calls c ON c.turn_id = t.id WHERE t.session_id = %(session_id)s GROUP BY c.status

-- name: session_approvals
SELECT status AS kind, count(*) AS number FROM approvals WHERE session_id = %(session_id)s GROUP BY status

-- name: session_approval_waits
SELECT count(*) AS number, avg(seconds) AS mean, max(seconds) AS longest,
       percentile_cont(ARRAY[0.5, 0.95]) WITHIN GROUP (ORDER BY seconds) AS percentiles
FROM (SELECT extract(epoch FROM decided_at - requested_at)::float8 AS seconds FROM approvals
      WHERE session_id = %(session_id)s AND status IN ('approved', 'rejected')) measured

-- name: period_sessions
SELECT count(*) AS number FROM sessions s
WHERE s.owner_id = %(user_id)s AND s.parent_session_id IS NULL AND s.created_at >= %(since)s AND s.created_at < %(until)s

-- name: period_days
-- Days are UTC. One that begins before the period, or ends after it, is in it.
SELECT day, input_tokens, output_tokens, cached_input_tokens, reasoning_tokens, cost_usd
FROM token_usage
WHERE user_id = %(user_id)s
  AND (day + 1)::timestamp AT TIME ZONE 'UTC' > %(since)s AND day::timestamp AT TIME ZONE 'UTC' < %(until)s
ORDER BY day DESC LIMIT %(days)s

-- name: period_messages
SELECT m.role AS kind, coalesce(m.finish_reason, CASE m.status WHEN 'cancelled' THEN 'cancelled' END) AS finish_reason,
       count(*) AS number
FROM sessions s JOIN messages m ON m.session_id = s.id
WHERE s.owner_id = %(user_id)s AND s.parent_session_id IS NULL AND m.created_at >= %(since)s AND m.created_at < %(until)s
GROUP BY m.role, coalesce(m.finish_reason, CASE m.status WHEN 'cancelled' THEN 'cancelled' END)

-- name: period_turns
-- Those of the user's own questions; what their subagents used is in them.
SELECT t.status AS kind, t.plan ->> 'model' AS model, count(*) AS number, sum(t.input_tokens)::bigint AS input_tokens,
       sum(t.output_tokens)::bigint AS output_tokens, sum(t.cached_input_tokens)::bigint AS cached_input_tokens,
       sum(t.reasoning_tokens)::bigint AS reasoning_tokens, sum(t.cost_usd) AS cost_usd
FROM sessions s JOIN turns t ON t.session_id = s.id
WHERE s.owner_id = %(user_id)s AND s.parent_session_id IS NULL AND t.created_at >= %(since)s AND t.created_at < %(until)s
GROUP BY t.status, t.plan ->> 'model'

-- name: period_turn_durations
SELECT count(*) AS number, avg(seconds) AS mean, max(seconds) AS longest,
       percentile_cont(ARRAY[0.5, 0.95]) WITHIN GROUP (ORDER BY seconds) AS percentiles
FROM (SELECT extract(epoch FROM t.ended_at - t.started_at)::float8 AS seconds
      FROM sessions s JOIN turns t ON t.session_id = s.id
      WHERE s.owner_id = %(user_id)s AND s.parent_session_id IS NULL AND t.created_at >= %(since)s AND t.created_at < %(until)s
        AND t.ended_at IS NOT NULL AND t.started_at IS NOT NULL) measured

-- name: period_tool_calls
SELECT c.status AS kind, count(*) AS number
FROM sessions s JOIN turns t ON t.session_id = s.id JOIN tool_calls c ON c.turn_id = t.id
WHERE s.owner_id = %(user_id)s AND s.parent_session_id IS NULL AND t.created_at >= %(since)s AND t.created_at < %(until)s
GROUP BY c.status

-- name: period_approvals
SELECT a.status AS kind, count(*) AS number
FROM sessions s JOIN approvals a ON a.session_id = s.id
WHERE s.owner_id = %(user_id)s AND a.requested_at >= %(since)s AND a.requested_at < %(until)s
GROUP BY a.status

-- name: period_approval_waits
SELECT count(*) AS number, avg(seconds) AS mean, max(seconds) AS longest,
       percentile_cont(ARRAY[0.5, 0.95]) WITHIN GROUP (ORDER BY seconds) AS percentiles
FROM (SELECT extract(epoch FROM a.decided_at - a.requested_at)::float8 AS seconds
      FROM sessions s JOIN approvals a ON a.session_id = s.id
      WHERE s.owner_id = %(user_id)s AND a.requested_at >= %(since)s AND a.requested_at < %(until)s
        AND a.status IN ('approved', 'rejected')) measured
